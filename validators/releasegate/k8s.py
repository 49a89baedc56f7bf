"""What Kubernetes objects are made of: image references, pod specs, images, names, JSON pointers.

Layer 0: pure readings of parsed objects, no I/O. Nothing here trusts the shape of what it is given: a render may hold
a number where a list belongs, and that is another rule's finding, not a crash here.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

# --- image references ---------------------------------------------------------------------------------------------

# The grammar of github.com/distribution/reference v0.6.0 (regexp.go), which the kubelet and every runtime parse with.
_ALPHANUMERIC = r"[a-z0-9]+"
_COMPONENT = rf"{_ALPHANUMERIC}(?:(?:[._]|__|-+){_ALPHANUMERIC})*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_NAME = re.compile(rf"(?:{_DOMAIN}/)?{_PATH}")
_ANY_CASE_NAME = re.compile(rf"(?:{_DOMAIN}/)?{_PATH}", re.IGNORECASE | re.ASCII)
_WHOLE_TAG = re.compile(_TAG)
_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}  # github.com/opencontainers/go-digest algorithm.go
_LOWER_HEX = re.compile(r"[a-f0-9]+")
_ANY_HEX = re.compile(r"[a-fA-F0-9]+")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_MAX_PATH = 255  # reference.go RepositoryNameTotalLengthMax
_MAX_TAG = 128


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image reference: `name` with its registry as written, `tag` and `digest` ("sha256:…") or None."""

    name: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """The reference as written: `parse(text)` and `str` are inverse."""
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.name}{tag}{digest}"

    @classmethod
    def parse(cls, text: str) -> ImageRef:
        """Parse a reference as the kubelet does (ParseNormalizedNamed of distribution/reference, ASCII only).

        Raises ValueError with the reason, as the end of a sentence: "the tag is empty".
        """
        return cls(*_parts_of(text))


@functools.lru_cache(maxsize=4096)  # each rule about images asks for the same few
def _parts_of(text: str) -> tuple[str, str | None, str | None]:
    _refuse_left_over(text)
    rest, at, digest = text.partition("@")
    if at:
        _check_digest(digest)
    # A colon behind the last slash starts the tag; one before it belongs to the registry's port.
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    name, tag = (rest, None) if colon < 0 else (rest[:colon], rest[colon + 1 :])
    _check_name(name)
    if tag is not None:
        _check_tag(tag)
    return name, tag, digest if at else None


def _refuse_left_over(text: str) -> None:
    if not text:
        raise ValueError("it is empty")
    for sign, what in _LEFT_OVER.items():
        if sign in text:
            raise ValueError(what)
    if text.strip() != text or re.search(r"\s", text):
        raise ValueError("it holds white space")
    if not text.isascii():
        raise ValueError("it holds a character that is not ASCII")
    if text[0] in "\"'" or text[-1] in "\"'":
        raise ValueError("it holds quotes: they are part of the value")
    if _IDENTIFIER.fullmatch(text):
        raise ValueError("it is 64 hexadecimal digits: that is an image id, not a name")
    if "://" in text:
        raise ValueError("it is a URL: leave the scheme out")


_LEFT_OVER = {
    "{{": "it holds a template that was not rendered",
    "}}": "it holds a template that was not rendered",
    "${": "it holds a variable that nothing replaced",
    "<no value>": "a value is missing where the template expects one (<no value>)",
    "<nil>": "a value is null where the template expects one (<nil>)",
    "%!": "a printf in the template failed (%!)",
}


def _check_name(name: str) -> None:
    if not name:
        raise ValueError("the name is empty")
    if not _NAME.fullmatch(name):
        if _ANY_CASE_NAME.fullmatch(name):
            raise ValueError("the name holds upper-case letters: only the registry may")
        raise ValueError(f"the name {_short(name)} is malformed")
    if len(_path(name)) > _MAX_PATH:
        raise ValueError(f"the name is longer than {_MAX_PATH} characters")


def _path(name: str) -> str:
    """Return the name without its registry, as splitDockerDomain cuts it; Docker Hub's `library/` counts."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        return rest
    return name if slash else f"library/{name}"


def _check_tag(tag: str) -> None:
    if not tag:
        raise ValueError("the tag is empty (nothing behind `:`)")
    if len(tag) > _MAX_TAG:
        raise ValueError(f"the tag is longer than {_MAX_TAG} characters")
    if not _WHOLE_TAG.fullmatch(tag):
        raise ValueError(f"the tag {_short(tag)} is malformed")


def _check_digest(digest: str) -> None:
    if not digest:
        raise ValueError("the digest is empty (nothing behind `@`)")
    algorithm, colon, encoded = digest.partition(":")
    if not colon:
        raise ValueError(f"the digest {_short(digest)} names no algorithm: sha256: is missing")
    length = _HEX_LENGTHS.get(algorithm)
    if length is None:
        raise ValueError(f"the digest algorithm {_short(algorithm)} is unknown")
    if len(encoded) != length or not _LOWER_HEX.fullmatch(encoded):
        if _ANY_HEX.fullmatch(encoded) and len(encoded) == length:
            raise ValueError("the digest holds upper-case letters")
        raise ValueError(f"the digest has to be {algorithm}: and {length} hexadecimal digits, {len(encoded)} are there")


_SHOWN = 40


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


# --- JSON pointers ------------------------------------------------------------------------------------------------


def escape(token: str) -> str:
    """Escape one token of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


def join(pointer: str, *tokens: str | int) -> str:
    """Append tokens (unescaped keys or indices) to a JSON pointer."""
    for token in tokens:
        text = str(token)
        pointer += f"/{escape(text) if '/' in text or '~' in text else text}"
    return pointer


def split(pointer: str) -> list[str]:
    """Return the unescaped tokens of a JSON pointer. Raises ValueError when it is neither "" nor starts with `/`."""
    if not pointer:
        return []
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer: it has to start with /")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def resolve(value: Any, pointer: str) -> Any:
    """Return what is at a JSON pointer. Raises KeyError(pointer) when nothing is there."""
    try:
        tokens = split(pointer)
    except ValueError:
        raise KeyError(pointer) from None
    for token in tokens:
        if isinstance(value, Mapping) and token in value:
            value = value[token]
        elif _is_list(value) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            raise KeyError(pointer)
    return value


_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _match(value: Any, tokens: Sequence[str], pointer: str) -> Iterator[tuple[str, Any]]:
    """Yield (pointer, value) of everything a pointer with `*` (any item of a list or mapping) reaches."""
    if not tokens:
        yield pointer, value
        return
    wanted, rest = tokens[0], tokens[1:]
    if isinstance(value, Mapping):
        for key in [wanted] if wanted in value else list(value) if wanted == "*" else []:
            yield from _match(value[key], rest, join(pointer, key))
    elif _is_list(value):
        for index, item in enumerate(value):
            if wanted in {"*", str(index)}:
                yield from _match(item, rest, join(pointer, index))


def matches(value: Any, pattern: str) -> Iterator[tuple[str, Any]]:
    """Yield (pointer, value) of everything a JSON pointer reaches in which `*` is any item of a list or mapping."""
    with contextlib.suppress(ValueError):
        yield from _match(value, split(pattern), "")


# --- objects ------------------------------------------------------------------------------------------------------


def group_of(api_version: Any) -> str:
    """`apps` of `apps/v1`; "" for the core group and for what is no string."""
    return api_version.rpartition("/")[0] if isinstance(api_version, str) else ""


def identity(
    body: Mapping[str, Any],
    default_namespace: str,
    namespaced: bool | None,  # noqa: FBT001  # three answers, no flag
) -> tuple[str, str, str | None, str]:
    """(group, kind, namespace, name): what the API server calls one object, whatever its version.

    `namespaced` False: the namespace is None, whatever is written. None (scope unknown): taken for namespaced, which
    never calls two objects equal that are not. The name is "" under `generateName`; such objects are never equal.
    """
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    namespace = None if namespaced is False else str(metadata.get("namespace") or default_namespace)
    return group_of(body.get("apiVersion")), str(body.get("kind", "")), namespace, str(metadata.get("name") or "")


def expand_lists(body: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the objects of a List (`List`, `ConfigMapList`, …) with their pointers, nested ones too.

    Anything else, and a list that holds something other than objects, is returned whole under "". kubectl and Argo CD
    apply the items (apimachinery unstructured.IsList: an `items` list); a List with `items: null` holds nothing.
    """
    kind = body.get("kind")
    if not (isinstance(kind, str) and kind.endswith("List") and "items" in body):
        return [("", body)]
    items = body["items"]
    if items is None:
        return []
    if not _is_list(items) or not all(isinstance(item, Mapping) for item in items):
        return [("", body)]
    return [
        (join("", "items", index) + pointer, inner)
        for index, item in enumerate(items)
        for pointer, inner in expand_lists(item)
    ]


# --- pod specs ----------------------------------------------------------------------------------------------------

_TEMPLATE = ("spec", "template", "spec")
_POD_SPECS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("spec",),
    ("", "PodTemplate"): ("template", "spec"),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
    ("batch", "Job"): _TEMPLATE,
    ("extensions", "DaemonSet"): _TEMPLATE,
    ("extensions", "Deployment"): _TEMPLATE,
    ("extensions", "ReplicaSet"): _TEMPLATE,
}
# Kinds whose objects are about other objects: what looks like a pod spec in them is a pattern, a schema or the values
# of a chart that is rendered and judged by itself.
_ABOUT_OTHERS = {
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("argoproj.io", "AppProject"),
    ("argoproj.io", "Application"),
    ("argoproj.io", "ApplicationSet"),
}
_ABOUT_OTHERS_GROUPS = {"kyverno.io", "policies.kyverno.io", "constraints.gatekeeper.sh", "templates.gatekeeper.sh"}
# Groups that hold no containers; skipped for speed. The core and apps kinds with pods are in the table above.
_NO_PODS_GROUPS = {
    "",
    "apps",
    "external-secrets.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
}
_MANY = ("containers", "initContainers", "ephemeralContainers", "sidecars")
_WORKFLOW_KINDS = {"Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow"}


def pod_specs(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (pointer, spec) of every pod spec of an object.

    Pods and the built-in kinds with a pod template by their place; in any other kind (Rollout, Knative Service,
    ScaledJob, a CRD nobody here knows) each mapping that has a list of containers, which are mappings with a name or an
    image. In Argo Workflows each template is one: besides lists it has `container` and `script`.
    """
    kind = body.get("kind")
    group = group_of(body.get("apiVersion"))
    path = _POD_SPECS.get((group, kind)) if isinstance(kind, str) else None
    if path is not None:
        spec: Any = body
        for token in path:
            spec = spec.get(token) if isinstance(spec, Mapping) else None
        if isinstance(spec, Mapping):
            yield join("", *path), spec
    elif (group, kind) not in _ABOUT_OTHERS and group not in _ABOUT_OTHERS_GROUPS and group not in _NO_PODS_GROUPS:
        workflow = group == "argoproj.io" and kind in _WORKFLOW_KINDS
        yield from _embedded(body, "", workflow=workflow)


def _embedded(value: Any, pointer: str, *, workflow: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        lists = [key for key in _MANY if _holds_containers(value.get(key))]
        single = workflow and any(_is_container(value.get(key)) for key in _ONE)
        if lists or single:
            yield pointer, value
        for key, item in value.items():
            if isinstance(item, Mapping | list | tuple) and key not in lists:
                yield from _embedded(item, join(pointer, key), workflow=workflow)
    elif _is_list(value):
        for index, item in enumerate(value):
            if isinstance(item, Mapping | list | tuple):
                yield from _embedded(item, join(pointer, index), workflow=workflow)


def _holds_containers(value: Any) -> bool:
    return (
        _is_list(value)
        and len(value) > 0
        and all(isinstance(item, Mapping) for item in value)
        and any("image" in item or isinstance(item.get("name"), str) for item in value)
    )


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping) and "image" in value


# --- images -------------------------------------------------------------------------------------------------------

Role = Literal["container", "initContainer", "ephemeralContainer", "volume", "field"]
_ROLES: dict[str, Role] = {
    "containers": "container",
    "initContainers": "initContainer",
    "ephemeralContainers": "ephemeralContainer",
    "sidecars": "container",
}
_ONE = ("container", "script")  # Argo Workflows: one container per template


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One place of an object that names an image.

    `text` is what is written there ("" for null; a number as Kubernetes read it). `container` is the name of the
    container or volume (of the template, in Argo Workflows), None where it has none and for fields of custom resources.
    """

    pointer: str
    text: str
    container: str | None
    role: Role


# Fields of custom resources that their documentation says name an image, as (group, kind): pointers.
# Prometheus operator: https://prometheus-operator.dev/docs/api-reference/api/ ("image" of CommonPrometheusFields,
# AlertmanagerSpec, ThanosRulerSpec, ThanosSpec). OpenTelemetry operator: docs/api/opentelemetrycollectors.md.
# CloudNativePG: documentation "Operand image", spec.imageName. RabbitMQ cluster operator: spec.image. Strimzi:
# configuring kafka.image. Tekton: docs/tasks.md steps, stepTemplate, sidecars. Elastic (ECK): spec.image.
_DOCUMENTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("monitoring.coreos.com", "Prometheus"): ("/spec/image", "/spec/thanos/image"),
    ("monitoring.coreos.com", "PrometheusAgent"): ("/spec/image",),
    ("monitoring.coreos.com", "Alertmanager"): ("/spec/image",),
    ("monitoring.coreos.com", "ThanosRuler"): ("/spec/image",),
    ("opentelemetry.io", "OpenTelemetryCollector"): ("/spec/image",),
    ("postgresql.cnpg.io", "Cluster"): ("/spec/imageName",),
    ("rabbitmq.com", "RabbitmqCluster"): ("/spec/image",),
    ("kafka.strimzi.io", "Kafka"): ("/spec/kafka/image", "/spec/zookeeper/image"),
    ("tekton.dev", "Task"): ("/spec/steps/*/image", "/spec/stepTemplate/image", "/spec/sidecars/*/image"),
    ("tekton.dev", "ClusterTask"): ("/spec/steps/*/image", "/spec/stepTemplate/image", "/spec/sidecars/*/image"),
    ("elasticsearch.k8s.elastic.co", "Elasticsearch"): ("/spec/image",),
    ("kibana.k8s.elastic.co", "Kibana"): ("/spec/image",),
}


def images(body: Mapping[str, Any], fields: Mapping[str, Sequence[str]]) -> list[ImageUse]:
    """Return every use of an image in an object, each place once.

    Containers, init containers (sidecars are among them), ephemeral containers and image volumes of every pod spec,
    the documented fields of well-known custom resources, and `fields`: kind to JSON pointers, where `*` is any item.
    """
    found: dict[str, ImageUse] = {}
    for pointer, spec in pod_specs(body):
        for use in _of_pod_spec(spec, pointer):
            found.setdefault(use.pointer, use)
    kind = body.get("kind")
    if isinstance(kind, str):
        documented = _DOCUMENTED.get((group_of(body.get("apiVersion")), kind), ())
        for pattern in (*documented, *fields.get(kind, ())):
            for pointer, value in _match(body, split(pattern), ""):
                found.setdefault(pointer, ImageUse(pointer, _text(value), None, "field"))
    return list(found.values())


def _of_pod_spec(spec: Mapping[str, Any], pointer: str) -> Iterator[ImageUse]:
    for key, role in _ROLES.items():
        for index, container in enumerate(_items(spec.get(key))):
            if _is_container(container):
                yield _use(container, join(pointer, key, index), role)
    for key in _ONE:
        if _is_container(spec.get(key)):
            use = _use(spec[key], join(pointer, key), "container")
            yield replace(use, container=use.container or _name(spec))
    for index, volume in enumerate(_items(spec.get("volumes"))):
        image = volume.get("image") if isinstance(volume, Mapping) else None
        if isinstance(image, Mapping) and "reference" in image:
            yield ImageUse(
                join(pointer, "volumes", index, "image", "reference"),
                _text(image["reference"]),
                _name(volume),
                "volume",
            )


def _use(container: Mapping[str, Any], pointer: str, role: Role) -> ImageUse:
    return ImageUse(join(pointer, "image"), _text(container["image"]), _name(container), role)


def _name(value: Mapping[str, Any]) -> str | None:
    name = value.get("name")
    return name if isinstance(name, str) else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
