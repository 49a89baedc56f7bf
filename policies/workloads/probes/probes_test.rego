package policies.workloads.probes_test

import data.policies.workloads.probes as policy

_deployment(container) := {
	"apiVersion": "apps/v1",
	"kind": "Deployment",
	"metadata": {"name": "api"},
	"spec": {"template": {"spec": {"containers": [object.union({"name": "api", "image": "api"}, container)]}}},
}

_ports := [{"name": "http", "containerPort": 8080}]

_probe := {"httpGet": {"path": "/healthz", "port": "http"}}

test_a_container_that_listens_needs_a_readiness_probe if {
	found := policy.deny with input as _deployment({"ports": _ports, "livenessProbe": _probe})
	{one.msg | some one in found} == {"container api listens on http and has no readinessProbe"}
}

test_with_a_readiness_probe_it_passes if {
	count(policy.deny) == 0 with input as _deployment({"ports": _ports, "readinessProbe": _probe})
}

test_a_worker_without_ports_needs_none if {
	count(policy.deny) == 0 with input as _deployment({})
	count(policy.deny) == 0 with input as _deployment({"ports": []})
	count(policy.deny) == 0 with input as _deployment({"ports": [{"name": "metrics", "containerPort": 9394}]})
}

test_a_port_without_name_is_told_by_number if {
	found := policy.deny with input as _deployment({"ports": [{"containerPort": 9000}]})
	{one.msg | some one in found} == {"container api listens on 9000 and has no readinessProbe"}
}

_late := object.union(_probe, {"initialDelaySeconds": 60})

test_a_liveness_probe_that_kills_before_the_first_question_is_denied if {
	count(policy.deny) == 1 with input as _deployment({"livenessProbe": _probe, "readinessProbe": _late})
}

test_a_startup_probe_holds_the_liveness_probe_back if {
	container := {"livenessProbe": _probe, "readinessProbe": _late, "startupProbe": _probe}
	count(policy.deny) == 0 with input as _deployment(container)
}

test_a_patient_liveness_probe_passes if {
	container := {"livenessProbe": _late, "readinessProbe": _late}
	count(policy.deny) == 0 with input as _deployment(container)
}
