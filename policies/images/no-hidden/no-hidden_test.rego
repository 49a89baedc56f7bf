package policies.images.no_hidden_test

import data.policies.images.no_hidden as policy

_digest := "@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

_pod(container) := {
	"apiVersion": "v1",
	"kind": "Pod",
	"metadata": {"name": "operator"},
	"spec": {"containers": [object.union({"name": "operator", "image": "operator"}, container)]},
}

_args(argument) := found if {
	found := count(policy.deny) with input as _pod({"args": [argument]})
}

_env(name, value) := found if {
	found := count(policy.deny) with input as _pod({"env": [{"name": name, "value": value}]})
}

test_an_image_behind_a_flag_of_any_name if {
	_args("--prometheus-config-reloader=quay.io/prometheus-operator/prometheus-config-reloader:v0.80.0") == 1
	_args("--acme-http01-solver-image=quay.io/jetstack/cert-manager-acmesolver:v1.17.0") == 1
}

test_an_image_that_stands_alone if _args("registry.example:5000/team/tool:1.2") == 1

test_an_image_without_registry_behind_a_flag_named_for_it if {
	_args("--helper-image=busybox:1.36.1") == 1
	_args("--greeting=busybox:1.36.1") == 0
}

test_pinned_passes if {
	_args(sprintf("--helper-image=busybox:1.36.1%s", [_digest])) == 0
	_env("RELATED_IMAGE_SERVER", sprintf("quay.io/acme/server%s", [_digest])) == 0
}

test_variables if {
	_env("RELATED_IMAGE_SERVER", "quay.io/acme/server:1.0") == 1
	_env("SIDECAR_IMAGE", "acme/sidecar:1.0") == 1
	_env("UPSTREAM", "quay.io/acme/server:1.0") == 1
}

test_what_is_no_image_passes if {
	every value in [
		"https://registry.example/v2/acme:1.0", "example.org:8080", "db.example.org/api", "10.0.0.1:9090", "image.png",
		"images/logo:large:2", "", "arn:aws:iam::1:role/x", "/var/lib/images/a:b",
	] {
		_env("UPSTREAM", value) == 0
	}
	_env("IMAGE_PULL_POLICY", "Always") == 0
	_env("PROXY_IMAGE_URL", "proxy:8080") == 0
	_env("BUCKET_IMAGES", "images-production") == 0
}
