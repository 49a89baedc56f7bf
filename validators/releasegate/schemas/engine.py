"""jsonschema-rs, set up so that it opens nothing and takes linear time.

A `$ref` to anything that is not inside the schema fails when the schema is compiled (`offline`); patterns run in
Rust's `regex`, which knows no backtracking, like the RE2 of the API server.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs

_SHOWN = 160
_GO_DURATION = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
# k8s.io/kube-openapi/pkg/validation/strfmt/duration.go also reads "5 minutes", "2d", "1w".
_LONG_DURATION = re.compile(
    r"(?:[0-9]+\s*(?:ns|nano[a-z]*|us|µs|micro[a-z]*|ms|milli[a-z]*|s|sec[a-z]*|m|min[a-z]*|h|hr|hour[a-z]*"
    r"|d|day[a-z]*|w|wk|week[a-z]*)\s*)+",
    re.IGNORECASE,
)
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}")


class SchemaError(ValueError):
    """A schema that cannot be compiled: malformed, or referring to something outside itself."""


def is_byte(text: Any) -> bool:
    """Base64 as Go's encoding/json reads `[]byte`: standard alphabet, padded, line breaks allowed."""
    if not isinstance(text, str):
        return True
    try:
        base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def is_duration(text: Any) -> bool:
    """A duration as the API server reads it in custom kinds: `1h30m`, also `5 minutes` or `2d`."""
    if not isinstance(text, str):
        return True
    return bool(_GO_DURATION.fullmatch(text) or _LONG_DURATION.fullmatch(text))


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda text: not isinstance(text, str) or pattern.fullmatch(text) is not None


# Formats a CustomResourceDefinition may name beyond those of draft 7 (types_jsonschema.go, field Format).
FORMATS: Mapping[str, Callable[[Any], bool]] = {
    "byte": is_byte,
    "duration": is_duration,
    "mac": _matches(_MAC),
    "uuid": _matches(_UUID),
}


def compile_schema(schema: Any) -> jsonschema_rs.Validator:
    """A validator for `schema` in the dialect it names, draft 7 without one; SchemaError if it does not compile."""
    options: dict[str, Any] = {
        "validate_formats": True,
        "formats": dict(FORMATS),
        "offline": True,
        "pattern_options": jsonschema_rs.RegexOptions(),
    }
    try:
        if isinstance(schema, dict) and "$schema" in schema:
            return jsonschema_rs.validator_for(schema, **options)
        return jsonschema_rs.Draft7Validator(schema, **options)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(map(str, error.instance_path))
        raise SchemaError(f"at {where or 'its root'}: {_shortened(error.message)}") from error
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise SchemaError(_shortened(str(error))) from error


def _shortened(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "unknown error"
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN // 2]} … {line[-_SHOWN // 2 :]}"
