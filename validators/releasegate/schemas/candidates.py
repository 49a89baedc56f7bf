"""Schemas of custom kinds as people publish them: CustomResourceDefinitions, or JSON Schemas one per kind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from releasegate import yamlio
from releasegate.schemas import convert, crd, kubernetes
from releasegate.schemas.engine import SchemaError, compile_schema

MAX_BYTES = 32 * 1024 * 1024
_DRAFT = "http://json-schema.org/draft-07/schema#"
_CATALOGUE_NAME = re.compile(r"(?P<kind>[a-z0-9]+)_(?P<version>v[0-9][a-z0-9]*)")
_GROUP = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_VERSION = re.compile(r"v[0-9][a-z0-9]*")
_SCHEMA_KEYWORDS = frozenset({"properties", "$ref", "allOf", "anyOf", "oneOf", "type", "definitions"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A schema found in a source: of which kind, from which file. `kind` is lower case when only a file name said it."""

    group: str
    version: str
    kind: str
    schema: Mapping[str, Any]
    origin: str

    @property
    def api_version(self) -> str:
        """`argoproj.io/v1alpha1`."""
        return f"{self.group}/{self.version}"

    def is_meant_by(self, wanted: str) -> bool:
        """Whether a person who types `wanted` (`Rollout`, `argoproj.io/v1alpha1/Rollout`) means this one."""
        spelled = {self.kind, f"{self.group}/{self.kind}", f"{self.api_version}/{self.kind}"}
        return wanted.casefold() in {name.casefold() for name in spelled}


def problem(one: Candidate) -> str | None:
    """Why a candidate cannot be used, or None."""
    if not (_GROUP.fullmatch(one.group) and _VERSION.fullmatch(one.version) and _KIND.fullmatch(one.kind)):
        return "not a group, version and kind"
    if one.group in kubernetes.load(kubernetes.available()[-1]).groups:
        return f"{one.group} is a group of Kubernetes; its kinds are built in"
    try:
        compile_schema(convert.closed(one.schema))
    except SchemaError as error:
        return f"cannot be used as a schema: {error}"
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        return f"cannot be used as a schema: malformed ({type(error).__name__})"
    return None


def usable(found: Iterable[Candidate]) -> tuple[list[Candidate], list[str]]:
    """The candidates that can be used, the first of each kind, and why the others were passed over."""
    kept: dict[tuple[str, str], Candidate] = {}
    passed_over: list[str] = []
    for one in found:
        why = problem(one)
        if why is None:
            kept.setdefault((one.api_version, one.kind.casefold()), one)
        else:
            passed_over.append(f"{one.api_version} {one.kind} in {one.origin}: {why}")
    return list(kept.values()), passed_over


def in_folder(source: Path) -> tuple[list[Candidate], list[str]]:
    """The usable schemas of a folder, the newest Kubernetes' kinds left out, and why other files were passed over."""
    found: list[Candidate] = []
    unread: list[str] = []
    for path in sorted(source.rglob("*")):
        if path.suffix not in {".yaml", ".yml", ".json"} or not path.is_file():
            continue
        try:
            found += _read(path, source)
        except (OSError, ValueError, RecursionError) as error:
            unread.append(f"{path.relative_to(source)}: {str(error).splitlines()[0]}")
    kept, passed_over = usable(found)
    return kept, [*unread, *passed_over]


def _read(path: Path, source: Path) -> Iterator[Candidate]:
    """The schemas in one file; ValueError where it cannot be read."""
    origin = str(path.relative_to(source))
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 2**20} MiB")
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        yield from of_documents([document.value for document in yamlio.documents(text)], origin)
        return
    document = json.loads(text)
    made = list(of_documents([document], origin))
    if not made and isinstance(document, Mapping) and ("properties" in document or "$ref" in document):
        named = _named(document, path)
        if named is not None:
            made = [Candidate(*named, document, origin)]
    yield from made


def of_documents(documents: Sequence[Any], origin: str) -> Iterator[Candidate]:
    """The schemas of all CustomResourceDefinitions among parsed documents, Lists of them included."""
    for document in documents:
        if not isinstance(document, Mapping):
            continue
        items = document.get("items")
        is_list = str(document.get("kind")).endswith("List") and isinstance(items, list)
        for one in items if is_list and isinstance(items, list) else [document]:
            if isinstance(one, Mapping):
                yield from _of_crd(one, origin)


def _of_crd(document: Mapping[str, Any], origin: str) -> Iterator[Candidate]:
    if not crd.is_crd(document):
        return
    bundle = kubernetes.load(kubernetes.available()[-1])
    for entry in crd.custom_kinds(document, origin):
        if entry.schema is None or not entry.served:
            continue
        group, _, version = entry.api_version.rpartition("/")
        schema = bundle.custom_schema(entry.schema, status_subresource=entry.status_subresource)
        schema |= {"$schema": _DRAFT, "x-kubernetes-group-version-kind": _gvk(group, version, entry.kind)}
        if entry.namespaced is not None:
            schema[convert.NAMESPACED] = entry.namespaced
        yield Candidate(group, version, entry.kind, schema, origin)


def of_schema(document: Any, api_version: str, kind: str, origin: str) -> Candidate | str:
    """The candidate that a document fetched for a kind is, or why it is none."""
    if not isinstance(document, Mapping):
        return "is JSON, but no JSON Schema: it holds no object"
    made = list(of_documents([document], origin))
    if made:
        fits = [one for one in made if (one.api_version, one.kind) == (api_version, kind)]
        there = ", ".join(f"{one.api_version} {one.kind}" for one in made)
        return fits[0] if fits else f"defines {there}, not {api_version} {kind}"
    if not _SCHEMA_KEYWORDS.intersection(document):
        return "is JSON, but no JSON Schema"
    group, _, version = api_version.rpartition("/")
    said = document.get("x-kubernetes-group-version-kind")
    entries = [one for one in said if isinstance(one, Mapping)] if isinstance(said, list) else []
    if entries and not any(
        [one.get(key) for key in ("group", "version", "kind")] == [group, version, kind] for one in entries
    ):
        one = entries[0]
        return (
            f"is the schema of {one.get('group')}/{one.get('version')} {one.get('kind')}, not of {api_version} {kind}"
        )
    return Candidate(group, version, kind, document, origin)


def _gvk(group: str, version: str, kind: str) -> list[dict[str, str]]:
    return [{"group": group, "version": version, "kind": kind}]


def _named(schema: Mapping[str, Any], path: Path) -> tuple[str, str, str] | None:
    """(group, version, kind) of a JSON Schema: what it says itself, else its path `GROUP/KIND_VERSION.json`."""
    said = schema.get("x-kubernetes-group-version-kind")
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], Mapping):
        return tuple(str(said[0].get(key, "")) for key in ("group", "version", "kind"))  # type: ignore[return-value]
    matched = _CATALOGUE_NAME.fullmatch(path.stem)
    return (path.parent.name, matched["version"], matched["kind"]) if matched else None
