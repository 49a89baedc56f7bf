# METADATA
# title: No container is privileged, and no pod shares the namespaces of its node.
# description: >-
#   Looked at are the containers and init containers of every pod spec: `privileged`, capabilities that amount to it
#   (`SYS_ADMIN`, `ALL`, …), `hostNetwork`, `hostPID` and `hostIPC`.
# custom:
#   why: >-
#     a privileged container is root on its node: whoever breaks into it reads the Secrets of all pods there and the
#     kubelet's credentials. One that shares the node's network reaches what listens on localhost only, and one that
#     shares its processes reads their environments.
#   fix: >-
#     take `privileged`, `hostNetwork`, `hostPID`, `hostIPC` out and add only the capability that is needed, such as
#     `NET_BIND_SERVICE`. Node agents (CNI, storage drivers, node exporters) need them: waive those by name.
#   podspecs: true
package policies.security.no_privileged

import data.releasegate.pods

# What a container may do with these is what a privileged one may do.
_as_good_as_root := {"ALL", "BPF", "DAC_READ_SEARCH", "NET_ADMIN", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"}

deny contains finding if {
	some one in pods.containers
	one.container.securityContext.privileged == true
	finding := {
		"msg": sprintf("%s %s is privileged: it is root on its node", [one.role, one.name]),
		"pointer": sprintf("%s/securityContext/privileged", [one.pointer]),
		"fix": "take `privileged: true` out; add the one capability that is needed under `capabilities.add`",
	}
}

deny contains finding if {
	some one in pods.containers
	some index, capability in one.container.securityContext.capabilities.add
	trim_prefix(upper(capability), "CAP_") in _as_good_as_root
	finding := {
		"msg": sprintf("%s %s gets the capability %s, which is nearly as much as privileged", [one.role, one.name, capability]),
		"pointer": sprintf("%s/securityContext/capabilities/add/%d", [one.pointer, index]),
		"fix": sprintf("take %s out of `capabilities.add`", [capability]),
	}
}

deny contains finding if {
	some one in pods.specs
	some field, what in {"hostNetwork": "network", "hostPID": "processes", "hostIPC": "shared memory"}
	one.spec[field] == true
	finding := {
		"msg": sprintf("the pod shares the %s of its node (%s)", [what, field]),
		"pointer": sprintf("%s/%s", [one.pointer, field]),
		"fix": sprintf("take `%s: true` out", [field]),
	}
}
