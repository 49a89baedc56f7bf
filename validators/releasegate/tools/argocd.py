"""Which Helm an Argo CD renders with: `argocd.toml` beside this file, which names its source."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources


@functools.cache
def _table() -> Mapping[str, Mapping[str, str]]:
    text = resources.files(__package__).joinpath("argocd.toml").read_text("utf-8")
    return tomllib.loads(text)


def versions() -> tuple[str, ...]:
    """The minor releases of Argo CD whose Helm is known and can be used, oldest first."""
    return tuple(_table()["helm"])


def helm_of(argocd: str) -> str:
    """Return the version of Helm that this Argo CD ("3.1", "3.1.4") has in its image.

    ValueError, worded to follow `argocd = "…" `, for one that the table does not have.
    """
    minor = ".".join(argocd.split(".")[:2])
    table = _table()
    if minor in table["helm"]:
        return table["helm"][minor]
    there_are = f"known are {', '.join(versions())}"
    if minor in table["refused"]:
        raise ValueError(
            f"bundles Helm {table['refused'][minor]}, which cannot be told to leave values.schema.json alone and so "
            f"would read files and addresses of the chart's choice; {there_are}"
        )
    raise ValueError(f"is no Argo CD whose Helm is known; {there_are}. Or pin the Helm itself: [tools] helm")
