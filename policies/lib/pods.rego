# The pod specs and containers of any object, each with its JSON pointer: `import data.releasegate.pods`.
package releasegate.pods

_template := ["spec", "template", "spec"]

_places := {
	"Pod": ["spec"],
	"PodTemplate": ["template", "spec"],
	"ReplicationController": _template,
	"DaemonSet": _template,
	"Deployment": _template,
	"ReplicaSet": _template,
	"StatefulSet": _template,
	"Job": _template,
	"CronJob": ["spec", "jobTemplate", "spec", "template", "spec"],
}

_roles := {
	"containers": "container",
	"initContainers": "init container",
	"ephemeralContainers": "ephemeral container",
	"sidecars": "container",
}

# pointer(["spec", "a/b", 0]) is "/spec/a~1b/0".
pointer(path) := concat("", [sprintf("/%s", [_token(key)]) | some key in path])

_token(key) := replace(replace(key, "~", "~0"), "/", "~1") if is_string(key)

_token(key) := sprintf("%d", [key]) if is_number(key)

# [{"pointer": "/spec/template/spec", "spec": {…}}]
specs := [{"pointer": pointer(_places[input.kind]), "spec": spec} |
	spec := object.get(input, _places[input.kind], null)
	is_object(spec)
] if {
	_places[input.kind]
} else := [{"pointer": pointer(path), "spec": value} |
	# A Rollout, a Knative Service, a resource nobody here knows: what holds a list of containers is a pod spec.
	some path, value
	walk(input, [path, value])
	_is_spec(value)
]

_is_spec(value) if {
	some key, _ in _roles
	is_array(value[key])
	some container in value[key]
	_is_container(container)
}

# Argo Workflows: one container per template.
_is_spec(value) if {
	some key in {"container", "script"}
	value[key].image
}

_is_container(value) if value.image

_is_container(value) if is_string(value.name)

# [{"pointer": "/spec/containers/0", "container": {…}, "role": "init container", "name": "migrate", "spec": {…}}]
containers := array.concat(
	[{
		"pointer": sprintf("%s/%s/%d", [one.pointer, key, index]),
		"container": container,
		"role": role,
		"name": _name(container),
		"spec": one.spec,
	} |
		some one in specs
		some key, role in _roles
		is_array(one.spec[key])
		some index, container in one.spec[key]
		is_object(container)
	],
	[{
		"pointer": sprintf("%s/%s", [one.pointer, key]),
		"container": container,
		"role": "container",
		"name": _name(object.union({"name": _name(one.spec)}, container)),
		"spec": one.spec,
	} |
		some one in specs
		some key in ["container", "script"]
		container := one.spec[key]
		container.image
	],
)

_name(value) := value.name if is_string(value.name)

_name(value) := "without name" if not is_string(value.name)
