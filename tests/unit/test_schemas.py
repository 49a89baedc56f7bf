"""releasegate.schemas: what is said about a manifest, where schemas come from, and that nothing is opened."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from releasegate.model import Manifest
from releasegate.schemas import LocationError, MissingSchema, Problem, Schemas, available
from releasegate.schemas.engine import SchemaError, compile_schema, is_byte, is_duration
from releasegate.schemas.patterns import from_go


def manifest(text: str | dict[str, Any]) -> Manifest:
    body = yaml.safe_load(text) if isinstance(text, str) else text
    return Manifest(body=body, text=text if isinstance(text, str) else "")


def problems(text: str | dict[str, Any], schemas: Schemas | None = None) -> tuple[Problem, ...]:
    found = (schemas or Schemas.load("1.37")).problems(manifest(text))
    assert not isinstance(found, MissingSchema), found
    return found


def missing(text: str | dict[str, Any], schemas: Schemas | None = None) -> MissingSchema:
    found = (schemas or Schemas.load("1.37")).problems(manifest(text))
    assert isinstance(found, MissingSchema), found
    return found


def pod(spec: str) -> str:
    return f"{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: a, {spec}}}]}}}}"


# --- versions ---------------------------------------------------------------------------------------------------------


def test_bundles_ship_for_the_four_newest_versions() -> None:
    assert available() == ("1.34", "1.35", "1.36", "1.37")


@pytest.mark.parametrize("version", ["1.36", "v1.36", "1.36.3", "v1.36.0-rc.1"])
def test_a_patch_number_is_ignored(version: str) -> None:
    assert Schemas.load(version).version == "1.36"


def test_a_version_without_bundle_is_refused_and_those_there_are_named() -> None:
    with pytest.raises(LookupError, match=r"no schemas for Kubernetes 1\.30; there are 1\.34, 1\.35, 1\.36, 1\.37"):
        Schemas.load("1.30")


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match="'latest' is not a Kubernetes version"):
        Schemas.load("latest")


def test_making_schemas_again_costs_no_time() -> None:
    Schemas.load("1.37").problems(manifest(pod("image: a")))
    began = time.perf_counter()
    for _ in range(100):
        Schemas.load("1.37")
    assert time.perf_counter() - began < 0.1


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "pointer", "message", "help_"),
    [
        (
            "image: a, imagePullPolcy: Always",
            "/spec/containers/0/imagePullPolcy",
            "unknown field imagePullPolcy; did you mean imagePullPolicy?",
            "write imagePullPolicy instead of imagePullPolcy",
        ),
        (
            "image: a, imagepullpolicy: Always",
            "/spec/containers/0/imagepullpolicy",
            "unknown field imagepullpolicy; did you mean imagePullPolicy?",
            "write imagePullPolicy instead of imagepullpolicy",
        ),
        (
            "image: a, httpGet: {port: 80}",
            "/spec/containers/0/httpGet",
            "unknown field httpGet; it is a field of spec.containers[0].livenessProbe or spec.containers[0].readinessProbe or spec.containers[0].startupProbe",
            None,
        ),
        (
            "image: a, nodeSelector: {a: b}",
            "/spec/containers/0/nodeSelector",
            "unknown field nodeSelector; it is a field of spec",
            "move nodeSelector to spec: the indentation is wrong",
        ),
        (
            "image: a, zzz: 1",
            "/spec/containers/0/zzz",
            "unknown field zzz",
            "remove zzz",
        ),
        (
            "image: 3",
            "/spec/containers/0/image",
            "expected string or null, got integer 3",
            'write "3" in quotes; in a template pipe it through `quote`',
        ),
        (
            'tty: "true"',
            "/spec/containers/0/tty",
            'expected boolean or null, got string "true"',
            "write true without quotes",
        ),
        (
            "args: run",
            "/spec/containers/0/args",
            'expected array or null, got string "run"',
            'write a list below args: begin each entry with "- "',
        ),
        (
            "resources: [a]",
            "/spec/containers/0/resources",
            "expected object or null, got array",
            'write fields below resources, without "- "',
        ),
        (
            "ports: [{containerPort: null}]",
            "/spec/containers/0/ports/0/containerPort",
            "expected integer, got null",
            "give containerPort a value, or remove it",
        ),
        (
            "ports: [{containerPort: 8080.5}]",
            "/spec/containers/0/ports/0/containerPort",
            "expected integer, got number 8080.5",
            "write a whole number",
        ),
        (
            "ports: [{containerPort: 4294967296}]",
            "/spec/containers/0/ports/0/containerPort",
            "4294967296 is out of the range of int32",
            "write a number from -2147483648 to 2147483647",
        ),
        (
            "imagePullPolicy: Allways",
            "/spec/containers/0/imagePullPolicy",
            '"Allways" is not one of Always, IfNotPresent, Never; did you mean Always?',
            "write Always",
        ),
        (
            "livenessProbe: {httpGet: {port: [80]}}",
            "/spec/containers/0/livenessProbe/httpGet/port",
            "expected integer or string, got array",
            "write an integer or string",
        ),
        (
            "resources: {limits: {memory: 128 MB}}",
            "/spec/containers/0/resources/limits/memory",
            '"128 MB" is not a quantity',
            "write a number with an optional unit: 500m, 1.5, 128Mi, 1Gi",
        ),
        (
            "volumeMounts: [{name: a}]",
            "/spec/containers/0/volumeMounts/0",
            "missing required field mountPath",
            "write mountPath here",
        ),
    ],
)
def test_a_fault_is_told_in_one_sentence_at_its_exact_place(
    spec: str, pointer: str, message: str, help_: str | None
) -> None:
    (found,) = problems(pod(spec))
    assert (found.pointer, found.message) == (pointer, message)
    assert help_ is None or found.help == help_
    assert found.change


def test_all_three_faults_of_one_deployment_are_told() -> None:
    found = problems(
        """
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: api}
        spec:
          replicas: "3"
          selector: {matchLabels: {app: api}}
          template:
            metadata: {labels: {app: api}}
            spec:
              containers:
                - {name: api, image: a, imagePullPolcy: Always, ports: [{containerPort: 80a}]}
        """
    )
    assert {(one.pointer, one.message) for one in found} == {
        ("/spec/replicas", 'expected integer or null, got string "3"'),
        (
            "/spec/template/spec/containers/0/imagePullPolcy",
            "unknown field imagePullPolcy; did you mean imagePullPolicy?",
        ),
        ("/spec/template/spec/containers/0/ports/0/containerPort", 'expected integer, got string "80a"'),
    }
    assert next(one for one in found if one.pointer == "/spec/replicas").help == "write 3 without quotes"


def test_equal_faults_at_two_places_ask_for_the_same_change() -> None:
    spec = "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{0}, {1}]}}}}"
    found = problems(spec.format("{name: a, image: 1}", "{name: b, image: 2}"))
    assert {one.pointer for one in found} == {"/spec/containers/0/image", "/spec/containers/1/image"}
    assert len({one.change for one in found}) == 1


def test_slashes_and_tildes_in_keys_are_escaped_in_pointers() -> None:
    (found,) = problems({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"annotations": {"a/b~c": 1}}})
    assert found.pointer == "/metadata/annotations/a~1b~0c"


def test_values_of_a_secret_are_never_shown() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "data": {"a": "hunter2!"},
        "stringData": {"b": 31337},
        "dta": {"c": "d"},
    }
    found = problems(secret)
    assert len(found) == 3
    said = repr(found)
    assert "hunter2" not in said
    assert "31337" not in said
    assert {one.pointer for one in found} == {"/data/a", "/stringData/b", "/dta"}


def test_a_document_without_kind_is_a_finding_not_a_gap() -> None:
    (found,) = problems({"apiVersion": "v1", "metadata": {"name": "a"}})
    assert found.message == "missing required field kind"
    assert [one.pointer for one in problems({"apiVersion": 1, "kind": None})] == ["/apiVersion", "/kind"]


def test_a_key_that_is_no_string_is_a_problem_not_a_crash() -> None:
    (found,) = problems({"apiVersion": "v1", "kind": "ConfigMap", "data": {1: "a"}})
    assert "not representable as JSON" in found.message


# --- what the API server takes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "image: null",
        "imagePullPolicy: ''",
        "env: null",
        "args: [null]",
        "ports: [{containerPort: 8080.0}]",
        "lifecycle: {preStop: null}",
        "resources: {limits: {cpu: null}}",
        "resources: {limits: {cpu: 1, memory: 1e3, ephemeral-storage: '.5Gi'}}",
        "securityContext: {runAsUser: 9223372036854775807}",
    ],
)
def test_what_the_api_server_takes_is_valid(spec: str) -> None:
    assert problems(pod(spec)) == ()


def test_a_creation_timestamp_of_null_is_valid_as_controller_gen_writes_it() -> None:
    assert (
        problems({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "creationTimestamp": None}}) == ()
    )


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("aGVsbG8=", True),
        ("aGVs\nbG8=\r\n", True),
        ("", True),
        ("aGVsbG8", False),
        ("a-_=", False),
        ("plain text", False),
    ],
)
def test_bytes_are_read_as_go_reads_them(text: str, good: bool) -> None:  # noqa: FBT001
    assert is_byte(text) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [("30s", True), ("1h30m", True), ("0", True), ("5 minutes", True), ("2d", True), ("5", False), ("soon", False)],
)
def test_durations_are_read_as_the_api_server_reads_them(text: str, good: bool) -> None:  # noqa: FBT001
    assert is_duration(text) is good


def test_a_misspelled_field_in_the_schema_of_a_crd_is_found_where_the_api_server_finds_it() -> None:
    def widget(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        }

    at = "/spec/versions/0/schema/openAPIV3Schema"
    assert [one.pointer for one in problems(widget({"type": "object", "propertees": {}}))] == [f"{at}/propertees"]
    # Below items Go decodes by other code, which passes over unknown fields and still checks types.
    assert problems(widget({"type": "array", "items": {"typ": "string"}})) == ()
    assert [one.pointer for one in problems(widget({"type": "array", "items": {"type": 5}}))] == [f"{at}/items/type"]
    assert problems(widget({"type": "object", "additionalProperties": True})) == ()


# --- lists with keys --------------------------------------------------------------------------------------------------


def test_two_containers_of_one_name_are_refused() -> None:
    spec = "{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, image: x}, {name: b}, {name: a, image: y}]}}"
    (found,) = problems(spec)
    assert found.pointer == "/spec/containers/2"
    assert found.message == 'entry 3 of containers repeats entry 1: name "a"'
    assert found.keyword == "x-kubernetes-list-map-keys"
    assert not found.advice


def test_a_duplicate_that_the_api_server_stores_is_advice() -> None:
    (found,) = problems(pod("env: [{name: A, value: a}, {name: A, value: b}]"))
    assert found.pointer == "/spec/containers/0/env/1"
    assert found.advice


def test_the_key_of_a_port_includes_its_protocol_and_its_default() -> None:
    service = "{{apiVersion: v1, kind: Service, spec: {{ports: [{{name: a, port: 53}}, {{name: b, port: 53, protocol: {0}}}]}}}}"
    assert problems(service.format("UDP")) == ()
    (found,) = problems(service.format("TCP"))
    assert found.message == 'entry 2 of ports repeats entry 1: port 53, protocol "TCP"'


# --- kinds without schema ---------------------------------------------------------------------------------------------


def test_a_custom_kind_without_schema_names_the_command_that_adds_it() -> None:
    found = missing({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"})
    assert found.reason == "no schema for argoproj.io/v1alpha1 Rollout"
    assert found.remedy.startswith("releasegate schemas add Rollout --from DIR")


def test_an_api_version_that_is_gone_names_the_one_to_write() -> None:
    found = missing({"apiVersion": "extensions/v1beta1", "kind": "Ingress"})
    assert found.remedy == "write networking.k8s.io/v1"


def test_a_misspelled_builtin_kind_is_no_custom_kind() -> None:
    assert "did you mean apps/v1 Deployment?" in missing({"apiVersion": "apps/v1", "kind": "Deploymnet"}).reason
    assert "did you mean apps/v1 Deployment?" in missing({"apiVersion": "apps/v1", "kind": "deployment"}).reason


# --- CRDs -------------------------------------------------------------------------------------------------------------


def crd(
    schema: dict[str, Any],
    *,
    group: str = "example.com",
    kind: str = "Widget",
    scope: str = "Namespaced",
    **version: Any,
) -> Manifest:
    entry = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    return manifest(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{kind.lower()}s.{group}"},
            "spec": {"group": group, "scope": scope, "names": {"kind": kind}, "versions": [entry]},
        }
    )


def custom(spec: Any, schema: dict[str, Any], **more: Any) -> tuple[Problem, ...]:
    """Problems of a Widget with this `spec` under a CRD whose `spec` has this schema."""
    root = {"type": "object", "properties": {"spec": schema}}
    known = Schemas.load("1.37", crds=[crd(root, **more)])
    return problems({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec}, known)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "format": "int32"}, 2**31 - 1, 2**31),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 2, 1),
        ({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, "10%", [1]),
        ({"x-kubernetes-int-or-string": True, "pattern": "^[0-9]+%$"}, "10%", "ten"),
        ({"type": "string", "nullable": True, "enum": ["a"]}, None, "b"),
        ({"type": "string", "enum": ["a"]}, None, "b"),  # the null of an optional field is pruned
        ({"type": "string", "format": "date-time"}, "2026-01-31T12:00:00Z", "31.1.2026"),
        ({"type": "string", "format": "duration"}, "1h", "soon"),
        ({"type": "string", "format": "byte"}, "aGVsbG8=", "plain!"),
        ({"type": "string", "pattern": "^(?i)(abort|warn)?$"}, "WARN", "stop"),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x"}, {"b": "x"}),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"anything": {"at": "all"}}, []),
        (
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {"type": "string"}}},
            {"b": 1},
            {"a": 1},
        ),
        ({"type": "object"}, {}, {"pruned": 1}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "x"}, {"a": None}),
        ({"type": "object", "additionalProperties": True}, {"a": 1}, "x"),
        ({"type": "array", "items": {"type": "string"}}, ["a"], [None]),
        ({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}, ["a", "b"], ["a", "a"]),
        (
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
            [{"name": "a"}, {"name": "b"}],
            [{"name": "a"}, {"name": "a"}],
        ),
        (
            {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
            {"apiVersion": "v1", "kind": "Pod", "spec": {}},
            {"kind": "Pod"},
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            {"a": "x"},
            {"a": "x", "b": "y"},
        ),
        ({"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "default": "x"}}}, {}, {"a": 1}),
        ({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}, {"a": "x"}, {"a": None}),
    ],
)
def test_a_structural_schema_is_read_as_the_api_server_reads_it(schema: dict[str, Any], good: Any, bad: Any) -> None:
    assert custom(good, schema) == ()
    assert len(custom(bad, schema)) == 1


def test_alternatives_are_one_message() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    (found,) = custom({}, schema)
    assert (found.message, found.help) == ("spec needs a or b", "write a or b")


def test_metadata_of_a_custom_object_is_judged_whatever_the_crd_says() -> None:
    known = Schemas.load("1.37", crds=[crd({"type": "object", "x-kubernetes-preserve-unknown-fields": True})])
    (found,) = problems({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"lables": {}}, "x": 1}, known)
    assert found.pointer == "/metadata/lables"


def test_nothing_is_required_in_a_status_that_the_api_server_drops() -> None:
    status = {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}}
    root = {"type": "object", "properties": {"status": status}}
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "status": {}}
    with_it = Schemas.load("1.37", crds=[crd(root, subresources={"status": {}})])
    assert problems(body, with_it) == ()
    assert len(problems(body, Schemas.load("1.37", crds=[crd(root)]))) == 1


def test_a_crd_of_the_repo_never_overrides_a_builtin_kind() -> None:
    wide_open = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    known = Schemas.load("1.37", crds=[crd(wide_open, group="apps", kind="Deployment")])
    assert problems({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicaz": 1}}, known) != ()


def test_a_crd_of_the_repo_supersedes_a_shipped_schema() -> None:
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {}, "spec": {"new": 1}}
    assert problems(body) != ()
    wide_open = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    real = crd(wide_open, group="argoproj.io", kind="Application", name="v1alpha1")
    assert problems(body, Schemas.load("1.37", crds=[real])) == ()


def test_an_unknown_field_of_a_shipped_schema_says_how_to_bring_a_newer_one() -> None:
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": {"name": "a"},
        "spec": {"fieldOfNextYear": 1},
    }
    (found,) = problems(body)
    assert found.help.endswith("bring the CRD: releasegate schemas add AppProject --from DIR")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": ["a"]},
        {"type": "object", "properties": {"spec": {"type": "string", "pattern": "(?=lookahead)"}}},
        {"type": "object", "properties": {"spec": {"type": "nonsense"}}},
        {"type": "object", "properties": {"spec": {"type": "array", "x-kubernetes-list-type": "map", "items": {}}}},
    ],
)
def test_a_crd_that_cannot_be_used_is_a_gap_that_names_it_never_a_pass(schema: dict[str, Any]) -> None:
    known = Schemas.load("1.37", crds=[crd(schema)])
    found = missing({"apiVersion": "example.com/v1", "kind": "Widget", "spec": "x"}, known)
    assert "widgets.example.com cannot be used" in found.reason
    assert len(found.reason) < 400


def test_a_crd_without_schema_is_a_gap() -> None:
    bare = crd({})
    bare.body["spec"]["versions"][0]["schema"] = {}
    known = Schemas.load("1.37", crds=[bare])
    assert "has no openAPIV3Schema" in missing({"apiVersion": "example.com/v1", "kind": "Widget"}, known).reason


def test_scope_is_known_of_builtin_custom_and_former_kinds() -> None:
    known = Schemas.load("1.37", crds=[crd({"type": "object"}, scope="Cluster")])
    assert known.namespaced("v1", "ConfigMap") is True
    assert known.namespaced("v1", "Namespace") is False
    assert known.namespaced("extensions/v1beta1", "Ingress") is True
    assert known.namespaced("example.com/v1", "Widget") is False
    assert known.namespaced("argoproj.io/v1alpha1", "Application") is True
    assert known.namespaced("example.org/v1", "Gadget") is None


def test_api_versions_are_what_argo_passes_to_helm() -> None:
    bare = Schemas.load("1.37").api_versions()
    assert {"v1", "v1/ConfigMap", "apps/v1", "apps/v1/Deployment", "policy/v1/PodDisruptionBudget"} <= set(bare)
    assert list(bare) == sorted(set(bare))
    # A schema that ships here says nothing about the cluster: charts ask for exactly this one.
    assert "monitoring.coreos.com/v1" not in bare
    more = set(Schemas.load("1.37", crds=[crd({"type": "object"}), crd({}, kind="Old", served=False)]).api_versions())
    assert more - set(bare) == {"example.com/v1", "example.com/v1/Widget"}


# --- served -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "asked", "expected"),
    [
        ("1.37", ("apps/v1", "Deployment"), ("served", None, None)),
        ("1.37", ("extensions/v1beta1", "Ingress"), ("removed", "networking.k8s.io/v1", "1.22")),
        ("1.37", ("batch/v1beta1", "CronJob"), ("removed", "batch/v1", "1.25")),
        ("1.37", ("autoscaling/v2beta2", "HorizontalPodAutoscaler"), ("removed", "autoscaling/v2", "1.26")),
        ("1.37", ("policy/v1beta1", "PodSecurityPolicy"), ("removed", None, "1.25")),
        (
            "1.37",
            ("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema"),
            ("removed", "flowcontrol.apiserver.k8s.io/v1", "1.32"),
        ),
        ("1.37", ("v1", "Endpoints"), ("deprecated", "discovery.k8s.io/v1 EndpointSlice", None)),
        ("1.37", ("apps/v2", "Deployment"), ("removed", "apps/v1", None)),
        ("1.34", ("storagemigration.k8s.io/v1", "StorageVersionMigration"), ("removed", None, None)),
        ("1.37", ("storagemigration.k8s.io/v1", "StorageVersionMigration"), ("served", None, None)),
        ("1.37", ("example.com/v1", "Widget"), ("unknown", None, None)),
        ("1.37", ("gateway.networking.k8s.io/v1", "HTTPRoute"), ("unknown", None, None)),
    ],
)
def test_served_knows_what_a_version_serves(
    version: str, asked: tuple[str, str], expected: tuple[str, str | None, str | None]
) -> None:
    answer = Schemas.load(version).served(*asked)
    assert (answer.status, answer.replacement, answer.removed_in) == expected, answer.message


def test_a_kind_of_a_later_version_says_from_when() -> None:
    said = Schemas.load("1.34").served("storagemigration.k8s.io/v1", "StorageVersionMigration").message
    assert said.endswith("is not served by Kubernetes 1.34; it is from 1.37 on")


def test_served_reads_crds() -> None:
    plain = {"type": "object"}
    old = crd(plain, deprecated=True, deprecationWarning="use v2")
    assert Schemas.load("1.37", crds=[old]).served("example.com/v1", "Widget").message == "use v2"
    off = Schemas.load("1.37", crds=[crd(plain, served=False)]).served("example.com/v1", "Widget")
    assert off.status == "removed"
    other = Schemas.load("1.37", crds=[crd(plain)]).served("example.com/v9", "Widget")
    assert (other.status, other.replacement) == ("removed", "example.com/v1")


def test_every_replacement_of_the_removal_table_is_served_by_the_newest_bundle() -> None:
    table = json.loads(
        (Path(__file__).parents[2] / "validators/releasegate/schemas/data/removals.json").read_text("utf-8")
    )
    known = Schemas.load(available()[-1])
    for entry in table["entries"]:
        for kind in entry["kinds"]:
            if entry["replacement"]:
                assert known.known(entry["replacement"], entry.get("replacement_kind", kind)), entry
            assert known.served(entry["apiVersion"], kind).status in {"removed", "deprecated"}, entry


# --- locations --------------------------------------------------------------------------------------------------------

LAYOUT = "schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}}


def located(
    root: Path, content: str, *, name: str = "schemas/example.com/widget_v1.json", layout: str = LAYOUT
) -> Schemas:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return Schemas.load("1.37", locations=[layout], root=root)


def test_a_location_is_found_by_kubeconforms_variables(tmp_path: Path) -> None:
    schema = json.dumps({"type": "object", "properties": {"spec": {"type": "string"}}})
    known = located(tmp_path, schema)
    assert problems({**WIDGET, "spec": "x"}, known) == ()
    assert [one.pointer for one in problems({**WIDGET, "spec": 1}, known)] == ["/spec"]


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("{{ .ResourceKind }}{{ .KindSuffix }}.json", "widget-example-v1.json"),
        ("s/{{.NormalizedKubernetesVersion}}{{.StrictSuffix}}/{{.ResourceKind}}.json", "s/v1.37.0-strict/widget.json"),
        ("folder", "folder/v1.37.0-standalone-strict/widget-example-v1.json"),
    ],
)
def test_each_layout_of_kubeconform_works(tmp_path: Path, layout: str, name: str) -> None:
    known = located(tmp_path, '{"type": "object", "required": ["spec"]}', layout=layout, name=name)
    assert [one.keyword for one in problems(WIDGET, known)] == ["required"]


def test_a_typo_passes_no_schema_that_forgot_additional_properties(tmp_path: Path) -> None:
    # kubeconform -strict says Valid here: its strictness lives in the schema.
    spec = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
    known = located(tmp_path, json.dumps({"type": "object", "properties": {"spec": spec}}))
    (found,) = problems({**WIDGET, "spec": {"replicaz": 1}}, known)
    assert found.message == "unknown field replicaz; did you mean replicas?"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<html>", "is not JSON"),
        ("[]", "holds no object"),
        ('{"type": "nonsense"}', "cannot be used as a schema"),
        ('{"$ref": "http://127.0.0.1:1/x.json"}', "cannot be used as a schema"),
    ],
)
def test_a_broken_schema_file_is_a_gap_that_names_the_file(tmp_path: Path, content: str, reason: str) -> None:
    # kubeconform falls through to "missing", and -ignore-missing-schemas then hides it.
    found = missing(WIDGET, located(tmp_path, content))
    assert "schemas/example.com/widget_v1.json" in found.reason
    assert reason in found.reason


def test_a_location_never_overrides_a_builtin_kind(tmp_path: Path) -> None:
    known = located(tmp_path, "{}", name="schemas/apps/deployment_v1.json")
    assert problems({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicaz": 1}}, known) != ()


@pytest.mark.parametrize(
    "location",
    [
        "https://example.com/{{.Group}}.json",
        "file:///etc",
        "/etc/{{.Group}}.json",
        "../x/{{.Group}}.json",
        "a/{{.Secret}}.json",
    ],
)
def test_a_location_outside_the_repo_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(LocationError, match="locations"):
        Schemas.load("1.37", locations=[location], root=tmp_path)


def test_an_absolute_location_is_taken_below_the_root_only(tmp_path: Path) -> None:
    known = located(tmp_path, '{"type": "object", "required": ["spec"]}', layout=str(tmp_path / LAYOUT))
    assert [one.keyword for one in problems(WIDGET, known)] == ["required"]
    with pytest.raises(LocationError, match="leaves the repo"):
        Schemas.load("1.37", locations=[str(tmp_path / LAYOUT)], root=tmp_path / "root")


def test_a_symbolic_link_does_not_lead_out_of_the_repo(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "widget_v1.json").write_text("{}")
    root = tmp_path / "root"
    (root / "schemas").mkdir(parents=True)
    (root / "schemas" / "example.com").symlink_to(outside)
    missing(WIDGET, Schemas.load("1.37", locations=[LAYOUT], root=root))


def test_a_kind_does_not_become_a_path(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "schemas" / "x").mkdir(parents=True)
    known = Schemas.load("1.37", locations=["schemas/{{.Group}}/{{.ResourceKind}}.json"], root=tmp_path)
    missing({"apiVersion": "x/v1", "kind": "../../secret"}, known)


def test_a_location_may_be_a_file_of_crds(tmp_path: Path) -> None:
    (tmp_path / "crds.yaml").write_text(yaml.safe_dump(dict(crd({"type": "object"}).body)))
    known = Schemas.load("1.37", locations=["crds.yaml"], root=tmp_path)
    assert known.known("example.com/v1", "Widget")
    assert known.namespaced("example.com/v1", "Widget") is True


# --- nothing is opened, nothing takes long ----------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback that writes down every request."""
    hits: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", hits
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_reference_to_the_network_is_refused_and_not_followed(server: tuple[str, list[str]]) -> None:
    address, hits = server
    for schema in ({"$ref": f"{address}/a.json"}, {"$schema": f"{address}/meta.json", "type": "object"}):
        with pytest.raises(SchemaError):
            compile_schema(schema)
    assert hits == []


def test_a_reference_to_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open.json").write_text("{}")
    with pytest.raises(SchemaError, match=r"open\.json"):
        compile_schema({"$ref": (tmp_path / "open.json").as_uri()})


def test_four_thousand_manifests_are_judged_in_a_fraction_of_a_second() -> None:
    # Measured: 8 us each, 80 ms with compiling all kinds. kubeconform -n 4 takes 0.7 s for the files of these.
    path = Path(__file__).parents[1] / "data" / "manifests.yaml"
    manifests = [manifest(body) for body in yaml.safe_load_all(path.read_text("utf-8"))]
    manifests = (manifests * (4000 // len(manifests) + 1))[:4000]
    known = Schemas.load("1.37")
    began = time.perf_counter()
    assert not any(known.problems(one) for one in manifests)
    assert time.perf_counter() - began < 0.7


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^([a-z]+)*$", "^(.*)*x$", "^(a?){30}a{30}$"])
def test_an_evil_pattern_takes_no_time(pattern: str) -> None:
    began = time.perf_counter()
    custom("a" * 40 + "!", {"type": "string", "pattern": pattern})
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("^(?i)abc$", "ABC", "x"),
        ("^(a(?i)b|c)$", "C", "Ab"),
        ("^((?i)sun|mon)day$", "MONday", "MONDAY"),
        (r"\Aabc\z", "abc", "abcd"),
        ("(?P<n>a)b", "ab", "b"),
        ("^[[:alpha:]]+$", "ab", "1"),
        (r"^\pL+$", "ab", "1"),
        (r"^\Qa.b\E$", "a.b", "axb"),
        ("^[]a]$", "]", "b"),
        (r"^[\w-.]+$", "a-b", "!"),
        ("^a{2$", "a{2", "aa"),
        (r"^\x{41}$", "A", "B"),
        ("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", "A"),
        ("^a{1,3}$", "aa", "aaaa"),
    ],
)
def test_a_pattern_of_go_keeps_its_language(pattern: str, good: str, bad: str) -> None:
    compiled = compile_schema({"pattern": from_go(pattern)})
    assert compiled.is_valid(good)
    assert not compiled.is_valid(bad)
