"""Schema bundles: one small file per Kubernetes version, made from the OpenAPI v3 documents of its API server.

`python -m releasegate.schemas.bundle INPUT…` writes `data/v1.NN.json.gz` for each version found in the inputs; an
input is a folder of OpenAPI v3 JSON documents, a folder of such folders, or a `.tar.gz` of either. The output is
byte-equal when made again from the same input.

`python -m releasegate.schemas.bundle --export DIR VERSION` writes the same schemas as standalone strict JSON Schemas
under the names kubeconform looks for (`v1.NN.0-standalone-strict/deployment-apps-v1.json`).

A bundle holds, per served group version, each kind with its definition's name and its scope, and the definitions
these kinds reach. Descriptions, examples, patch strategies and list wrappers are left out.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from releasegate.schemas.kubernetes import DATA, load, minor

_FORMAT = 1
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_KEPT = frozenset(
    {
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "nullable",
        "oneOf",
        "pattern",
        "properties",
        "required",
        "type",
        "uniqueItems",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
    }
)


class OpenAPIError(ValueError):
    """An input of `make schemas` is not what it should be. The message names the file."""


@dataclass(frozen=True, slots=True)
class _Documents:
    """The OpenAPI documents and the discovery list of one Kubernetes version."""

    version: str
    openapi: tuple[tuple[str, Mapping[str, Any]], ...]
    discovery: tuple[Mapping[str, Any], ...]


# --- reading ------------------------------------------------------------------------------------------------------


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Each JSON file of a folder or archive as (path, content)."""
    if source.is_dir():
        for path in sorted(source.rglob("*.json")):
            yield str(path.relative_to(source.parent)), path.read_bytes()
        for path in sorted(source.rglob("*.tar.gz")):
            yield from _archive(path)
    elif source.name.endswith(".tar.gz"):
        yield from _archive(source)
    else:
        raise OpenAPIError(f"{source}: neither a folder nor a .tar.gz of OpenAPI v3 documents")


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            content = archive.extractfile(member) if member.name.endswith(".json") else None
            if content is not None:
                yield f"{path.name.removesuffix('.tar.gz')}/{member.name}", content.read()


def _documents(sources: Iterable[Path]) -> list[_Documents]:
    openapi: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    discovery: dict[str, list[Mapping[str, Any]]] = {}
    for source in sources:
        for path, content in _files(source):
            try:
                document = json.loads(content)
            except ValueError as error:
                raise OpenAPIError(f"{path}: not JSON: {error}") from error
            named = _version_of(path, document)
            if isinstance(document, list):
                discovery.setdefault(named, []).extend(document)
            elif _definitions(document):
                openapi.setdefault(named, []).append((path, document))
    if not openapi:
        raise OpenAPIError(f"{', '.join(map(str, sources)) or 'no input'}: no OpenAPI v3 document found")
    return [
        _Documents(version, tuple(openapi[version]), tuple(discovery.get(version, ())))
        for version in sorted(openapi, key=lambda version: tuple(map(int, version.split("."))))
    ]


def _version_of(path: str, document: Any) -> str:
    """The Kubernetes version: of the nearest folder named like one, else what the document says."""
    for part in reversed(path.split("/")[:-1]):
        matched = _VERSION.match(part)
        if matched:
            return f"{matched[1]}.{matched[2]}"
    told = document.get("info", {}).get("version", "") if isinstance(document, dict) else ""
    matched = _VERSION.match(str(told))
    if matched is None:
        raise OpenAPIError(f"{path}: no Kubernetes version; put it into a folder named like v1.37")
    return f"{matched[1]}.{matched[2]}"


def _definitions(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """`components.schemas` of a whole document, or `schemas` of one cut down to it."""
    found = document.get("components", document).get("schemas", {})
    return found if isinstance(found, Mapping) else {}


# --- making -------------------------------------------------------------------------------------------------------


def make(sources: Iterable[Path], target: Path = DATA) -> list[Path]:
    """Write one bundle per Kubernetes version found in `sources` into `target`; the paths written, oldest first.

    OpenAPIError where an input is not OpenAPI v3, or where two documents of one version disagree about a definition.
    """
    written = []
    target.mkdir(parents=True, exist_ok=True)
    for documents in _documents(list(sources)):
        path = target / f"v{documents.version}.json.gz"
        path.write_bytes(_pack(_bundle(documents)))
        written.append(path)
    return written


def _pack(bundle: Mapping[str, Any]) -> bytes:
    text = json.dumps(bundle, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        file.write(text.encode())
    return packed.getvalue()


def _bundle(documents: _Documents) -> dict[str, Any]:
    raw: dict[str, Mapping[str, Any]] = {}
    for path, document in documents.openapi:
        for name, schema in _definitions(document).items():
            # DeleteOptions and WatchEvent list the group versions of their own document; no manifest reaches them.
            if name in raw and _reduced(raw[name]) != _reduced(schema):
                raise OpenAPIError(f"{path}: {name} differs from what another document of {documents.version} says")
            raw[name] = schema
    named = {_gvk(entry): name for name, schema in sorted(raw.items()) for entry in _gvks(schema)}
    kinds: dict[str, dict[str, tuple[str, bool]]] = {}
    for api_version, kind, namespaced in _served(documents):
        if (api_version, kind) in named:
            kinds.setdefault(api_version, {})[kind] = (named[api_version, kind], namespaced)
    definitions: dict[str, Any] = {}
    waiting: list[str] = sorted({name for group in kinds.values() for name, _ in group.values()})
    while waiting:
        name = waiting.pop()
        if name in definitions:
            continue
        if name not in raw:
            raise OpenAPIError(f"{documents.version}: {name} is referred to and not defined")
        definitions[name] = _reduced(raw[name])
        waiting.extend(sorted(_references(definitions[name])))
    return {"format": _FORMAT, "kubernetes": documents.version, "kinds": kinds, "definitions": definitions}


def _gvks(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = schema.get("x-kubernetes-group-version-kind", ())
    # Kinds every group shares (Status, DeleteOptions, WatchEvent) are no manifests.
    return found if len(found) == 1 else ()


def _gvk(entry: Mapping[str, Any]) -> tuple[str, str]:
    group, version = entry.get("group", ""), entry["version"]
    return (f"{group}/{version}" if group else version), entry["kind"]


def _served(documents: _Documents) -> Iterator[tuple[str, str, bool]]:
    """(apiVersion, kind, namespaced) of each kind that can be created: from discovery, else from the paths."""
    if documents.discovery:
        for entry in documents.discovery:
            yield entry["groupVersion"], entry["kind"], bool(entry["namespaced"])
        return
    for _, document in documents.openapi:
        for path, operations in document.get("paths", {}).items():
            post = operations.get("post", {})
            gvk = post.get("x-kubernetes-group-version-kind")
            # A path with a name in it is a subresource (…/pods/{name}/eviction): nothing a manifest creates.
            if gvk and "{name}" not in path:
                yield (*_gvk(gvk), "/namespaces/{namespace}/" in path)


def _reduced(schema: Any, *, properties: bool = False) -> Any:
    """The schema without what judges nothing; single-entry `allOf` unwrapped; references by bare name."""
    if isinstance(schema, list):
        return [_reduced(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    if properties:
        return {name: _with_key_default(_reduced(entry), entry) for name, entry in schema.items()}
    reduced: dict[str, Any] = {}
    for key, value in schema.items():
        if key not in _KEPT:
            continue
        if key == "$ref":
            reduced[key] = value.rsplit("/", 1)[-1]
        elif key == "allOf" and len(value) == 1:
            reduced.update(_reduced(value[0]))
        elif key in {"enum", "required", "x-kubernetes-list-map-keys"}:
            reduced[key] = value
        else:
            reduced[key] = _reduced(value, properties=key == "properties")
    return reduced


def _with_key_default(reduced: Any, schema: Any) -> Any:
    """Keep a scalar default: it completes the keys of a list that is a map (`protocol` of a port)."""
    default = schema.get("default") if isinstance(schema, Mapping) else None
    return {**reduced, "default": default} if isinstance(default, str) and default else reduced


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for entry in schema:
            yield from _references(entry)
    elif isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for key, value in schema.items():
            if key == "properties":
                for entry in value.values():
                    yield from _references(entry)
            elif key not in {"enum", "default", "required"}:
                yield from _references(value)


# --- exporting ----------------------------------------------------------------------------------------------------


def export(version: str, target: Path) -> Path:
    """Write the bundle's schemas for kubeconform below `target`; the folder written.

    Run it with `kubeconform -strict -kubernetes-version 1.NN.0 -schema-location TARGET`.
    """
    bundle = load(minor(version))
    folder = target / f"v{bundle.version}.0-standalone-strict"
    folder.mkdir(parents=True, exist_ok=True)
    for api_version, kind in bundle.kinds:
        path = folder / f"{kubeconform_name(api_version, kind)}.json"
        path.write_text(json.dumps(bundle.json_schema(api_version, kind), sort_keys=True) + "\n", encoding="utf-8")
    return folder


def kubeconform_name(api_version: str, kind: str) -> str:
    """`deployment-apps-v1`: how kubeconform names a schema (pkg/registry/registry.go, `KindSuffix`)."""
    group, _, version = api_version.partition("/")
    suffix = f"-{group.split('.', 1)[0]}" + (f"-{version}" if version else "")
    return f"{kind}{suffix}".lower()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line behind `make schemas`."""
    parser = argparse.ArgumentParser(prog="python -m releasegate.schemas.bundle", description="Make schema bundles.")
    parser.add_argument("input", nargs="*", type=Path, help="folder or .tar.gz of OpenAPI v3 documents")
    parser.add_argument("--into", type=Path, default=DATA, help="where bundles are written (default: the package)")
    parser.add_argument(
        "--export", nargs=2, metavar=("DIR", "VERSION"), help="write a bundle's schemas for kubeconform"
    )
    given = parser.parse_args(arguments)
    if not given.input and not given.export:
        parser.error("give a folder of OpenAPI v3 documents, or --export DIR VERSION")
    try:
        for path in make(given.input, given.into) if given.input else ():
            sys.stdout.write(f"{path} {path.stat().st_size} bytes\n")
        if given.export:
            sys.stdout.write(f"{export(given.export[1], Path(given.export[0]))}\n")
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
