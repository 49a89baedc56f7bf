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


def of_builtin(name: str, definitions: Mapping[str, Schema]) -> Plan | None:
    """The plan of a built-in definition, None if no list below it has keys."""
    return _plan({"$ref": name}, definitions, "", "", ())


def of_custom(schema: Schema) -> Plan | None:
    """The plan of a structural schema, None if no list below it has keys."""
    return _plan(schema, None, "", "", ())


def _plan(
    schema: Schema, definitions: Mapping[str, Schema] | None, owner: str, field: str, above: tuple[str, ...]
) -> Plan | None:
    if definitions is not None and "$ref" in schema:
        name = schema["$ref"]
        # A definition inside itself (JSONSchemaProps) holds no list with keys.
        if name in above:
            return None
        owner, above = name.rsplit(".", 1)[-1], (*above, name)
        schema = definitions[name]
    properties = tuple(
        (name, plan)
        for name, entry in schema.get("properties", {}).items()
        # What a manifest says in status is dropped.
        if name != "status" and (plan := _plan(entry, definitions, owner, name, above)) is not None
    )
    additional, entries = schema.get("additionalProperties"), schema.get("items")
    values = _plan(additional, definitions, owner, field, above) if isinstance(additional, Mapping) else None
    items = _plan(entries, definitions, owner, field, above) if isinstance(entries, Mapping) else None
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
    """Whether `value` holds a duplicate: the fast answer."""
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
    if len(value) > 1 and (plan.keys or plan.unique):
        known = [key for entry in value if (key := _key(plan, entry)) is not None]
        if len(set(known)) != len(known):
            return True
    items = plan.items
    return items is not None and any(any_in(items, entry) for entry in value)


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
