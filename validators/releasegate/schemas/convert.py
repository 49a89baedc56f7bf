"""Kubernetes' schemas as strict JSON Schema (draft 7, which jsonschema-rs and kubeconform read alike).

Two dialects come in. *Built-in* kinds follow Go's decoder: null is the zero value, so it is accepted wherever a value
is optional. *Custom* kinds follow the structural schema of their CustomResourceDefinition:
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/ (sections "Specifying
a structural schema", "Field pruning", "Defaulting and Nullable"). Both are closed: a field the schema does not name is
an error, as with the API server's `fieldValidation=Strict`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from releasegate.schemas.patterns import from_go

INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)
# k8s.io/apimachinery/pkg/api/resource: the grammar in the comment of type Quantity.
QUANTITY = r"^\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?\s*$"
NAMESPACED = "x-releasegate-namespaced"  # in files that `schemas add` writes: the scope, which a schema cannot say
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NULLABLE = ".nullable"
_OPEN = ".open"
_SCHEMA_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_VALUE_KEYWORDS = (
    "enum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "uniqueItems",
    # No keywords of JSON Schema: kept for duplicates.py.
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
)
_INT_OR_STRING_FORM = [{"type": "integer"}, {"type": "string"}]

Schema = Mapping[str, Any]


def _types(kind: str | list[str], nullable: bool) -> str | list[str]:  # noqa: FBT001
    given = [kind] if isinstance(kind, str) else list(kind)
    if nullable and "null" not in given:
        given.append("null")
    return given[0] if len(given) == 1 else given


def _ranged(out: dict[str, Any], bounds: tuple[int, int]) -> None:
    """Narrow to the range of the Go type: json.Unmarshal refuses a number outside it."""
    out["minimum"] = max(out.get("minimum", bounds[0]), bounds[0])
    out["maximum"] = min(out.get("maximum", bounds[1]), bounds[1])


def _reference(name: str, nullable: bool) -> dict[str, str]:  # noqa: FBT001
    return {"$ref": f"#/definitions/{name}{_NULLABLE if nullable else ''}"}


# --- built-in kinds -----------------------------------------------------------------------------------------------


Converted = dict[str, tuple[dict[str, Any], tuple[str, ...]]]


def builtin(name: str, definitions: Mapping[str, Schema], kept: Converted) -> dict[str, Any]:
    """The JSON Schema of the built-in definition `name`, with those it reaches under `definitions`."""
    root = _reference(name, nullable=False)
    return {**root, "definitions": closure(root, definitions, kept)}


def closure(schema: Any, definitions: Mapping[str, Schema], kept: Converted) -> dict[str, Any]:
    """The converted definitions that the converted `schema` refers to, directly or through others.

    `kept` holds what was converted before: nearly all kinds share the same hundred definitions.
    """
    found: dict[str, Any] = {}
    waiting = list(references(schema))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in kept:
            made = _definition(name.removesuffix(_NULLABLE), definitions, name.endswith(_NULLABLE))
            kept[name] = made, tuple(references(made))
        found[name], reached = kept[name]
        waiting.extend(reached)
    return dict(sorted(found.items()))


def _definition(name: str, definitions: Mapping[str, Schema], nullable: bool) -> dict[str, Any]:  # noqa: FBT001
    if not name.startswith(_SCHEMA_PROPS):
        return _builtin(definitions[name], nullable)
    # Go decodes the schemas inside a schema by code of their own (apiextensions v1 marshal.go): types are checked
    # there, unknown fields are not.
    is_open = name.endswith(_OPEN)
    props = _builtin(definitions[_SCHEMA_PROPS], nullable)
    opened = {key: value for key, value in _renamed(props).items() if key != "additionalProperties"}
    match name.removesuffix(_OPEN).removeprefix(_SCHEMA_PROPS):
        case "":
            return opened if is_open else props
        case "OrBool":
            return {**opened, "type": _types(["object", "boolean"], nullable)}
        case "OrArray":
            item = _reference(_SCHEMA_PROPS + _OPEN, nullable=True)
            return {**opened, "type": _types(["object", "array"], nullable), "items": item}
        case _:
            return {**opened, "type": _types(["object", "array"], nullable), "items": {"type": "string"}}


def _renamed(schema: Any) -> Any:
    """The schema with each reference to JSONSchemaProps turned to its open form."""
    if isinstance(schema, Mapping):
        target = schema.get("$ref")
        for nullable in (False, True):
            if schema == _reference(_SCHEMA_PROPS, nullable):
                return _reference(_SCHEMA_PROPS + _OPEN, nullable)
        return schema if isinstance(target, str) else {key: _renamed(value) for key, value in schema.items()}
    return schema


def references(schema: Any) -> Iterator[str]:
    """The names of the local definitions that a converted schema refers to."""
    if isinstance(schema, Mapping):
        target = schema.get("$ref")
        if isinstance(target, str):
            yield target.removeprefix("#/definitions/")
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def _builtin(schema: Schema, nullable: bool) -> dict[str, Any]:  # noqa: FBT001
    if "$ref" in schema:
        return _reference(schema["$ref"], nullable)
    if schema.get("format") == "int-or-string":
        out: dict[str, Any] = {"type": _types(["integer", "string"], nullable)}
        _ranged(out, INT32)
        return out
    if schema.get("oneOf") == [{"type": "string"}, {"type": "number"}]:  # a Quantity
        return {"type": _types(["string", "number"], nullable), "pattern": QUANTITY}
    if "type" not in schema:  # JSON, JSONSchemaPropsOrBool, …: any value, decoded by code of their own
        return {}
    return _fields(schema, _scalar(schema, nullable))


def _scalar(schema: Schema, nullable: bool) -> dict[str, Any]:  # noqa: FBT001
    out: dict[str, Any] = {"type": _types(schema["type"], nullable)}
    if "enum" in schema:
        # Optional Go strings are unset when empty; that is how charts write "use the default".
        out["enum"] = list(dict.fromkeys([*schema["enum"], *(["", None] if nullable else [])]))
    if schema.get("format") == "int32":
        _ranged(out, INT32)
    elif schema.get("format") == "int64":
        _ranged(out, INT64)
    elif schema.get("format") in {"date-time", "byte"}:
        out["format"] = schema["format"]
    return out


def _fields(schema: Schema, out: dict[str, Any]) -> dict[str, Any]:
    if "items" in schema:
        out["items"] = _builtin(schema["items"], nullable=True)
    required = set(schema.get("required", ()))
    if "properties" in schema:
        out["properties"] = {
            name: _builtin(entry, name not in required) for name, entry in schema["properties"].items()
        }
        out["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), Mapping):
        out["additionalProperties"] = _builtin(schema["additionalProperties"], nullable=True)
    if required:
        out["required"] = sorted(required)
    return out


# --- custom kinds -------------------------------------------------------------------------------------------------


def custom(
    schema: Schema, definitions: Mapping[str, Schema], kept: Converted, *, status_subresource: bool = False
) -> dict[str, Any]:
    """The JSON Schema of a CustomResourceDefinition version's `openAPIV3Schema`.

    `definitions` and `kept` are a bundle's: `metadata` is judged as the ObjectMeta it is, whatever the CRD says about it. With
    a status subresource, what a manifest says in `status` is dropped by the API server, so nothing is required there.
    """
    properties = dict(schema.get("properties", {}))
    if status_subresource and isinstance(properties.get("status"), Mapping):
        properties["status"] = _nothing_required(properties["status"])
    root = _custom({**schema, "type": "object", "properties": properties}, nullable=False)
    metadata: dict[str, Any] = _reference(OBJECT_META, nullable=True)
    limits = properties.get("metadata", {}).get("properties")
    if limits:
        limits = {name: _value_validation(entry) for name, entry in limits.items()}
        metadata = {"allOf": [metadata, {"properties": limits}]}
    implied = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata}
    root["properties"] = root.get("properties", {}) | implied
    return {**root, "definitions": closure(root, definitions, kept)}


def _nothing_required(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: _nothing_required(value) for key, value in schema.items() if key not in {"required", "not"}}
    if isinstance(schema, list):
        return [_nothing_required(value) for value in schema]
    return schema


def _custom(schema: Schema, nullable: bool) -> dict[str, Any]:  # noqa: FBT001
    nullable = nullable or schema.get("nullable") is True
    out = _limits(schema, nullable)
    _combinations(schema, out)
    if schema.get("x-kubernetes-int-or-string") is True:
        out["type"] = _types(["integer", "string"], nullable)
        return out
    preserving = schema.get("x-kubernetes-preserve-unknown-fields") is True
    if "type" in schema:
        out["type"] = _types(schema["type"], nullable)
    if "items" in schema:
        out["items"] = _custom(schema["items"], nullable=False)
    if schema.get("type") == "object" or "properties" in schema:
        out |= _object(schema, closed=not preserving)
    return out


def _object(schema: Schema, *, closed: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    entries: dict[str, Any] = dict(schema.get("properties", {}))
    required = list(schema.get("required", ()))
    # The null of a property is pruned, and defaults are filled in, before anything is validated.
    converted = {name: _custom(entry, nullable=name not in required) for name, entry in entries.items()}
    required = [name for name in required if "default" not in entries.get(name, {})]
    if schema.get("x-kubernetes-embedded-resource") is True:
        converted |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        converted["metadata"] = _reference(OBJECT_META, nullable=True)
        required = sorted({*required, "apiVersion", "kind"})
    additional = schema.get("additionalProperties")
    if converted:
        out["properties"] = converted
    if isinstance(additional, Mapping):
        out["additionalProperties"] = _custom(additional, nullable=False)
    elif additional is not True and closed:
        # An object without any property is pruned to {}: each field in it is unknown.
        out["additionalProperties"] = False
    if required:
        out["required"] = required
    return out


def _limits(schema: Schema, nullable: bool) -> dict[str, Any]:  # noqa: FBT001
    out = {key: schema[key] for key in _VALUE_KEYWORDS if key in schema}
    if isinstance(out.get("pattern"), str):
        out["pattern"] = from_go(out["pattern"])
    if nullable and "enum" in out and None not in out["enum"]:
        out["enum"] = [*out["enum"], None]
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        # A flag beside the bound in OpenAPI v3.0, the bound itself in draft 7.
        if schema.get(exclusive) is True and bound in out:
            out[exclusive] = out.pop(bound)
    if schema.get("type") == "integer" and schema.get("format") in {"int32", "int64"}:
        _ranged(out, INT32 if schema["format"] == "int32" else INT64)
    elif isinstance(schema.get("format"), str) and schema.get("type") == "string":
        out["format"] = schema["format"]
    return out


def _combinations(schema: Schema, out: dict[str, Any]) -> None:
    for key in ("allOf", "anyOf", "oneOf"):
        entries = [entry for entry in schema.get(key, ()) if not _int_or_string_form(entry)]
        if entries and schema.get(key) != _INT_OR_STRING_FORM:
            out[key] = [_value_validation(entry) for entry in entries]
    if "not" in schema:
        out["not"] = _value_validation(schema["not"])


def _int_or_string_form(schema: Any) -> bool:
    """The `anyOf` that controller-gen writes beside x-kubernetes-int-or-string, said again by our own type list."""
    return isinstance(schema, Mapping) and schema.get("anyOf") == _INT_OR_STRING_FORM and len(schema) == 1


def _value_validation(schema: Schema) -> dict[str, Any]:
    """A schema inside allOf, anyOf, oneOf or not: it limits values, and never names the fields there are."""
    out = _limits(schema, nullable=False)
    _combinations(schema, out)
    if "type" in schema:
        out["type"] = schema["type"]
    if "items" in schema:
        out["items"] = _value_validation(schema["items"])
    if "properties" in schema:
        out["properties"] = {name: _value_validation(entry) for name, entry in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), Mapping):
        out["additionalProperties"] = _value_validation(schema["additionalProperties"])
    if "required" in schema:
        out["required"] = schema["required"]
    return out


# --- JSON Schemas as people keep them for kubeconform -----------------------------------------------------------------


def closed(schema: Any, *, root: bool = True) -> Any:
    """A JSON Schema in which each object that names its fields refuses others, unless the schema says otherwise.

    kubeconform's `-strict` leaves that to the schema, so a schema without `additionalProperties` lets typos pass.
    """
    if not isinstance(schema, Mapping):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        out[key] = _CLOSERS[key](value) if key in _CLOSERS else value
    if isinstance(schema.get("pattern"), str):
        out["pattern"] = from_go(schema["pattern"])
    combined = any(key in schema for key in ("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties"))
    properties = out.get("properties")
    if (
        isinstance(properties, Mapping)
        and properties
        and "additionalProperties" not in schema
        and "unevaluatedProperties" not in schema
        and schema.get("x-kubernetes-preserve-unknown-fields") is not True
        and not combined
    ):
        out["additionalProperties"] = False
        if root:
            out["properties"] = {**{name: {} for name in ("apiVersion", "kind", "metadata")}, **properties}
    return out


def _each(value: Any) -> Any:
    return {name: closed(entry, root=False) for name, entry in value.items()} if isinstance(value, Mapping) else value


def _one(value: Any) -> Any:
    if isinstance(value, list):
        return [closed(entry, root=False) for entry in value]
    return closed(value, root=False)


_CLOSERS: Mapping[str, Callable[[Any], Any]] = {
    "properties": _each,
    "definitions": _each,
    "$defs": _each,
    "items": _one,
    "additionalProperties": _one,
}
