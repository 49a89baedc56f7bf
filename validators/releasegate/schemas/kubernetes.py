"""The shipped schema bundles, read once per process and version."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from releasegate.schemas import convert, duplicates

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Bundle:
    """The built-in kinds of one Kubernetes version.

    `kinds` maps (apiVersion, kind) to (name of its definition, namespaced). `groups` are its API groups, "" is core.
    """

    version: str
    kinds: Mapping[tuple[str, str], tuple[str, bool]]
    definitions: Mapping[str, Mapping[str, Any]]
    groups: frozenset[str]
    _converted: convert.Converted = field(default_factory=dict, repr=False, compare=False)
    _plans: dict[str, duplicates.Plan | None] = field(default_factory=dict, repr=False, compare=False)

    def json_schema(self, api_version: str, kind: str) -> dict[str, Any]:
        """The strict JSON Schema of a built-in kind; KeyError if this version does not serve it."""
        name, _ = self.kinds[api_version, kind]
        return convert.builtin(name, self.definitions, self._converted)

    def custom_schema(self, schema: Mapping[str, Any], *, status_subresource: bool) -> dict[str, Any]:
        """The strict JSON Schema of a CRD version's `openAPIV3Schema`, with this version's ObjectMeta."""
        return convert.custom(schema, self.definitions, self._converted, status_subresource=status_subresource)

    def plan(self, api_version: str, kind: str) -> duplicates.Plan | None:
        """Where lists with keys are in a built-in kind; KeyError if this version does not serve it."""
        return duplicates.of_builtin(self.kinds[api_version, kind][0], self.definitions, self._plans)


def group_of(api_version: str) -> str:
    """`apps` of `apps/v1`, "" of `v1`."""
    return api_version.rpartition("/")[0]


def minor(version: str) -> str:
    """`1.37` of `1.37`, `v1.37`, `1.37.2`; ValueError for anything else."""
    matched = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.\d+)?(?:[-+].*)?", version)
    if matched is None:
        raise ValueError(f"{version!r} is not a Kubernetes version; write one like 1.37")
    return f"{matched[1]}.{matched[2]}"


@functools.cache
def available() -> tuple[str, ...]:
    """The Kubernetes versions a bundle ships for, oldest first."""
    found = (re.fullmatch(r"v(\d+)\.(\d+)\.json\.gz", path.name) for path in DATA.iterdir())
    return tuple(f"{major}.{minor}" for major, minor in sorted((int(hit[1]), int(hit[2])) for hit in found if hit))


@functools.cache
def load(version: str) -> Bundle:
    """The bundle of `version` ("1.37"); LookupError naming those there are."""
    if version not in available():
        raise LookupError(f"no schemas for Kubernetes {version}; there are {', '.join(available())}")
    read = json.loads(gzip.decompress((DATA / f"v{version}.json.gz").read_bytes()))
    kinds = {
        (api_version, kind): (name, namespaced)
        for api_version, entries in read["kinds"].items()
        for kind, (name, namespaced) in entries.items()
    }
    groups = frozenset(map(group_of, read["kinds"]))
    return Bundle(version=read["kubernetes"], kinds=kinds, definitions=read["definitions"], groups=groups)
