"""`releasegate schemas list|add`: which schemas there are, and bringing those of custom kinds into the repo.

The source is a folder of CustomResourceDefinitions (YAML or JSON, as an operator publishes them) or of JSON Schemas
named `GROUP/KIND_VERSION.json`, a URL template with kubeconform's variables, or a cluster. What is written is one
strict JSON Schema per kind where `[schemas] locations` looks for it; without such an entry in the layout that
kubeconform's users know: `schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from releasegate.schemas import kubernetes, own
from releasegate.schemas.candidates import Candidate, in_folder
from releasegate.schemas.locations import LocationError, fill, fillable, parse_all, variables
from releasegate.schemas.online import NotObtained, UrlTemplate, in_cluster

__all__ = ["LAYOUT", "Added", "LocationError", "NotFound", "NotObtained", "Repo", "add", "listing", "show"]

CLUSTER = "cluster"
LAYOUT = "schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
_FULL = re.compile(r"(?P<api>[^/]+/[^/]+)/(?P<kind>[^/]+)")
Kinds = Sequence[tuple[str, str]]  # (apiVersion, kind)


class NotFound(ValueError):
    """Wrong use: no such folder, a kind that the source does not hold. The message says which and what there is."""


@dataclass(frozen=True, slots=True)
class Added:
    """What was done: lines to tell, and for each kind that could not be had the reason."""

    said: tuple[str, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repo:
    """The config repo as `add` needs it. `locations` are `[schemas] locations`, `versions` its Kubernetes versions.

    `here` tells every custom kind its releases render, `lacking` those without a schema: from a run over ROOT, asked
    for when it is needed.
    """

    root: Path
    locations: Sequence[str] = ()
    versions: Sequence[str] = ()
    here: Callable[[], Kinds] = tuple
    lacking: Callable[[], Kinds] = tuple


def add(repo: Repo, kinds: Sequence[str], source: str, *, missing: bool = False, context: str | None = None) -> Added:
    """Write the schemas of `kinds`, of those that lack one (`missing`), or of all a folder or cluster holds.

    `kinds` that are named are all written, or none is. With `missing` what can be had is written, and `failed` tells
    the rest. Raises NotFound and LocationError (wrong use), NotObtained (the source did not give it); then nothing is
    written.
    """
    if kinds and missing:
        raise NotFound("name kinds, or write --missing: not both")
    if context is not None and source != CLUSTER:
        raise NotFound("--context is for --from cluster")
    targets = _Targets.of(repo)
    wanted = [f"{api_version}/{kind}" for api_version, kind in repo.lacking()] if missing else list(kinds)
    if missing and not wanted:
        return Added(said=("no kind that the releases render lacks a schema",))
    found, passed_over, failed = _obtained(repo, wanted, source, missing=missing, context=context)
    chosen = [one for one in found if not wanted or any(one.is_meant_by(kind) for kind in wanted)]
    absent = [kind for kind in wanted if not any(one.is_meant_by(kind) for one in chosen)]
    there = ", ".join(sorted({one.kind for one in found})) or "none"
    also = "".join(f"\n  passed over {line}" for line in passed_over)
    if not missing and (absent or not chosen):
        raise NotFound(f"{source}: no schema of {', '.join(absent) or 'any kind'}; there are: {there}{also}")
    known = {line.partition(": ")[0] for line in failed}
    failed += [f"{kind}: {source} has no schema of it" for kind in absent if kind not in known]
    said = [f"passed over {line}" for line in passed_over]
    said += targets.write(chosen)
    return Added(said=tuple(said), failed=tuple(failed))


def _obtained(
    repo: Repo, wanted: Sequence[str], source: str, *, missing: bool, context: str | None
) -> tuple[list[Candidate], list[str], list[str]]:
    """The candidates of a source, what was passed over, and what could not be had though others could."""
    if source == CLUSTER:
        return (*in_cluster(repo.root, context), [])
    if "://" not in source:
        if not Path(source).is_dir():
            raise NotFound(
                f"{source}: no such folder; name one that holds CRDs or JSON Schemas, an https URL, or {CLUSTER}"
            )
        return (*in_folder(Path(source)), [])
    template = UrlTemplate.parse(source)
    if template.is_one_file:
        return (*template.file(), [])
    if not wanted:
        raise NotFound(f"{source}: a URL template does not say which kinds it has; name them, or write --missing")
    version = (repo.versions or kubernetes.available())[-1]
    found: list[Candidate] = []
    failed: list[str] = []
    for name, api_version, kind in _spelled_out(repo, wanted):
        try:
            found.append(template.schema(api_version, kind, version))
        except NotObtained as error:
            if not missing:
                raise
            failed.append(f"{name}: {error}")
    return found, [], failed


def _spelled_out(repo: Repo, wanted: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each wanted kind with its apiVersion: as typed, else as the repo's releases write it."""
    here: Kinds | None = None
    for name in wanted:
        full = _FULL.fullmatch(name)
        if full is not None:
            yield name, full["api"], full["kind"]
            continue
        here = repo.here() if here is None else here
        group, _, kind = name.rpartition("/")
        fits = [
            (api_version, one)
            for api_version, one in here
            if one.casefold() == kind.casefold() and group in ("", api_version.rpartition("/")[0])
        ]
        if not fits:
            raise NotFound(f"{name}: no release renders it, so its version is not known; write GROUP/VERSION/{kind}")
        for api_version, one in fits:
            yield name, api_version, one


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


# --- writing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Targets:
    """Where files go: the first of `[schemas] locations` that is a template, else LAYOUT, which the config then needs."""

    root: Path
    template: str
    versions: Sequence[str]
    lines: tuple[str, ...] = ()  # what releasegate.toml needs

    @classmethod
    def of(cls, repo: Repo) -> _Targets:
        versions = tuple(repo.versions) or kubernetes.available()[-1:]
        for location in parse_all(tuple(repo.locations), repo.root):
            if not location.is_crd_file and variables(location.template):
                return cls(repo.root, location.template, versions)
        listed = ", ".join(json.dumps(one) for one in (*repo.locations, LAYOUT))
        return cls(
            repo.root,
            LAYOUT,
            versions,
            ("releasegate.toml needs, once:", "[schemas]", f"locations = [{listed}]"),
        )

    def write(self, chosen: Sequence[Candidate]) -> list[str]:
        """Write all, or nothing; return what to tell."""
        files: dict[str, Candidate] = {}
        for one in chosen:
            if not fillable(one.api_version, one.kind):
                raise NotFound(f"{one.api_version} {one.kind} cannot be part of a file's name")
            for version in self.versions:
                target = fill(self.template, one.api_version, one.kind, version)
                other = files.setdefault(target, one)
                if other is not one:
                    raise NotFound(
                        f"[schemas] locations gives {other.api_version} {other.kind} and {one.api_version} {one.kind} "
                        f"the same file {target}: put {{{{.Group}}}} and {{{{.ResourceAPIVersion}}}} into it"
                    )
        _write_all(self.root, {target: one.schema for target, one in files.items()})
        said = [f"wrote {target} ({one.api_version} {one.kind}, from {one.origin})" for target, one in files.items()]
        return said + list(self.lines) if said else said


def _write_all(root: Path, schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """Write every file atomically, never outside ROOT through a symbolic link; none when one cannot be written."""
    staged: list[tuple[Path, Path]] = []
    try:
        for target, schema in schemas.items():
            path = root / target
            if not path.resolve().is_relative_to(root.resolve()) or path.is_symlink():
                raise LocationError(f"{path} leads out of {root} through a symbolic link")
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(schema, indent=2, sort_keys=True) + "\n"
            with tempfile.NamedTemporaryFile(
                "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
            ) as file:
                staged.append((Path(file.name), path))
                file.write(text)
            Path(file.name).chmod(0o644)
        for temporary, path in staged:
            temporary.replace(path)
    except OSError as error:
        raise NotObtained(f"{error.filename or root} cannot be written: {error.strerror}") from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
