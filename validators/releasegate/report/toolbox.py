"""What `releasegate tools list` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from releasegate.tools.store import Row, Tool


def document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the programs as plain values: the locked version, and what was found or how to get it."""
    made = []
    for row in rows:
        fields: dict[str, Any] = {"name": row.name, "locked": row.version}
        if isinstance(row.found, Tool):
            found = row.found.identity
            fields |= {"version": found.version, "origin": found.origin, "sha256": found.sha256, "path": found.path}
        else:
            fields |= {"missing": row.found.reason, "remedy": row.found.remedy}
        made.append(fields)
    return made


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield one line per program."""
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        if isinstance(row.found, Tool):
            found = row.found.identity
            yield f"{row.name:<{width}}  {found.version}  {found.origin}  {found.path}"
        else:
            yield f"{row.name:<{width}}  missing: {row.found.reason}; mend: {row.found.remedy}"
