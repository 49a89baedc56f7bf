"""CustomResourceDefinitions: which custom kinds they define, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROUP = "apiextensions.k8s.io"
KIND = "CustomResourceDefinition"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomKind:
    """One version of one custom kind.

    `schema` is its `openAPIV3Schema`, None where the CRD has none. `namespaced` is None when the scope is not known.
    `origin` names the file for messages. `replacement` is the apiVersion to use when this one is deprecated.
    """

    api_version: str
    kind: str
    schema: Mapping[str, Any] | None
    namespaced: bool | None
    served: bool = True
    deprecated: bool = False
    warning: str | None = None
    replacement: str | None = None
    status_subresource: bool = False
    origin: str = ""


def is_crd(body: Mapping[str, Any]) -> bool:
    """Whether a parsed document is a CustomResourceDefinition of any version."""
    api_version = body.get("apiVersion")
    return body.get("kind") == KIND and isinstance(api_version, str) and api_version.startswith(GROUP + "/")


def custom_kinds(body: Mapping[str, Any], origin: str) -> Iterator[CustomKind]:
    """The kinds a CRD defines, one per version; nothing for what is not readable as one (schema/valid says why)."""
    spec = _mapping(body.get("spec"))
    group, kind = spec.get("group"), _mapping(spec.get("names")).get("kind")
    versions = spec.get("versions")
    if not (is_crd(body) and isinstance(group, str) and isinstance(kind, str) and isinstance(versions, list)):
        return
    scope = {"Namespaced": True, "Cluster": False}.get(str(spec.get("scope")))
    entries = [entry for entry in versions if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]
    current = _newest(entries)
    for entry in entries:
        schema = _mapping(entry.get("schema")).get("openAPIV3Schema")
        deprecated = entry.get("deprecated") is True
        warning = entry.get("deprecationWarning")
        yield CustomKind(
            api_version=f"{group}/{entry['name']}",
            kind=kind,
            schema=schema if isinstance(schema, Mapping) else None,
            namespaced=scope,
            served=entry.get("served") is not False,
            deprecated=deprecated,
            warning=warning if isinstance(warning, str) else None,
            replacement=f"{group}/{current}" if current and current != entry["name"] else None,
            status_subresource=isinstance(_mapping(entry.get("subresources")).get("status"), Mapping),
            origin=origin,
        )


def _newest(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """The version to move to: the storage version when it is served and current, else any such one."""
    usable = [entry for entry in entries if entry.get("served") is not False and entry.get("deprecated") is not True]
    usable.sort(key=lambda entry: entry.get("storage") is not True)
    return str(usable[0]["name"]) if usable else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
