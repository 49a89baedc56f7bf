"""`releasegate schemas list|show|add`: which schemas there are, and bringing those of custom kinds into the repo.

The source is a folder of CustomResourceDefinitions (YAML or JSON, as an operator publishes them) or of JSON Schemas
named `GROUP/KIND_VERSION.json`. What is written is one strict JSON Schema per kind, in the layout that kubeconform's
users know: `schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from releasegate import yamlio
from releasegate.schemas import convert, crd, kubernetes, own
from releasegate.schemas.engine import SchemaError, compile_schema
from releasegate.schemas.locations import LocationError, fill, parse_all

LAYOUT = "schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
_DRAFT = "http://json-schema.org/draft-07/schema#"
_MAX_BYTES = 32 * 1024 * 1024
_CATALOGUE_NAME = re.compile(r"(?P<kind>[a-z0-9]+)_(?P<version>v[0-9][a-z0-9]*)")
_GROUP = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_VERSION = re.compile(r"v[0-9][a-z0-9]*")


class NotFound(ValueError):
    """The source holds no usable schema of a kind that was asked for. The message says which and what there is."""


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


def add(root: Path, kinds: Sequence[str], source: Path) -> list[str]:
    """Write the schemas of `kinds` (all there are, when none is named) from the folder `source` below ROOT/schemas.

    Returns what to tell: each file written, what was passed over and why, and the line for releasegate.toml.
    NotFound when the source is no folder or lacks one of `kinds`; then nothing is written.
    """
    if not source.is_dir():
        raise NotFound(f"{source}: no such folder; name one that holds CRDs or JSON Schemas")
    candidates, passed_over = _collect(source)
    chosen = [one for one in candidates if not kinds or any(one.is_meant_by(kind) for kind in kinds)]
    missing = [kind for kind in kinds if not any(one.is_meant_by(kind) for one in candidates)]
    if missing or not chosen:
        there = ", ".join(sorted({one.kind for one in candidates})) or "none"
        also = "".join(f"\n  passed over {line}" for line in passed_over)
        raise NotFound(f"{source}: no schema of {', '.join(missing) or 'any kind'}; there are: {there}{also}")
    said = [f"passed over {line}" for line in passed_over]
    for one in chosen:
        target = fill(LAYOUT, one.api_version, one.kind, kubernetes.available()[-1])
        _write(root, target, one.schema)
        said.append(f"wrote {target} ({one.api_version} {one.kind}, from {one.origin})")
    said += ["releasegate.toml needs, once:", "[schemas]", f'locations = ["{LAYOUT}"]']
    return said


def listing(root: Path, locations: Sequence[str]) -> Iterator[str]:
    """Lines that tell the shipped schemas of custom kinds and the schema files the locations of a repo match.

    LocationError for a location that cannot be used.
    """
    yield "Shipped for custom kinds (a CRD of the repo supersedes them):"
    for api_version, kind in sorted(own.kinds()):
        yield f"  {api_version} {kind}"
    for location in parse_all(tuple(locations), root):
        matches = sorted(root.glob(re.sub(r"\{\{.*?\}\}", "*", location.template)))
        yield f"{location.template}: {len(matches)} file{'' if len(matches) == 1 else 's'}"
        for path in matches:
            yield f"  {path.relative_to(root)}"


def show(name: str, version: str | None = None) -> str:
    """A schema as JSON text: `config` (releasegate.toml), or a kind (`Deployment`, `apps/v1/Deployment`).

    LookupError naming what there is.
    """
    if name == "config":
        return (kubernetes.DATA.parent.parent / "data" / "config.schema.json").read_text(encoding="utf-8")
    bundle = kubernetes.load(kubernetes.minor(version or kubernetes.available()[-1]))
    for api_version, kind in sorted(bundle.kinds):
        if name in {kind, f"{api_version}/{kind}"}:
            return json.dumps(bundle.json_schema(api_version, kind), indent=2, sort_keys=True) + "\n"
    for (api_version, kind), entry in sorted(own.kinds().items()):
        if name in {kind, f"{api_version}/{kind}"} and entry.schema is not None:
            schema = bundle.custom_schema(entry.schema, status_subresource=entry.status_subresource)
            return json.dumps(schema, indent=2, sort_keys=True) + "\n"
    raise LookupError(f"no schema {name!r}: write config, or a kind of Kubernetes {bundle.version}")


# --- reading a source ---------------------------------------------------------------------------------------------


def _collect(source: Path) -> tuple[list[Candidate], list[str]]:
    """The usable schemas of a folder, the newest Kubernetes' kinds left out, and why other files were passed over."""
    found: dict[tuple[str, str], Candidate] = {}
    passed_over: list[str] = []
    bundle = kubernetes.load(kubernetes.available()[-1])
    for path in sorted(source.rglob("*")):
        if path.suffix not in {".yaml", ".yml", ".json"} or not path.is_file():
            continue
        try:
            read = list(_read(path, source))
        except (OSError, ValueError, RecursionError) as error:
            passed_over.append(f"{path.relative_to(source)}: {str(error).splitlines()[0]}")
            continue
        for one in read:
            problem = _problem(one, bundle)
            if problem is not None:
                passed_over.append(f"{one.api_version} {one.kind} in {one.origin}: {problem}")
                continue
            found.setdefault((one.api_version, one.kind.casefold()), one)
    return list(found.values()), passed_over


def _problem(one: Candidate, bundle: kubernetes.Bundle) -> str | None:
    if not (_GROUP.fullmatch(one.group) and _VERSION.fullmatch(one.version) and _KIND.fullmatch(one.kind)):
        return "not a group, version and kind"
    if one.group in bundle.groups:
        return f"{one.group} is a group of Kubernetes; its kinds are built in"
    try:
        compile_schema(convert.closed(one.schema))
    except SchemaError as error:
        return f"cannot be used as a schema: {error}"
    return None


def _read(path: Path, source: Path) -> Iterator[Candidate]:
    """The schemas in one file; ValueError where it cannot be read."""
    origin = str(path.relative_to(source))
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES // 2**20} MiB")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        documents: list[Any] = [json.loads(text)]
    else:
        documents = [document.value for document in yamlio.documents(text)]
    for document in documents:
        if not isinstance(document, Mapping):
            continue
        if document.get("kind") == "List" and isinstance(document.get("items"), list):
            for item in document["items"]:
                yield from _of_document(item, path, origin)
        else:
            yield from _of_document(document, path, origin)


def _of_document(document: Any, path: Path, origin: str) -> Iterator[Candidate]:
    if not isinstance(document, Mapping):
        return
    if crd.is_crd(document):
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
    elif path.suffix == ".json" and ("properties" in document or "$ref" in document):
        named = _named(document, path)
        if named is not None:
            yield Candidate(*named, document, origin)


def _gvk(group: str, version: str, kind: str) -> list[dict[str, str]]:
    return [{"group": group, "version": version, "kind": kind}]


def _named(schema: Mapping[str, Any], path: Path) -> tuple[str, str, str] | None:
    """(group, version, kind) of a JSON Schema: what it says itself, else its path `GROUP/KIND_VERSION.json`."""
    said = schema.get("x-kubernetes-group-version-kind")
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], Mapping):
        return tuple(str(said[0].get(key, "")) for key in ("group", "version", "kind"))  # type: ignore[return-value]
    matched = _CATALOGUE_NAME.fullmatch(path.stem)
    return (path.parent.name, matched["version"], matched["kind"]) if matched else None


def _write(root: Path, target: str, schema: Mapping[str, Any]) -> None:
    """Write atomically, never outside ROOT through a symbolic link."""
    path = root / target
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise LocationError(f"{path.parent} leads out of {root} through a symbolic link")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(schema, indent=2, sort_keys=True) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
