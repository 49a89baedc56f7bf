package policies.security.no_privileged_test

import data.policies.security.no_privileged as policy

_pod(spec) := {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": spec}

_container(context) := _pod({"containers": [{"name": "api", "image": "api", "securityContext": context}]})

test_privileged_is_denied if {
	found := policy.deny with input as _container({"privileged": true})
	some one in found
	one.pointer == "/spec/containers/0/securityContext/privileged"
}

test_an_init_container_counts if {
	spec := {"containers": [], "initContainers": [{"name": "x", "image": "x", "securityContext": {"privileged": true}}]}
	count(policy.deny) == 1 with input as _pod(spec)
}

test_privileged_false_passes if {
	count(policy.deny) == 0 with input as _container({"privileged": false})
}

test_sys_admin_is_denied_with_and_without_prefix if {
	caps := {"capabilities": {"add": ["CAP_SYS_ADMIN", "sys_admin", "NET_BIND_SERVICE"]}}
	count(policy.deny) == 2 with input as _container(caps)
}

test_each_host_namespace_is_denied if {
	spec := {"containers": [], "hostNetwork": true, "hostPID": true, "hostIPC": false}
	count(policy.deny) == 2 with input as _pod(spec)
}

test_a_rollout_has_a_pod_spec_too if {
	spec := {"template": {"spec": {"hostPID": true, "containers": [{"name": "a", "image": "a"}]}}}
	rollout := {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "a"}, "spec": spec}
	found := policy.deny with input as rollout
	some one in found
	one.pointer == "/spec/template/spec/hostPID"
}
