"""Which API versions a Kubernetes version serves, from its bundle and from the deprecation guide.

The table is `data/removals.json`; its sources are named there.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from releasegate.schemas.crd import CustomKind
from releasegate.schemas.kubernetes import DATA, Bundle, available, group_of, load

Status = Literal["served", "deprecated", "removed", "unknown"]
# Groups that were Kubernetes' own and are gone.
_FORMER_GROUPS = frozenset({"extensions"})


@dataclass(frozen=True, slots=True)
class Served:
    """Whether an API version of a kind is served.

    `removed` is also what was never served in that version. `replacement` is what to write as apiVersion, with the
    kind behind it where that changes too; `removed_in` the Kubernetes version that stops serving it, where known.
    """

    status: Status
    message: str
    replacement: str | None = None
    removed_in: str | None = None


@dataclass(frozen=True, slots=True)
class _Removal:
    deprecated: str
    removed: str | None
    replacement: str | None
    since: str | None
    note: str | None

    def use(self) -> str:
        """What to do instead, as the end of a sentence."""
        if self.replacement:
            return f"use {self.replacement}, served since {self.since}"
        return self.note or "nothing replaces it"


@functools.cache
def _removals() -> Mapping[tuple[str, str], _Removal]:
    table = json.loads((DATA / "removals.json").read_text(encoding="utf-8"))
    found = {}
    for entry in table["entries"]:
        for kind in entry["kinds"]:
            replacement = entry["replacement"]
            if replacement and "replacement_kind" in entry:
                replacement = f"{replacement} {entry['replacement_kind']}"
            found[entry["apiVersion"], kind] = _Removal(
                entry["deprecated"], entry["removed"], replacement, entry["since"], entry.get("note")
            )
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def is_builtin_group(bundle: Bundle, api_version: str) -> bool:
    """Whether the group is Kubernetes' own, so that the bundle knows all of it."""
    group = group_of(api_version)
    if group in bundle.groups or group in _FORMER_GROUPS:
        return True
    # A group that came later. Kubernetes' own groups end so; asking the other bundles costs 15 ms once.
    return group.endswith(".k8s.io") and any(group in load(version).groups for version in available())


def builtin(bundle: Bundle, api_version: str, kind: str) -> Served | None:
    """The answer for Kubernetes' own groups; None for other groups."""
    named = f"{api_version} {kind}"
    removal = _removals().get((api_version, kind))
    if (api_version, kind) in bundle.kinds:
        if removal and _number(removal.deprecated) <= _number(bundle.version):
            until = f" and served until {removal.removed}" if removal.removed else ""
            said = f"{named} is deprecated since Kubernetes {removal.deprecated}{until}; {removal.use()}"
            return Served("deprecated", said, removal.replacement, removal.removed)
        return Served("served", f"{named} is served by Kubernetes {bundle.version}")
    if not is_builtin_group(bundle, api_version):
        return None
    if removal and removal.removed:
        said = f"{named} is not served since Kubernetes {removal.removed} (here: {bundle.version}); {removal.use()}"
        return Served("removed", said, removal.replacement, removal.removed)
    return _never(bundle, api_version, kind)


def _never(bundle: Bundle, api_version: str, kind: str) -> Served:
    said = f"{api_version} {kind} is not served by Kubernetes {bundle.version}"
    later = [version for version in available() if (api_version, kind) in load(version).kinds]
    if later and _number(later[0]) > _number(bundle.version):
        return Served("removed", f"{said}; it is from {later[0]} on")
    elsewhere = [other for other, name in bundle.kinds if name == kind]
    if elsewhere:
        same = [other for other in elsewhere if group_of(other) == group_of(api_version)] or elsewhere
        return Served("removed", f"{said}; {kind} is {same[-1]} there", same[-1])
    kinds = sorted({name for _, name in bundle.kinds})
    folded = {name.casefold(): name for name in kinds}
    near = [folded[kind.casefold()]] if kind.casefold() in folded else difflib.get_close_matches(kind, kinds, 1, 0.8)
    if near:
        homes = [other for other, name in bundle.kinds if name == near[0]]
        home = api_version if api_version in homes else homes[-1]
        return Served("removed", f"{said}; did you mean {home} {near[0]}?", f"{home} {near[0]}")
    return Served(
        "removed", f"{said} by default: it is no kind of this version, or an alpha or beta version that is off"
    )


def custom(entry: CustomKind) -> Served:
    """The answer of a CustomResourceDefinition."""
    named = f"{entry.api_version} {entry.kind}"
    if not entry.served:
        use = f"; use {entry.replacement}" if entry.replacement else ""
        return Served("removed", f"{named} is not served: {entry.origin} says `served: false`{use}", entry.replacement)
    if entry.deprecated:
        use = f"; use {entry.replacement}" if entry.replacement else ""
        said = entry.warning or f"{named} is deprecated by {entry.origin}{use}"
        return Served("deprecated", said, entry.replacement)
    return Served("served", f"{named} is defined by {entry.origin}")


def other_version(api_version: str, kind: str, defined: list[CustomKind]) -> Served:
    """The answer where CRDs define the kind in other versions only."""
    versions = [entry.api_version for entry in defined if entry.served]
    said = f"{api_version} {kind} is not served: {defined[0].origin} defines {', '.join(versions) or 'no version'}"
    return Served("removed", said, versions[0] if versions else None)
