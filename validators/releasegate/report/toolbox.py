"""What `releasegate tools list` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from releasegate.tools.store import Tool, ToolMissing


def document(rows: Sequence[Tool | ToolMissing]) -> list[dict[str, Any]]:
    """Return the programs as plain values."""
    return [
        {
            "name": one.identity.name,
            "version": one.identity.version,
            "origin": one.identity.origin,
            "sha256": one.identity.sha256,
            "path": one.identity.path,
        }
        if isinstance(one, Tool)
        else {"name": one.name, "missing": one.reason, "remedy": one.remedy}
        for one in rows
    ]


def lines(rows: Sequence[Tool | ToolMissing]) -> Iterator[str]:
    """Yield one line per program."""
    for one in rows:
        if isinstance(one, Tool):
            found = one.identity
            yield f"{found.name}  {found.version}  {found.origin}  {found.path}"
        else:
            yield f"{one.name}  missing: {one.reason}; mend: {one.remedy}"
