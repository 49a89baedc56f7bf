package policies.security.run_as_non_root_test

import data.policies.security.run_as_non_root as policy

_pod(container, more) := {
	"apiVersion": "v1",
	"kind": "Pod",
	"metadata": {"name": "api"},
	"spec": object.union({"containers": [object.union({"name": "api", "image": "api"}, container)]}, more),
}

_found(pod) := {one.pointer | some one in found} if {
	found := policy.deny with input as pod
}

test_nothing_said_is_denied_once_for_the_pod if {
	more := {"initContainers": [{"name": "init", "image": "init"}]}
	_found(_pod({}, more)) == {"/spec/securityContext"}
}

test_non_root_of_the_pod_is_enough if _found(_pod({}, {"securityContext": {"runAsNonRoot": true}})) == set()

test_non_root_of_the_container_is_enough if _found(_pod({"securityContext": {"runAsNonRoot": true}}, {})) == set()

test_a_user_is_enough if _found(_pod({}, {"securityContext": {"runAsUser": 1001}})) == set()

test_the_container_has_the_last_word if {
	pod := _pod({"securityContext": {"runAsNonRoot": false}}, {"securityContext": {"runAsNonRoot": true}})
	_found(pod) == {"/spec/securityContext"}
}

test_user_0_of_the_container_is_root if {
	pod := _pod({"securityContext": {"runAsUser": 0}}, {"securityContext": {"runAsUser": 1000}})
	_found(pod) == {"/spec/containers/0/securityContext/runAsUser"}
}

test_user_0_of_the_pod_is_root if {
	_found(_pod({}, {"securityContext": {"runAsUser": 0}})) == {"/spec/securityContext/runAsUser"}
}

test_a_pod_with_its_own_users_passes if _found(_pod({}, {"hostUsers": false})) == set()

test_windows_has_no_root if _found(_pod({}, {"os": {"name": "windows"}})) == set()

_workflow(spec) := {
	"apiVersion": "argoproj.io/v1alpha1",
	"kind": "WorkflowTemplate",
	"metadata": {"name": "w"},
	"spec": object.union({"templates": [{"name": "step", "container": {"image": "step"}}]}, spec),
}

test_a_template_of_a_workflow if _found(_workflow({})) == {"/spec/templates/0/securityContext"}

test_what_the_workflow_says_holds_for_its_templates if {
	_found(_workflow({"securityContext": {"runAsNonRoot": true}})) == set()
}
