package policies.workloads.resources_test

import data.policies.workloads.resources as policy

_full := {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}

_pod(container, more) := {
	"apiVersion": "v1",
	"kind": "Pod",
	"metadata": {"name": "api"},
	"spec": object.union({"containers": [object.union({"name": "api", "image": "api"}, container)]}, more),
}

_messages(pod) := {one.msg | some one in found} if {
	found := policy.deny with input as pod
}

test_requests_and_a_memory_limit_pass if _messages(_pod({"resources": _full}, {})) == set()

test_nothing_is_denied_once_with_all_that_is_missing if {
	_messages(_pod({}, {})) == {"container api has no limits.memory, requests.cpu, requests.memory"}
}

test_empty_resources_are_none if count(_messages(_pod({"resources": {}}, {}))) == 1

test_a_limit_counts_as_a_request if {
	_messages(_pod({"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}, {})) == set()
}

test_a_request_is_no_limit if {
	_messages(_pod({"resources": {"requests": _full.requests}}, {})) == {"container api has no limits.memory"}
}

test_resources_of_the_pod_count if _messages(_pod({}, {"resources": _full})) == set()

test_init_containers_count if {
	more := {"initContainers": [{"name": "migrate", "image": "api"}]}
	some message in _messages(_pod({"resources": _full}, more))
	startswith(message, "init container migrate")
}

test_ephemeral_containers_may_have_none if {
	_messages(_pod({"resources": _full}, {"ephemeralContainers": [{"name": "debug", "image": "debug"}]})) == set()
}
