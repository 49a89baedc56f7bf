"""Image references, pod specs, images and pointers. Grammar cases: distribution/reference, reference_test.go."""

from __future__ import annotations

import re
from typing import Any

import pytest

from releasegate import k8s
from releasegate.k8s import ImageRef, ImageUse

SHA256 = "sha256:" + "a1" * 32
SHA512 = "sha512:" + "b2" * 64

# --- references ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "tag", "digest"),
    [
        ("nginx", "nginx", None, None),
        ("nginx:1.27", "nginx", "1.27", None),
        (f"nginx@{SHA256}", "nginx", None, SHA256),
        (f"nginx:1.27@{SHA256}", "nginx", "1.27", SHA256),
        (f"nginx@{SHA512}", "nginx", None, SHA512),
        ("a1" * 32 + ":1", "a1" * 32, "1", None),
        ("library/nginx:_x", "library/nginx", "_x", None),
        ("registry:5000/app", "registry:5000/app", None, None),
        ("registry:5000/app:5000", "registry:5000/app", "5000", None),
        ("localhost/x", "localhost/x", None, None),
        ("REGISTRY.example/team/app:V1", "REGISTRY.example/team/app", "V1", None),
        ("Host/app", "Host/app", None, None),
        ("[2001:db8::1]:5000/app:1", "[2001:db8::1]:5000/app", "1", None),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", None, None),
        ("quay.io/a__b/c--d/e.f_g:1", "quay.io/a__b/c--d/e.f_g", "1", None),
        ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage", "xn--n3h.com", None),
        (f"a:{'t' * 128}", "a", "t" * 128, None),
        (f"registry.example/{'a' * 255}", f"registry.example/{'a' * 255}", None, None),
        (f"{'a' * 200}.example/{'a' * 200}:1", f"{'a' * 200}.example/{'a' * 200}", "1", None),
    ],
)
def test_a_reference_is_taken_apart(text: str, name: str, tag: str | None, digest: str | None) -> None:
    ref = ImageRef.parse(text)
    assert (ref.name, ref.tag, ref.digest) == (name, tag, digest)
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("repo:", "tag is empty"),
        ("repo@", "digest is empty"),
        (f"repo:@{SHA256}", "tag is empty"),
        (":1", "name is empty"),
        (f"@{SHA256}", "name is empty"),
        ("repo:<no value>", "<no value>"),
        ("<no value>:1", "<no value>"),
        ("repo:%!s(<nil>)", "<nil>"),
        ("repo:%!d(string=x)", "printf"),
        ("repo:{{ .Values.tag }}", "not rendered"),
        ("repo:${TAG}", "nothing replaced"),
        ("repo :1", "white space"),
        (" repo:1", "white space"),
        ("repo:1\n", "white space"),
        ('"repo:1"', "quotes"),
        ("https://registry.example/app:1", "URL"),
        ("registry.example/App:1", "upper-case"),
        ("App", "upper-case"),
        ("aa/asdf$$^/aa", "malformed"),
        ("a//b", "malformed"),
        ("-a/b", "malformed"),
        ("a-", "malformed"),
        ("a___b", "malformed"),
        ("[fe80::1%eth0]:5000/a", "malformed"),
        ("repo:a:b", "malformed"),
        ("repo:.x", "malformed"),
        ("repo:1+2", "malformed"),
        (f"repo:{'t' * 129}", "128"),
        (f"registry.example/{'a' * 256}", "255"),
        ("a" * 248, "255"),
        ("a1" * 32, "image id"),
        (f"repo@{'a1' * 32}", "sha256: is missing"),
        ("repo@latest", "sha256: is missing"),
        (f"repo@md5:{'a1' * 16}", "unknown"),
        (f"repo@SHA256:{'a1' * 32}", "unknown"),
        ("repo@sha256:", "0 are there"),
        ("repo@sha256:abc", "3 are there"),
        (f"repo@sha256:{'a1' * 32}0", "65 are there"),
        (f"repo@sha256:{'A1' * 32}", "upper-case"),
        (f"repo@sha256:{'g1' * 32}", "hexadecimal"),
        (f"repo@sha512:{'a1' * 32}", "128 hexadecimal"),
        (f"repo@{SHA256}@{SHA256}", "hexadecimal"),
        (f"repo:1 # {SHA256}", "white space"),
        ("repo:\u0661", "ASCII"),
        ("r\u0435po:1", "ASCII"),  # a Cyrillic letter
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        ImageRef.parse(text)


# --- pointers -----------------------------------------------------------------------------------------------------


def test_pointers_are_escaped_joined_and_resolved() -> None:
    value = {"a/b": {"~": [{"c": 1}]}, "": 0}
    pointer = k8s.join("", "a/b", "~", 0, "c")
    assert pointer == "/a~1b/~0/0/c"
    assert k8s.resolve(value, pointer) == 1
    assert k8s.resolve(value, "") is value
    assert k8s.resolve(value, "/") == 0
    assert k8s.split(pointer) == ["a/b", "~", "0", "c"]


@pytest.mark.parametrize(
    "pointer", ["/b", "/a~1b/~0/1", "/a~1b/~0/00", "/a~1b/~0/-1", "/a~1b/~0/x", "/a~1b/~0/0/c/d", "b"]
)
def test_what_is_not_there_is_a_key_error(pointer: str) -> None:
    with pytest.raises(KeyError):
        k8s.resolve({"a/b": {"~": [{"c": 1}]}}, pointer)


# --- objects ------------------------------------------------------------------------------------------------------


def test_lists_are_expanded_with_their_pointers() -> None:
    a, b = {"kind": "A"}, {"kind": "B"}
    body = {"kind": "List", "items": [a, {"kind": "BList", "items": [b]}]}
    assert k8s.expand_lists(body) == [("/items/0", a), ("/items/1/items/0", b)]
    assert k8s.expand_lists({"kind": "List", "items": None}) == []
    assert k8s.expand_lists({"kind": "List", "items": []}) == []


@pytest.mark.parametrize(
    "body",
    [{"kind": "A"}, {"kind": "List"}, {"kind": "List", "items": [1]}, {"kind": "List", "items": "x"}, {"kind": 3}],
)
def test_what_is_no_list_of_objects_is_never_dropped(body: dict[str, Any]) -> None:
    assert k8s.expand_lists(body) == [("", body)]


def test_identity_knows_scope_and_default_namespace() -> None:
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
    assert k8s.identity(body, "prod", True) == ("apps", "Deployment", "prod", "a")
    assert k8s.identity(body, "prod", None) == ("apps", "Deployment", "prod", "a")
    assert k8s.identity(body, "prod", False) == ("apps", "Deployment", None, "a")
    written = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-", "namespace": "x"}}
    assert k8s.identity(written, "prod", True) == ("", "Pod", "x", "")
    assert k8s.identity({"kind": "Pod", "metadata": 3}, "prod", True) == ("", "Pod", "prod", "")


# --- pod specs and images -----------------------------------------------------------------------------------------

POD: dict[str, Any] = {
    "containers": [{"name": "app", "image": "app:1"}],
    "initContainers": [
        {"name": "init", "image": "init:1"},
        {"name": "side", "image": "side:1", "restartPolicy": "Always"},
    ],
    "ephemeralContainers": [{"name": "debug", "image": "debug:1"}],
    "volumes": [
        {"name": "data", "emptyDir": {}},
        {"name": "model", "image": {"reference": "model:1", "pullPolicy": "Always"}},
    ],
}


def at(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.strip("/").split("/")):
        value = [value] if name == "0" else {name: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("api_version", "kind", "path"),
    [
        ("v1", "Pod", "/spec"),
        ("v1", "PodTemplate", "/template/spec"),
        ("v1", "ReplicationController", "/spec/template/spec"),
        ("apps/v1", "Deployment", "/spec/template/spec"),
        ("extensions/v1beta1", "Deployment", "/spec/template/spec"),
        ("apps/v1", "ReplicaSet", "/spec/template/spec"),
        ("apps/v1", "StatefulSet", "/spec/template/spec"),
        ("apps/v1", "DaemonSet", "/spec/template/spec"),
        ("batch/v1", "Job", "/spec/template/spec"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template/spec"),
        ("argoproj.io/v1alpha1", "Rollout", "/spec/template/spec"),
        ("argoproj.io/v1alpha1", "AnalysisTemplate", "/spec/metrics/0/provider/job/spec/template/spec"),
        ("serving.knative.dev/v1", "Service", "/spec/template/spec"),
        ("keda.sh/v1alpha1", "ScaledJob", "/spec/jobTargetRef/template/spec"),
        ("example.org/v1", "Nobody", "/spec/deep/0/inside"),
    ],
)
def test_every_image_of_every_pod_spec_is_found(api_version: str, kind: str, path: str) -> None:
    body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **at(path, POD)}
    assert [pointer for pointer, _ in k8s.pod_specs(body)] == [path]
    found = k8s.images(body, {})
    assert found == [
        ImageUse(f"{path}/containers/0/image", "app:1", "app", "container"),
        ImageUse(f"{path}/initContainers/0/image", "init:1", "init", "initContainer"),
        ImageUse(f"{path}/initContainers/1/image", "side:1", "side", "initContainer"),
        ImageUse(f"{path}/ephemeralContainers/0/image", "debug:1", "debug", "ephemeralContainer"),
        ImageUse(f"{path}/volumes/1/image/reference", "model:1", "model", "volume"),
    ]
    for use in found:
        assert k8s.resolve(body, use.pointer) == use.text


def test_argo_workflow_templates_hold_single_containers() -> None:
    templates = [
        {"name": "a", "container": {"image": "a:1"}, "sidecars": [{"name": "s", "image": "s:1"}]},
        {"name": "b", "script": {"image": "b:1", "source": "x"}},
        {"name": "c", "containerSet": {"containers": [{"name": "m", "image": "m:1"}]}},
    ]
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "spec": {"workflowSpec": {"templates": templates}},
    }
    start = "/spec/workflowSpec/templates"
    assert {use.pointer: use.text for use in k8s.images(body, {})} == {
        f"{start}/0/container/image": "a:1",
        f"{start}/0/sidecars/0/image": "s:1",
        f"{start}/1/script/image": "b:1",
        f"{start}/2/containerSet/containers/0/image": "m:1",
    }
    assert [use.container for use in k8s.images(body, {})] == ["s", "a", "b", "m"]


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("argoproj.io/v1alpha1", "Application"),
        ("argoproj.io/v1alpha1", "ApplicationSet"),
        ("kyverno.io/v1", "ClusterPolicy"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("v1", "ConfigMap"),
    ],
)
def test_objects_about_other_objects_hold_no_pod_spec(api_version: str, kind: str) -> None:
    """Values of an Application are judged where they render; a policy's pattern `image: "!*:latest"` is no image."""
    body = {"apiVersion": api_version, "kind": kind, "spec": {"values": POD}}
    assert list(k8s.pod_specs(body)) == []
    assert k8s.images(body, {}) == []


def test_fields_of_custom_resources_are_read_by_pointer() -> None:
    body = {
        "apiVersion": "example.org/v1",
        "kind": "Farm",
        "spec": {
            "image": "a:1",
            "tools": [{"image": "b:1"}, {"other": 1}, {"image": None}],
            "byName": {"x": {"image": "c:1"}},
        },
    }
    fields = {
        "Farm": ("/spec/image", "/spec/tools/*/image", "/spec/byName/*/image", "/spec/nobody"),
        "Other": ("/kind",),
    }
    assert [(use.pointer, use.text, use.role) for use in k8s.images(body, fields)] == [
        ("/spec/image", "a:1", "field"),
        ("/spec/tools/0/image", "b:1", "field"),
        ("/spec/tools/2/image", "", "field"),
        ("/spec/byName/x/image", "c:1", "field"),
    ]


def test_the_documented_image_fields_need_no_config() -> None:
    """A Prometheus has its own image besides the containers it patches, which may have none."""
    body = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Prometheus",
        "spec": {
            "image": "prom:1", "thanos": {"image": "thanos:1"},
            "containers": [{"name": "prometheus"}, {"name": "proxy", "image": "proxy:1"}],
        },
    }  # fmt: skip
    assert {use.pointer: use.role for use in k8s.images(body, {"Prometheus": ["/spec/image"]})} == {
        "/spec/containers/1/image": "container",
        "/spec/image": "field",
        "/spec/thanos/image": "field",
    }
    assert k8s.images({**body, "apiVersion": "example.org/v1", "spec": {"image": "x"}}, {}) == []


@pytest.mark.parametrize(("image", "text"), [(None, ""), (1.5, "1.5"), (12, "12"), (True, "true"), ("", "")])
def test_an_image_that_is_no_string_is_still_a_subject(image: Any, text: str) -> None:
    body = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": image}]}}
    assert k8s.images(body, {}) == [ImageUse("/spec/containers/0/image", text, None, "container")]


@pytest.mark.parametrize(
    "junk", [None, 3, "x", [], {}, [1], [[]], [None], {"containers": 3}, {"containers": [1, {}]}, [{"x": 1}]]
)
def test_junk_where_a_pod_spec_belongs_is_no_crash(junk: Any) -> None:
    for kind in ("Pod", "Deployment", "CronJob", 3, None):
        assert k8s.images({"apiVersion": "apps/v1", "kind": kind, "spec": junk}, {}) == []
        assert k8s.images({"apiVersion": 4, "kind": kind, "spec": {"template": {"spec": junk}}}, {}) == []
        body = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": junk, "volumes": junk}}
        assert k8s.images(body, {"Pod": ["/spec/*/nobody"]}) == []
