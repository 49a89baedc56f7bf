# METADATA
# title: Every container requests CPU and memory and has a limit for its memory.
# description: >-
#   Looked at are the containers and init containers of every pod spec. A limit counts as a request, as in Kubernetes,
#   and resources of the whole pod (`spec.resources`) count for each of its containers. A limit for CPU is not asked
#   for: it slows a container down even where the node has CPU to spare.
# custom:
#   why: >-
#     the scheduler places pods by their requests: without them it fills a node until everything on it is slow, and such
#     pods are the first to be evicted. A container that leaks memory without a limit takes the node down with it.
#   fix: >-
#     write `resources: {requests: {cpu: …, memory: …}, limits: {memory: …}}`, with what the container really uses
#     (`kubectl top pod`, or the 95th percentile of container_memory_working_set_bytes).
#   podspecs: true
package policies.workloads.resources

import data.releasegate.pods

_wanted := {
	"requests.cpu": [["requests", "cpu"], ["limits", "cpu"]],
	"requests.memory": [["requests", "memory"], ["limits", "memory"]],
	"limits.memory": [["limits", "memory"]],
}

deny contains finding if {
	some one in pods.containers
	one.role != "ephemeral container" # may not have any
	missing := sort([what |
		some what, places in _wanted
		not _has(one, places)
	])
	count(missing) > 0
	finding := {
		"msg": sprintf("%s %s has no %s", [one.role, one.name, concat(", ", missing)]),
		"pointer": sprintf("%s/resources", [one.pointer]),
		"fix": sprintf("write %s under `resources`", [concat(", ", missing)]),
	}
}

_has(one, places) if {
	some holder in [one.container, one.spec]
	some place in places
	not object.get(holder, array.concat(["resources"], place), null) in {null, ""}
}
