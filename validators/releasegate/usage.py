"""Wrong use, and what is looked up to tell it: light, since every command may end here."""

from __future__ import annotations

from collections.abc import Iterable

from releasegate import schemas


class UsageError(Exception):
    """Wrong use: an unknown environment, release or rule, a version without bundle, a dirty tree in CI. Exit 4."""


def bundle_version(wanted: str | None) -> str:
    """Return the Kubernetes version to judge at: the wanted one, else the newest bundle.

    Raises UsageError naming the bundles there are.
    """
    there = schemas.available()
    if wanted is None:
        return max(there, key=lambda version: tuple(int(part) for part in version.split(".")))
    short = ".".join(wanted.removeprefix("v").split(".")[:2])
    if short not in there:
        raise UsageError(f"no schema bundle for Kubernetes {wanted}; there are: {', '.join(there)}")
    return short


def near(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` for the nearest known name, or nothing."""
    import difflib  # noqa: PLC0415 - only on the way to an error

    found = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""
