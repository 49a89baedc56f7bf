# METADATA
# title: Every container that listens has a readiness probe.
# description: >-
#   Looked at are the containers of long-running workloads; one that lists `ports` is taken to listen, unless all of them
#   are named for metrics. Jobs and init containers need no probe. A liveness probe is not asked for (a process that exits is restarted without one), but one
#   that restarts a container before it can have started is found.
# custom:
#   why: >-
#     without a readiness probe a pod counts as ready the moment its process starts. A rollout then replaces every old pod
#     by one that may not answer, and Services send requests to it: the bad release goes out completely, and green.
#   fix: >-
#     write a `readinessProbe` that asks what the container serves, such as `httpGet: {path: /healthz, port: http}`.
#   kinds: [Deployment, StatefulSet, DaemonSet, ReplicaSet, Rollout]
package policies.workloads.probes

import data.releasegate.pods

_sidecar(one) if {
	one.role == "init container"
	one.container.restartPolicy == "Always"
}

_runs(one) if one.role == "container"

_runs(one) if _sidecar(one)

deny contains finding if {
	some one in pods.containers
	one.role == "container"
	some port in one.container.ports
	not regex.match(`(?i)metric|prom`, object.get(port, "name", ""))
	not one.container.readinessProbe
	finding := {
		"msg": sprintf("%s %s listens on %s and has no readinessProbe", [one.role, one.name, _ports(one.container)]),
		"pointer": sprintf("%s/readinessProbe", [one.pointer]),
	}
}

# Killed after initialDelaySeconds + failureThreshold * periodSeconds, where the same question says when it is ready.
deny contains finding if {
	some one in pods.containers
	_runs(one)
	liveness := one.container.livenessProbe
	readiness := one.container.readinessProbe
	not one.container.startupProbe
	_patience(liveness) < object.get(readiness, "initialDelaySeconds", 0)
	finding := {
		"msg": sprintf(
			"the livenessProbe of %s %s kills it after %d s, before its readinessProbe first asks",
			[one.role, one.name, _patience(liveness)],
		),
		"pointer": sprintf("%s/livenessProbe", [one.pointer]),
		"fix": "write a `startupProbe`, or a longer `initialDelaySeconds` of the livenessProbe",
	}
}

_patience(probe) := object.get(probe, "initialDelaySeconds", 0) + (object.get(probe, "failureThreshold", 3) * object.get(probe, "periodSeconds", 10))

_ports(container) := concat(", ", [sprintf("%v", [object.get(port, "name", object.get(port, "containerPort", "?"))]) |
	some port in container.ports
])
