"""The small schemas this package ships for custom kinds that nearly every config repo has.

Each file of `data/own/` is written from the public documentation it names. What is documented is judged; what only
the real CustomResourceDefinition knows is left open (`x-kubernetes-preserve-unknown-fields`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from releasegate.schemas.crd import CustomKind
from releasegate.schemas.kubernetes import DATA


@functools.cache
def kinds() -> Mapping[tuple[str, str], CustomKind]:
    """The shipped custom kinds by (apiVersion, kind)."""
    found = {}
    for path in sorted((DATA / "own").glob("*.json")):
        read = json.loads(path.read_text(encoding="utf-8"))
        schema = _expanded(read["schema"], read.get("shared", {}))
        entry = CustomKind(
            api_version=read["apiVersion"],
            kind=read["kind"],
            schema=schema,
            namespaced=read["namespaced"],
            status_subresource=read["status_subresource"],
            origin=f"releasegate's own schema ({path.name})",
        )
        found[entry.api_version, entry.kind] = entry
    return found


def _expanded(schema: Any, shared: Mapping[str, Any]) -> Any:
    """The schema with each `{"shared": NAME}` replaced: structural schemas know no references."""
    if isinstance(schema, Mapping):
        if set(schema) == {"shared"}:
            return _expanded(shared[schema["shared"]], shared)
        return {key: _expanded(value, shared) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_expanded(entry, shared) for entry in schema]
    return schema
