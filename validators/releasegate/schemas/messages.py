"""What jsonschema-rs found, in words a person can act on: every problem, at its exact place, with what to write."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate.schemas import convert
from releasegate.schemas.duplicates import Duplicate

Path = Sequence[str | int]
_SHOWN = 60
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_LISTED = 8
_HOMES = 3
_DEEP = 3  # levels below in which a lost field is looked for
_HOPS = 9  # a reference to a reference to …: a loop otherwise


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a schema objects to.

    `pointer` is the JSON pointer of the value at fault, or of the object a field is missing in; `value` is what is
    there. `keyword` is the JSON Schema keyword, or `x-kubernetes-list-map-keys`. `change` names the edit without
    saying where, equal for equal faults. `advice`: the API server takes it, and it does not do what it says.
    """

    pointer: str
    message: str
    help: str
    value: Any
    keyword: str
    change: str = ""
    advice: bool = False


def pointer(path: Path) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def of_errors(errors: Iterable[Any], schema: Mapping[str, Any], body: Any, *, secret: bool) -> list[Problem]:
    """Problems of all `errors` that jsonschema-rs reports about `body`, in its order, each once.

    `secret`: values under /data and /stringData are never shown.
    """
    problems: dict[tuple[str, str, str], Problem] = {}
    for error in errors:
        for problem in _of_error(error, schema, body, secret=secret):
            problems.setdefault((problem.pointer, problem.keyword, problem.message), problem)
    # A misspelled field that has to be there is unknown and missing: one mistake, told once.
    misspelled = {
        (one.pointer.rpartition("/")[0], f"add the field {one.change.rpartition(' to ')[2]}")
        for one in problems.values()
        if one.change.startswith("rename field ")
    }
    return [one for one in problems.values() if (one.pointer, one.change) not in misspelled]


def of_duplicate(duplicate: Duplicate) -> Problem:
    """The problem of an entry that repeats another one's key."""
    field = _field(duplicate.path)
    number = f"entry {duplicate.index + 1} of {field} repeats entry {duplicate.first + 1}"
    if duplicate.keys:
        said = f"{number}: " + ", ".join(f"{key} {show(value)}" for key, value in duplicate.keys)
        keyword = "x-kubernetes-list-map-keys"
    else:
        said = f"{number}: {show(duplicate.value)}"
        keyword = "x-kubernetes-list-type"
    if not duplicate.refused:
        said += "; an apply may drop one of them, and server-side apply refuses both"
    return Problem(
        pointer=pointer((*duplicate.path, duplicate.index)),
        message=said,
        help="remove one of the two, or give it another name" if duplicate.keys else "remove one of the two",
        value=duplicate.value,
        keyword=keyword,
        change=f"remove the duplicate entry of {field}",
        advice=not duplicate.refused,
    )


def show(value: Any) -> str:
    """A value as JSON in a message, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _got(value: Any, *, secret: bool) -> str:
    kind = _kind_of(value)
    if kind in {"null", "array", "object"}:
        return kind
    return f"{kind} (hidden)" if secret else f"{kind} {show(value)}"


def at(body: Any, path: Path) -> Any:
    """The value at `path`; None where there is none."""
    for part in path:
        try:
            body = body[part]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def _field(path: Path) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "the object")


# --- the schema around an error -------------------------------------------------------------------------------------


def _resolved(node: Any, root: Mapping[str, Any]) -> Any:
    hops = 0
    while (
        isinstance(node, Mapping)
        and isinstance(node.get("$ref"), str)
        and node["$ref"].startswith("#/")
        and hops < _HOPS
    ):
        found: Any = root
        for part in node["$ref"][2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        node, hops = found, hops + 1
    return node


def _trail(root: Mapping[str, Any], path: Path) -> list[tuple[Any, int]]:
    """The schema nodes from the root to the one whose keyword failed, along an evaluation path.

    Each with the length of the instance path it judges.
    """
    node: Any = root
    depth = 0
    trail = [(node, depth)]
    parts = iter(path[:-1])
    for part in parts:
        if part == "$ref":
            node = _resolved(node, root)
        else:
            if part == "properties":
                node, part = node.get(part, {}), next(parts, "")  # noqa: PLW2901
                depth += 1
            elif part in {"items", "additionalProperties"}:
                depth += 1
            node = _step(node, part)
        trail.append((node, depth))
    return trail


def _step(node: Any, part: str | int) -> Any:
    if isinstance(node, Mapping):
        return node.get(str(part), {})
    return node[part] if isinstance(node, list) and isinstance(part, int) and part < len(node) else {}


def _properties(node: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    node = _resolved(node, root)
    found = node.get("properties", {}) if isinstance(node, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


# --- one error ------------------------------------------------------------------------------------------------------


def _of_error(error: Any, root: Mapping[str, Any], body: Any, *, secret: bool) -> Iterator[Problem]:
    keyword = error.kind.name
    path = list(error.instance_path)
    trail = _trail(root, error.evaluation_path)
    if keyword == "additionalProperties":
        for field in error.kind.unexpected:
            yield _unknown(field, path, trail, root, body, secret=secret)
        return
    node = trail[-1][0] if isinstance(trail[-1][0], Mapping) else {}
    value = at(body, path)
    hidden = secret and path[:1] in (["data"], ["stringData"])
    kept = _digest(value) if hidden else value
    said, advice, change = _said(error, keyword, node, path, value, hidden=hidden)
    yield Problem(pointer(path), said, advice, kept, keyword, change)


def _digest(value: Any) -> str:
    return "sha256:" + hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _said(
    error: Any, keyword: str, node: Mapping[str, Any], path: Path, value: Any, *, hidden: bool
) -> tuple[str, str, str]:
    """(message, help, change)."""
    field = _field(path)
    shown = "the value (hidden)" if hidden else show(value)
    if keyword == "type":
        return _wrong_type(node, field, value, hidden=hidden)
    if keyword == "required":
        missing = error.kind.value if isinstance(error.kind.value, str) else getattr(error.kind, "property", "")
        # A null counts as missing where the schema prunes it.
        return f"missing required field {missing}", f"write {missing} here", f"add the field {missing}"
    if keyword == "enum":
        return _not_in(node, field, value, shown)
    if keyword == "format":
        return _wrong_format(str(error.kind.value or node.get("format")), field, shown)
    if keyword == "pattern":
        if node.get("pattern") == convert.QUANTITY:
            hint = "write a number with an optional unit: 500m, 1.5, 128Mi, 1Gi"
            return f"{shown} is not a quantity", hint, f"write a quantity in {field}"
        said = f"{shown} does not match the pattern {node.get('pattern')}"
        return said, "write a value that matches the pattern", f"match the pattern in {field}"
    if keyword in {"minimum", "maximum"} and (range_of := _integer_range(node)):
        hint = f"write a number from {range_of[1][0]} to {range_of[1][1]}"
        return f"{shown} is out of the range of {range_of[0]}", hint, f"write an {range_of[0]} in {field}"
    if keyword in {"anyOf", "oneOf"}:
        return _no_alternative(error, keyword, field)
    if keyword == "falseSchema":
        return f"{field} is not allowed here", f"remove {field}", f"remove field {field}"
    said = "the value (hidden) breaks the schema" if hidden else str(error.message)
    said = said if len(said) <= 4 * _SHOWN else f"{said[: 4 * _SHOWN]}…"
    return said, f"write what the schema's `{keyword}` asks for", f"meet {keyword} in {field}"


def _integer_range(node: Mapping[str, Any]) -> tuple[str, tuple[int, int]] | None:
    bounds = (node.get("minimum"), node.get("maximum"))
    for name, known in (("int32", convert.INT32), ("int64", convert.INT64)):
        if bounds == known:
            return name, known
    return None


def _wrong_type(node: Mapping[str, Any], field: str, value: Any, *, hidden: bool) -> tuple[str, str, str]:
    types = node.get("type", [])
    types = [types] if isinstance(types, str) else list(types)
    expected = " or ".join(types)
    said = f"expected {expected}, got {_got(value, secret=hidden)}"
    plain = " or ".join(kind for kind in types if kind != "null")
    change = f"write {plain}, not {_kind_of(value)}, in {field}"
    return said, _hint(types, field, value, hidden=hidden), change


def _hint(types: Sequence[str], field: str, value: Any, *, hidden: bool) -> str:
    shown = "the value" if hidden else show(value)
    match value:
        case str() if {"integer", "number"} & set(types) and _NUMBER.fullmatch(value):
            return f"write {value} without quotes" if "number" in types or "." not in value else "write a whole number"
        case str() if "boolean" in types and value.lower() in {"true", "false"}:
            return f"write {value.lower()} without quotes"
        case str() if "object" in types:
            return f"write fields below {field}, not text"
        case str() if "array" in types:
            return f'write a list below {field}: begin each entry with "- "'
        case bool() | int() | float() if "string" in types:
            quoted = "it" if hidden else f'"{shown}"'
            return f"write {quoted} in quotes; in a template pipe it through `quote`"
        case float() if "integer" in types:
            return "write a whole number"
        case dict() if "array" in types:
            return f'write a list below {field}: begin each entry with "- "'
        case list() if "object" in types:
            return f'write fields below {field}, without "- "'
        case None:
            return f"give {field} a value, or remove it"
    plain = [kind for kind in types if kind != "null"]
    article = "an" if plain and plain[0][0] in "aeio" else "a"
    return f"write {article} {' or '.join(plain)}"


def _not_in(node: Mapping[str, Any], field: str, value: Any, shown: str) -> tuple[str, str, str]:
    options = [option for option in node.get("enum", ()) if option not in ("", None)]
    listed = ", ".join(option if isinstance(option, str) else show(option) for option in options)
    said = f"{shown} is not one of {listed}"
    near = _near(value, [option for option in options if isinstance(option, str)])
    if near:
        return f"{said}; did you mean {near}?", f"write {near}", f"write {near} in {field}"
    return said, f"write one of {listed}", f"write one of {listed} in {field}"


def _wrong_format(name: str, field: str, shown: str) -> tuple[str, str, str]:
    hints = {
        "date-time": ("a date and time of RFC 3339", "write one like 2026-01-31T12:00:00Z"),
        "byte": ("base64", "encode it (`b64enc` in a template), or move it to stringData"),
        "duration": ("a duration", "write one like 30s, 5m or 1h30m"),
    }
    what, hint = hints.get(name, (f"a valid {name}", f"write a valid {name}"))
    return f"{shown} is not {what}", hint, f"write {what} in {field}"


def _no_alternative(error: Any, keyword: str, field: str) -> tuple[str, str, str]:
    """One message for all alternatives: what the nearest of them asks for."""
    branches = [branch for branch in (getattr(error.kind, "context", None) or []) if branch]
    change = f"meet {keyword} in {field}"
    if not branches:
        return f"{field} matches more than one alternative, and only one may match", "keep one of them", change
    nearest = min(branches, key=lambda branch: (len(branch), -max(len(entry.instance_path) for entry in branch)))
    asked = [entry.kind.property for entry in nearest if entry.kind.name == "required"]
    every = [[entry.kind.property for entry in branch if entry.kind.name == "required"] for branch in branches]
    if all(every):
        options = " or ".join(dict.fromkeys(" and ".join(fields) for fields in every))
        return f"{field} needs {options}", f"write {options}", change
    hint = f"write {' and '.join(asked)}" if asked else "write what one of the alternatives asks for"
    return f"{field} fits none of {len(branches)} alternatives; nearest: {nearest[0].message}", hint, change


def _near(name: Any, known: Sequence[str]) -> str | None:
    if not isinstance(name, str):
        return None
    folded = {entry.casefold(): entry for entry in reversed(known)}
    if name.casefold() in folded:
        return folded[name.casefold()]
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return found[0] if found else None


def _unknown(
    field: str, path: Path, trail: Sequence[tuple[Any, int]], root: Mapping[str, Any], body: Any, *, secret: bool
) -> Problem:
    value = at(body, [*path, field])
    if secret and (path[:1] in (["data"], ["stringData"]) or field in {"data", "stringData"}):
        value = _digest(value)
    known = _properties(trail[-1][0], root)
    present = at(body, path)
    said, hint, change = f"unknown field {field}", f"remove {field}", f"remove field {field}"
    near = _near(field, [name for name in known if not isinstance(present, Mapping) or name not in present])
    home = None if near else _home(field, path, trail, root)
    if near:
        said += f"; did you mean {near}?"
        hint, change = f"write {near} instead of {field}", f"rename field {field} to {near}"
    elif home is not None:
        said += f"; it is a field of {home}"
        hint = f"move {field} to {home}: the indentation is wrong"
        change = f"move field {field} to {home}"
    elif known and len(known) <= _LISTED:
        hint += f"; known here: {', '.join(sorted(known))}"
    return Problem(pointer([*path, field]), said, hint, value, "additionalProperties", change)


def _home(field: str, path: Path, trail: Sequence[tuple[Any, int]], root: Mapping[str, Any]) -> str | None:
    """The object just below or above that has this field: where wrong indentation took it from."""
    below = []
    for name, node in _properties(trail[-1][0], root).items():
        entry = _resolved(node, root)
        if field in _properties(entry, root):
            below.append(name)
        elif isinstance(entry, Mapping) and field in _properties(entry.get("items"), root):
            below.append(f"{name}[]")
    if "containers[]" in below:  # of the three lists of containers it is this one
        return _dotted([*path, "containers[]"])
    if 0 < len(below) <= _HOMES:
        return " or ".join(_dotted([*path, name]) for name in below)
    for node, depth in reversed(trail):
        if depth < len(path) and field in _properties(node, root):
            return _dotted(path[:depth])
    return _deeper_home(field, path, trail[-1][0], root)


def _deeper_home(field: str, path: Path, node: Any, root: Mapping[str, Any]) -> str | None:
    """The one object some levels below that has this field: `spec.valueFiles` belongs to `spec.source.helm`.

    Lists and pod specs are left out: which of their entries is meant, nobody can say.
    """
    level = [(list(path), node)]
    for _ in range(_DEEP):
        level = [
            ([*names, name], child)
            for names, above in level
            for name, child in _properties(above, root).items()
            if "containers" not in _properties(child, root)
        ]
        homes = [names for names, child in level if field in _properties(child, root)]
        if homes:
            return _dotted(homes[0]) if len(homes) == 1 else None
    return None


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the object itself"
