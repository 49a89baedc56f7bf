# METADATA
# title: No container runs as root.
# description: >-
#   Looked at are the containers and init containers of every pod spec. `runAsNonRoot: true` or a `runAsUser` other than
#   0 passes, of the container or, where it says nothing, of the pod. So does a pod with its own users
#   (`hostUsers: false`): its root is nobody on the node. Windows pods have no root.
# custom:
#   why: >-
#     where nothing is said the image decides, and most images say root. Root in a container is root on the node once it
#     gets out, may change every file that is mounted, and makes every other hole worse.
#   fix: >-
#     write `securityContext: {runAsNonRoot: true}` for the pod, and a numeric `USER` into the image or `runAsUser: 1000`.
#   podspecs: true
package policies.security.run_as_non_root

import data.releasegate.pods

_exempt(spec) if spec.hostUsers == false

_exempt(spec) if spec.os.name == "windows"

# What holds for a container: its own word, else the pod's.
_says(one, key) := one.container.securityContext[key]

_says(one, key) := _of_pod(one.spec)[key] if not _own(one, key)

_of_pod(spec) := spec.securityContext

# Argo Workflows: what a template does not say the workflow says for all of them.
_of_pod(spec) := input.spec.securityContext if {
	startswith(input.apiVersion, "argoproj.io/")
	not spec.securityContext
	spec != input.spec
}

_of_pod(spec) := input.spec.workflowSpec.securityContext if {
	input.kind == "CronWorkflow"
	not spec.securityContext
}

_own(one, key) if object.get(one.container, ["securityContext", key], null) != null

_never_root(one) if _says(one, "runAsNonRoot") == true

_never_root(one) if _says(one, "runAsUser") > 0

_named(one, key) := sprintf("%s/securityContext/%s", [one.pointer, key]) if _own(one, key)

_named(one, key) := sprintf("%s/securityContext/%s", [regex.replace(one.pointer, `/[^/]+(/\d+)?$`, ""), key]) if {
	not _own(one, key)
}

deny contains finding if {
	some one in pods.containers
	not _exempt(one.spec)
	_says(one, "runAsUser") == 0
	finding := {
		"msg": sprintf("%s %s runs as root (runAsUser: 0)", [one.role, one.name]),
		"pointer": _named(one, "runAsUser"),
		"fix": "write a user other than 0; the files it needs can be given to it with `fsGroup`",
	}
}

# One finding per pod: one edit mends all its containers.
deny contains finding if {
	some pod in pods.specs
	not _exempt(pod.spec)
	open := [sprintf("%s %s", [one.role, one.name]) |
		some one in pods.containers
		one.role != "ephemeral container"
		startswith(one.pointer, sprintf("%s/", [pod.pointer]))
		not _never_root(one)
		not _says(one, "runAsUser") # 0 is found above
	]
	count(open) > 0
	finding := {
		"msg": sprintf("%s may run as root: neither runAsNonRoot nor runAsUser is said", [concat(", ", open)]),
		"pointer": sprintf("%s/securityContext", [pod.pointer]),
		"change": sprintf("say runAsNonRoot at %s", [pod.pointer]),
	}
}
