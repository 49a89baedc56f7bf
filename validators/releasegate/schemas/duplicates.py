"""Lists that are maps or sets: two entries with the same key.

JSON Schema cannot say `x-kubernetes-list-map-keys`, so a plan per kind walks only to the lists that have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

# Lists of built-in kinds whose duplicates the API server refuses on create (pkg/apis/*/validation). Duplicates in
# others (env, container ports, imagePullSecrets, hostAliases, …) are stored; server-side apply refuses them, and a
# patch loses one of the two (kubernetes/kubernetes#58477, #65106): they are advice.
_REFUSED = frozenset(
    {
        ("PodSpec", "containers"),
        ("PodSpec", "initContainers"),
        ("PodSpec", "ephemeralContainers"),
        ("PodSpec", "volumes"),
        ("PodSpec", "resourceClaims"),
        ("PodSpec", "schedulingGates"),
        ("PodSpec", "topologySpreadConstraints"),
        ("Container", "volumeMounts"),
        ("Container", "volumeDevices"),
        ("EphemeralContainer", "volumeMounts"),
        ("EphemeralContainer", "volumeDevices"),
        ("ServiceSpec", "ports"),
        ("MutatingWebhookConfiguration", "webhooks"),
        ("ValidatingWebhookConfiguration", "webhooks"),
        ("MutatingWebhook", "matchConditions"),
        ("ValidatingWebhook", "matchConditions"),
        ("ValidatingAdmissionPolicySpec", "matchConditions"),
        ("ValidatingAdmissionPolicySpec", "variables"),
        ("MutatingAdmissionPolicySpec", "matchConditions"),
        ("MutatingAdmissionPolicySpec", "variables"),
    }
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where below a value lists with keys are. `keys` are (field, default) pairs of the list this plan is about."""

    properties: tuple[tuple[str, Plan], ...] = ()
    items: Plan | None = None
    values: Plan | None = None
    keys: tuple[tuple[str, Any], ...] = ()
    unique: bool = False
    refused: bool = True


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Entry `index` of the list at `path` repeats entry `first`. `keys` are the equal fields with their values, () in a set."""

    path: tuple[str | int, ...]
    index: int
    first: int
    keys: tuple[tuple[str, Any], ...]
    value: Any
    refused: bool


def of_builtin(name: str, definitions: Mapping[str, Schema], kept: dict[str, Plan | None]) -> Plan | None:
    """The plan of a built-in kind's definition, None if no list below it has keys. `kept` holds those made before."""
    return _plan(_without_status(definitions[name]), definitions, kept, name.rsplit(".", 1)[-1], "")


def of_custom(schema: Schema) -> Plan | None:
    """The plan of a structural schema, None if no list below it has keys."""
    return _plan(_without_status(schema), None, {}, "", "")


def _without_status(schema: Schema) -> Schema:
    """What a manifest says in status is dropped by the API server."""
    properties = schema.get("properties", {})
    return {**schema, "properties": {name: entry for name, entry in properties.items() if name != "status"}}


def _plan(
    schema: Schema, definitions: Mapping[str, Schema] | None, kept: dict[str, Plan | None], owner: str, field: str
) -> Plan | None:
    if definitions is not None and "$ref" in schema:
        name = schema["$ref"]
        if name not in kept:
            kept[name] = None  # a definition inside itself (JSONSchemaProps): it holds no list with keys
            kept[name] = _plan(definitions[name], definitions, kept, name.rsplit(".", 1)[-1], "")
        return kept[name]
    properties = tuple(
        (name, plan)
        for name, entry in schema.get("properties", {}).items()
        if (plan := _plan(entry, definitions, kept, owner, name)) is not None
    )
    additional, entries = schema.get("additionalProperties"), schema.get("items")
    values = _plan(additional, definitions, kept, owner, field) if isinstance(additional, Mapping) else None
    items = _plan(entries, definitions, kept, owner, field) if isinstance(entries, Mapping) else None
    keys: tuple[tuple[str, Any], ...] = ()
    unique = False
    if schema.get("x-kubernetes-list-type") == "map" and isinstance(entries, Mapping):
        entry = definitions[entries["$ref"]] if definitions is not None and "$ref" in entries else entries
        fields = entry.get("properties", {})
        keys = tuple((key, fields.get(key, {}).get("default")) for key in schema["x-kubernetes-list-map-keys"])
    elif schema.get("x-kubernetes-list-type") == "set" and definitions is None:
        unique = True
    if not (properties or items or values or keys or unique):
        return None
    refused = definitions is None or (owner, field) in _REFUSED
    return Plan(properties=properties, items=items, values=values, keys=keys, unique=unique, refused=refused)


def any_in(plan: Plan, value: Any) -> bool:
    """Whether `value` may hold a duplicate: the fast answer, never a wrong no."""
    if isinstance(value, dict):
        for name, below in plan.properties:
            found = value.get(name)
            if found and any_in(below, found):
                return True
        if plan.values is not None:
            return any(any_in(plan.values, entry) for entry in value.values())
        return False
    if not isinstance(value, list):
        return False
    if len(value) > 1 and (plan.keys or plan.unique) and not _surely_distinct(plan, value):
        return True
    items = plan.items
    return items is not None and any(any_in(items, entry) for entry in value)


def _surely_distinct(plan: Plan, value: list[Any]) -> bool:
    try:
        if plan.unique:
            distinct: set[Any] = set(value)
        elif len(plan.keys) == 1:
            name = plan.keys[0][0]
            distinct = {entry[name] for entry in value}
        else:
            distinct = {tuple([entry.get(name, default) for name, default in plan.keys]) for entry in value}
    except (AttributeError, KeyError, TypeError):  # a key is missing or no scalar: `all_in` tells
        return False
    return len(distinct) == len(value)


def all_in(plan: Plan, value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Duplicate]:
    """Every duplicate in `value`, in the order of the lists."""
    if isinstance(value, dict):
        for name, below in plan.properties:
            if name in value:
                yield from all_in(below, value[name], (*path, name))
        if plan.values is not None:
            for name, entry in value.items():
                yield from all_in(plan.values, entry, (*path, name))
    elif isinstance(value, list):
        seen: dict[Any, int] = {}
        for index, entry in enumerate(value):
            key = _key(plan, entry) if plan.keys or plan.unique else None
            if key is not None and seen.setdefault(key, index) != index:
                keys = tuple((name, entry.get(name, default)) for name, default in plan.keys)
                yield Duplicate(path, index, seen[key], keys, entry, plan.refused)
            if plan.items is not None:
                yield from all_in(plan.items, entry, (*path, index))


def _key(plan: Plan, entry: Any) -> Any:
    """What must be unique, None where it cannot be told (a key is missing: that is another problem)."""
    if plan.unique:
        return _hashable(entry)
    if not isinstance(entry, dict):
        return None
    if len(plan.keys) == 1:
        name, default = plan.keys[0]
        return _hashable(entry.get(name, default))
    parts: Sequence[Any] = [_hashable(entry.get(name, default)) for name, default in plan.keys]
    return None if None in parts else tuple(parts)


def _hashable(value: Any) -> Any:
    """Equal for equal JSON values; True and 1 differ."""
    if isinstance(value, (dict, list)):
        return repr(value)
    return (value,) if isinstance(value, bool) else value
