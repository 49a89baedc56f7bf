"""The functions of Go templates: text/template's own and those of sprig that depend on nothing but their arguments.

Sources of the facts: pkg.go.dev/text/template (Functions), masterminds.github.io/sprig, and argo-cd
applicationset/utils/template_functions.go for normalize, slugify, toYaml, fromYaml, fromYamlArray. A function that
asks a clock, a random source or a regular expression (Go's are not Python's) is not here.

Values are JSON's, as the controller holds them: float for its numbers, int for Go's own, None for nil. A StringMap is
Go's map[string]string and a tuple its []string: they print alike and are seen differently by selectors.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import posixpath
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from releasegate import yamlio

MAX_TEXT = 1_000_000  # characters that one call may make


class TemplateError(Exception):
    """The template cannot be evaluated. `str()` completes "its template …"."""


class StringMap(dict[str, str]):
    """Go's map[string]string."""


# --- printing -----------------------------------------------------------------------------------------------------


def printed(value: Any) -> str:
    """As fmt.Sprint prints it: JSON numbers are float64, so a million is 1e+06; mappings by key, nil as `<nil>`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{printed(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(printed, value))}]"
    return str(value)


def go_float(value: float) -> str:
    """fmt.Sprint(float64): strconv's 'g' with the fewest digits, which has an exponent below 1e-4 and from 1e6 on."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):
        return {"Infinity": "+Inf", "-Infinity": "-Inf"}.get(str(Decimal(repr(value))), "NaN")
    power = len(digits) + exponent - 1
    if not value or power in _WITHOUT_EXPONENT:
        return f"{Decimal(repr(value)).normalize():f}" if value else "0"
    text = "".join(map(str, digits))
    fraction = f".{text[1:]}" if text[1:] else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


_WITHOUT_EXPONENT = range(-4, 6)


def text_of(value: Any) -> str:
    """Sprig's strval: a string as it is, nil and everything else as fmt prints it."""
    return value if isinstance(value, str) else printed(value)


def _string(value: Any) -> str:
    """An argument that Go declares a string: nothing else is taken."""
    if not isinstance(value, str):
        raise TemplateError(f"{printed(value)} is no string, and Go takes nothing else there")
    return value


def _bounded(count: int, text: str) -> int:
    if count * max(len(text), 1) > MAX_TEXT:
        raise TemplateError(f"it makes more than {MAX_TEXT} characters")
    return max(count, 0)


def _replaced(old: str, new: str, text: str) -> str:
    _bounded(text.count(old), new)
    return text.replace(old, new)


def _joined(separator: str, values: list[str]) -> str:
    _bounded(len(values), separator)
    return separator.join(values)


# --- comparison ---------------------------------------------------------------------------------------------------


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    for types, name in ((int, "int"), (float, "float"), (str, "string")):
        if isinstance(value, types):
            return name
    return "nil" if value is None else "other"


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("eq needs two arguments")
    for other in others:
        kinds = _kind(first), _kind(other)
        if "other" in kinds:
            raise TemplateError("lists and mappings cannot be compared")
        if "nil" not in kinds and kinds[0] != kinds[1]:
            raise TemplateError(f"{kinds[0]} and {kinds[1]} cannot be compared: Go refuses it")
        if kinds[0] == kinds[1] and first == other:
            return True
    return False


def _lt(first: Any, other: Any) -> bool:
    kinds = _kind(first), _kind(other)
    if kinds[0] != kinds[1] or kinds[0] not in ("int", "float", "string"):
        raise TemplateError(f"{kinds[0]} and {kinds[1]} cannot be compared: Go refuses it")
    # Go compares bytes; Python code points, whose order is that of their UTF-8.
    return bool(first < other)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(_string(key), "" if isinstance(value, StringMap) else None)
        elif isinstance(value, list | tuple | str) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key] if not isinstance(value, str) else value.encode()[key]
        else:
            raise TemplateError(f"there is no {printed(key)} in {printed(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    begin, end = (*bounds, *(0, len(value))[len(bounds) :]) if len(bounds) < 2 else bounds[:2]  # noqa: PLR2004
    if not isinstance(value, list | tuple) or not 0 <= begin <= end <= len(value):  # sprig's takes no string
        raise TemplateError("the slice is out of range, or of no list")
    return value[begin:end]


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if not isinstance(value, list | tuple | Mapping):
        raise TemplateError(f"{printed(value)} has no length")
    return len(value)


# --- strings ------------------------------------------------------------------------------------------------------


def sanitized(name: str) -> str:
    """A DNS name: argo-cd's SanitizeName, which `normalize` and the …Normalized parameters are."""
    return re.sub(r"[^-a-z0-9.]", "-", name.lower())[:253].strip("-.")


def _slugify(*arguments: Any) -> str:
    """argo-cd's SlugifyName over github.com/gosimple/slug, whose input is ASCII once it is sanitized."""
    longest, smart = 50, True
    if len(arguments) > 1:
        longest = int(arguments[0])
    if len(arguments) > 2:  # noqa: PLR2004
        smart = bool(arguments[1])
    slug = re.sub(r"-+", "-", re.sub(r"[^a-z0-9-_]", "-", sanitized(_string(arguments[-1])))).strip("-_")
    if len(slug) <= longest or longest <= 0:
        return slug
    if not smart:
        return slug[:longest].strip("-_")
    kept = ""
    for word in slug.split("-"):
        if len(kept) + len(word) + bool(kept) > longest:
            break
        kept = f"{kept}-{word}" if kept else word
    return kept or slug[:longest]


def _indent(count: int, text: str) -> str:
    pad = " " * _bounded(count, "")
    _bounded(text.count("\n") + 1, pad)
    return pad + _string(text).replace("\n", f"\n{pad}")


def _trunc(count: int, text: str) -> str:
    if count < 0 and len(text) + count > 0:
        return text[count:]
    return text[:count] if 0 <= count < len(text) else text


def _title(text: str) -> str:
    return re.sub(r"(?:^|(?<=[^\w']))\w", lambda found: found[0].upper(), text)


def _go_quoted(text: str) -> str:
    """strconv.Quote."""
    made = []
    named = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    for char in text:
        if char in '"\\':
            made.append(f"\\{char}")
        elif char in named:
            made.append(named[char])
        elif char.isprintable():
            made.append(char)
        else:
            code = ord(char)
            made.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")  # noqa: PLR2004
    return f'"{"".join(made)}"'


def _split(separator: str, text: str) -> dict[str, str]:
    return StringMap({f"_{index}": part for index, part in enumerate(_parts(separator, text))})


def _parts(separator: str, text: str, count: int = -1) -> list[str]:
    """strings.Split and SplitN."""
    if not separator:
        return list(text)
    return text.split(separator, count - 1) if count > 0 else text.split(separator)


def _strings(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [text_of(one) for one in value if one is not None]
    return [] if value is None else [text_of(value)]


def _printf(form: str, *arguments: Any) -> str:
    """The verbs people write: %s %v %d %q %t %%, with width and zeros; others are refused."""
    given = iter(arguments)
    missing = object()

    def one(found: re.Match[str]) -> str:
        flags, width, verb = found["flags"], found["width"], found["verb"]
        if verb == "%":
            return "%"
        value: Any = next(given, missing)
        fits = {
            "s": isinstance(value, str), "v": True, "d": isinstance(value, int) and not isinstance(value, bool),
            "q": isinstance(value, str), "t": isinstance(value, bool),
        }  # fmt: skip
        if value is missing or not fits.get(verb, False) or found["precision"]:
            raise TemplateError(f"printf {form!r} is not evaluated for these arguments")
        text = _go_quoted(value) if verb == "q" else printed(value)
        size = _bounded(int(width or 0), "")
        if "0" in flags and verb == "d":
            return text.zfill(size)
        return text.ljust(size) if "-" in flags else text.rjust(size)

    made = re.sub(r"%(?P<flags>[-+# 0]*)(?P<width>\d{0,4})(?P<precision>\.\d*)?(?P<verb>.)", one, form)
    if next(given, missing) is not missing:
        raise TemplateError(f"printf {form!r} has more arguments than verbs")
    return made


def _print(*arguments: Any) -> str:
    """fmt.Sprint: a space between two that are no strings."""
    made = ""
    for index, value in enumerate(arguments):
        if index and not isinstance(value, str) and not isinstance(arguments[index - 1], str):
            made += " "
        made += printed(value)
    return made


# --- lists and mappings -------------------------------------------------------------------------------------------


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TemplateError(f"{printed(value)} is no list")
    return list(value)


def _default(fallback: Any, value: Any = None) -> Any:
    return value or fallback


def _is_empty(value: Any) -> bool:
    return not value


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value), None)


def _dict(*pairs: Any) -> dict[str, Any]:
    return {
        text_of(pairs[index]): pairs[index + 1] if index + 1 < len(pairs) else "" for index in range(0, len(pairs), 2)
    }


def _set(target: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    target[_string(key)] = value
    return target


def _unset(target: dict[str, Any], key: str) -> dict[str, Any]:
    target.pop(_string(key), None)
    return target


def _get(target: Mapping[str, Any], key: str) -> Any:
    return target.get(key, "")


def _dig(*arguments: Any) -> Any:
    *keys, fallback, value = arguments
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return fallback
        value = value[key]
    return value


def _pluck(key: str, *targets: Mapping[str, Any]) -> list[Any]:
    return [one[key] for one in targets if key in one]


def merged(target: Any, source: Any, *, override: bool) -> Any:
    """mergo.Merge of two mappings: nested ones are merged; otherwise the source wins with `override`, else gaps fill."""
    if not isinstance(target, Mapping) or not isinstance(source, Mapping):
        return source
    made = type(target)(target) if isinstance(target, StringMap) and isinstance(source, StringMap) else dict(target)
    for key, value in source.items():
        old = made.get(key)
        if isinstance(old, Mapping) and old and isinstance(value, Mapping):
            made[key] = merged(old, value, override=override)
        elif override or key not in made or not old:
            made[key] = value
    return made


def _merge(target: dict[str, Any], *sources: Mapping[str, Any], override: bool) -> dict[str, Any]:
    for source in sources:
        target.update(merged(target, source, override=override))
    return target


def _until(*bounds: int) -> list[int]:
    made = range(*bounds)
    _bounded(len(made), "")
    return list(made)


def _uniq(values: Any) -> list[Any]:
    made: list[Any] = []
    for value in _list(values):
        if not any(_same(value, other) for other in made):
            made.append(value)
    return made


def _same(one: Any, other: Any) -> bool:
    """reflect.DeepEqual: 1 is not 1.0, and true is not 1."""
    return type(one) is type(other) and one == other


def _has(needle: Any, values: Any) -> bool:
    return values is not None and any(_same(needle, value) for value in _list(values))


# --- numbers ------------------------------------------------------------------------------------------------------


def _wrapped(value: int) -> int:
    """An int64, which wraps."""
    return (value + 2**63) % 2**64 - 2**63


def _int(value: Any) -> int:
    """Sprig's toInt64 (github.com/spf13/cast): what is no number is 0."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return math.trunc(value) if math.isfinite(value) else 0
    if isinstance(value, str):
        found = re.fullmatch(r"([+-]?)(?:(0|[1-9]\d{0,17})|0[xX]([\da-fA-F]{1,15})|0[oO]?([0-7]{1,20}))", value)
        if found is None:
            return 0
        _, decimal, hexadecimal, octal = found.groups()
        size = int(decimal) if decimal else int(hexadecimal, 16) if hexadecimal else int(octal, 8)
        return -size if found[1] == "-" else size
    return 0


def _float(value: Any) -> float:
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"[+-]?\d{1,300}(?:\.\d{1,300})?", value) else 0.0
    return float(value) if isinstance(value, int | float) else 0.0


def _sum(*values: Any) -> int:
    return _wrapped(sum(map(_int, values)))


def _product(*values: Any) -> int:
    return _wrapped(math.prod(map(_int, values)))


def _divided(one: Any, other: Any) -> int:
    return math.trunc(_int(one) / _int(other)) if abs(_int(one)) < 2**53 else _int(one) // _int(other)


def _remainder(one: Any, other: Any) -> int:
    return _int(one) - _int(other) * _divided(one, other)


# --- documents ----------------------------------------------------------------------------------------------------


def _json(value: Any, *, indent: int | None = None, html: bool = True) -> str:
    text = json.dumps(
        _plain(value),
        ensure_ascii=False,
        sort_keys=True,
        indent=indent,
        separators=(",", ":") if indent is None else (",", ": "),
    )
    for char in "<>&\u2028\u2029" if html else "\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _plain(value: Any) -> Any:
    """As encoding/json writes it: 2.0 is 2."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:  # noqa: PLR2004
        return int(value)
    if isinstance(value, Mapping):
        return {text_of(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _from_json(text: str) -> Any:
    try:
        return as_json(json.loads(text))
    except ValueError:
        return None


def _from_yaml(text: str, kind: type, empty: Any) -> Any:
    try:
        value = yamlio.load(text)
    except yamlio.YamlError as error:
        raise TemplateError(f"the text is no YAML: {error.message}") from error
    if value is not None and not isinstance(value, kind):
        raise TemplateError("the text is YAML of another type")
    return empty if value is None else as_json(value)


def as_json(value: Any) -> Any:
    """The value as Go's decoder makes it of JSON: every number a float64."""
    if isinstance(value, bool) or value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return float(value) if abs(value) < 10**308 else math.inf
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list | tuple) else value


def _to_yaml(value: Any) -> str:
    return yamlio.dump(_plain(value)).removesuffix("\n")


def _fail(message: str) -> str:
    raise TemplateError(f"it fails: {message}")


def _go_kind(value: Any) -> str:
    kind = _kind(value)
    if kind == "other":
        return "map" if isinstance(value, Mapping) else "slice"
    return {"float": "float64", "nil": "invalid"}.get(kind, kind)


def as_copy(value: Any) -> Any:
    """A deep copy."""
    if isinstance(value, StringMap):
        return StringMap(value)
    if isinstance(value, Mapping):
        return {key: as_copy(one) for key, one in value.items()}
    return [as_copy(one) for one in value] if isinstance(value, list) else value


# --- by name ------------------------------------------------------------------------------------------------------

_LANGUAGE: Mapping[str, Callable[..., Any]] = {
    "eq": _eq,
    "ne": lambda one, other: not _eq(one, other),
    "lt": _lt,
    "le": lambda one, other: _lt(one, other) or _eq(one, other),
    "gt": lambda one, other: not (_lt(one, other) or _eq(one, other)),
    "ge": lambda one, other: not _lt(one, other),
    "not": lambda value: not value,
    "and": lambda *values: values[-1],  # the evaluation stops at what decides
    "or": lambda *values: values[-1],
    "index": _index,
    "slice": _slice,
    "len": _len,
    "print": _print,
    "println": lambda *values: " ".join(map(printed, values)) + "\n",
    "printf": _printf,
}
_STRINGS: Mapping[str, Callable[..., Any]] = {
    "lower": lambda text: _string(text).lower(),
    "upper": lambda text: _string(text).upper(),
    "title": lambda text: _title(_string(text)),
    "untitle": lambda text: re.sub(r"\b\w", lambda found: found[0].lower(), _string(text)),
    "trim": lambda text: _string(text).strip(),
    "trimAll": lambda chars, text: _string(text).strip(_string(chars)),
    "trimPrefix": lambda prefix, text: _string(text).removeprefix(_string(prefix)),
    "trimSuffix": lambda suffix, text: _string(text).removesuffix(_string(suffix)),
    "nospace": lambda text: re.sub(r"\s", "", _string(text)),
    "replace": lambda old, new, text: _replaced(_string(old), _string(new), _string(text)),
    "contains": lambda part, text: _string(part) in _string(text),
    "hasPrefix": lambda part, text: _string(text).startswith(_string(part)),
    "hasSuffix": lambda part, text: _string(text).endswith(_string(part)),
    "repeat": lambda count, text: _string(text) * _bounded(count, text),
    "trunc": lambda count, text: _trunc(count, _string(text)),
    "substr": lambda begin, end, text: text[:end] if begin < 0 else text[begin:] if end < 0 else text[begin:end],
    "indent": _indent,
    "nindent": lambda count, text: "\n" + _indent(count, text),
    "quote": lambda *values: " ".join(_go_quoted(text_of(one)) for one in values if one is not None),
    "squote": lambda *values: " ".join(f"'{printed(one)}'" for one in values if one is not None),
    "cat": lambda *values: " ".join(printed(one) for one in values if one is not None),
    "toString": text_of,
    "split": _split,
    "splitList": lambda separator, text: tuple(_parts(separator, _string(text))),
    "splitn": lambda separator, count, text: StringMap(
        {f"_{index}": part for index, part in enumerate(_parts(separator, _string(text), count))}
    ),
    "join": lambda separator, values: _joined(_string(separator), list(_strings(values))),
    "toStrings": lambda values: tuple(_strings(values)),
    "sortAlpha": lambda values: tuple(sorted(_strings(values))),
    "b64enc": lambda text: base64.b64encode(_string(text).encode()).decode(),
    "b64dec": lambda text: base64.b64decode(_string(text), validate=True).decode(),
    "sha1sum": lambda text: hashlib.sha1(_string(text).encode(), usedforsecurity=False).hexdigest(),
    "sha256sum": lambda text: hashlib.sha256(_string(text).encode()).hexdigest(),
    "normalize": lambda text: sanitized(_string(text)),
    "slugify": _slugify,
    "dir": lambda text: posixpath.normpath(posixpath.dirname(_string(text)) or "."),
    "base": lambda text: posixpath.basename(_string(text).rstrip("/")) or ("/" if text else "."),
    "ext": lambda text: posixpath.splitext(f"x{posixpath.basename(_string(text))}")[1],
    "clean": lambda text: posixpath.normpath(_string(text) or "."),
}
_COLLECTIONS: Mapping[str, Callable[..., Any]] = {
    "default": _default,
    "empty": _is_empty,
    "coalesce": _coalesce,
    "ternary": lambda one, other, decides: one if decides is True else other,
    "list": lambda *values: list(values),
    "tuple": lambda *values: list(values),
    "first": lambda values: next(iter(_list(values)), None),
    "last": lambda values: next(iter(_list(values)[::-1]), None),
    "rest": lambda values: _list(values)[1:],
    "initial": lambda values: _list(values)[:-1],
    "append": lambda values, one: [*_list(values), one],
    "push": lambda values, one: [*_list(values), one],
    "prepend": lambda values, one: [one, *_list(values)],
    "concat": lambda *lists: [one for values in lists for one in _list(values)],
    "reverse": lambda values: _list(values)[::-1],
    "uniq": _uniq,
    "compact": lambda values: [one for one in _list(values) if one],
    "has": _has,
    "without": lambda values, *gone: [one for one in _list(values) if not _has(one, list(gone))],
    "dict": _dict,
    "get": _get,
    "set": _set,
    "unset": _unset,
    "hasKey": lambda target, key: _string(key) in target,
    "dig": _dig,
    "pluck": _pluck,
    "keys": lambda *targets: sorted(key for one in targets for key in one),
    "values": lambda target: [target[key] for key in sorted(target)],
    "pick": lambda target, *names: {key: target[key] for key in names if key in target},
    "omit": lambda target, *names: {key: one for key, one in target.items() if key not in names},
    "merge": functools.partial(_merge, override=False),
    "mergeOverwrite": functools.partial(_merge, override=True),
    "deepCopy": as_copy,
    "kindOf": _go_kind,
    "kindIs": lambda name, value: name == _go_kind(value),
}
_NUMBERS_AND_DOCUMENTS: Mapping[str, Callable[..., Any]] = {
    "int": _int,
    "int64": _int,
    "float64": _float,
    "atoi": _int,
    "add": _sum,
    "add1": lambda value: _sum(value, 1),
    "sub": lambda one, other: _wrapped(_int(one) - _int(other)),
    "mul": _product,
    "div": _divided,
    "mod": _remainder,
    "max": lambda *values: max(map(_int, values)),
    "min": lambda *values: min(map(_int, values)),
    "floor": lambda value: float(math.floor(_float(value))),
    "ceil": lambda value: float(math.ceil(_float(value))),
    "until": lambda count: _until(0, count, 1 if count >= 0 else -1),
    "untilStep": lambda begin, end, step: _until(begin, end, step) if step else [],
    "toJson": _json,
    "toRawJson": functools.partial(_json, html=False),
    "toPrettyJson": functools.partial(_json, indent=2),
    "fromJson": _from_json,
    "toYaml": _to_yaml,
    "fromYaml": lambda text: _from_yaml(_string(text), dict, {}),
    "fromYamlArray": lambda text: _from_yaml(_string(text), list, []),
    "fail": _fail,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {**_LANGUAGE, **_STRINGS, **_COLLECTIONS, **_NUMBERS_AND_DOCUMENTS}
