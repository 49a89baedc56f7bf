"""(apiVersion, kind, Kubernetes version) -> a validator, or why there is none.

Where a kind is looked up, first hit wins: the bundle of the Kubernetes version, CustomResourceDefinitions of the repo,
`[schemas] locations`, the small schemas this package ships (`data/own/`). So nothing in a repo overrides a built-in
kind, and a real CRD supersedes a shipped schema. Nothing is ever fetched.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema_rs

from releasegate import yamlio
from releasegate.model import Manifest
from releasegate.schemas import convert, crd, duplicates, kubernetes, locations, messages, own, served
from releasegate.schemas.engine import SchemaError, compile_schema
from releasegate.schemas.kubernetes import available, minor
from releasegate.schemas.locations import LocationError
from releasegate.schemas.messages import Problem
from releasegate.schemas.served import Served

__all__ = ["LocationError", "MissingSchema", "Problem", "Schemas", "Served", "available"]


@dataclass(frozen=True, slots=True)
class MissingSchema:
    """There is no schema for this kind. `remedy` is the command or edit that mends it."""

    api_version: str
    kind: str
    reason: str
    remedy: str

    @property
    def group(self) -> str:
        """One vendor's CRDs come together, so their kinds are one entry."""
        return f"no schemas of {self.api_version.partition('/')[0]}"


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A schema ready for use. `schema` is kept for messages."""

    validator: jsonschema_rs.Validator
    schema: Mapping[str, Any]
    plan: duplicates.Plan | None
    secret: bool = False
    hint: str = ""  # what to add to the help for an unknown field
    namespaced: bool | None = None  # of a file of `[schemas] locations` that says so


_UNKNOWN = "additionalProperties"


class Schemas:
    """The schemas of one environment. Cheap to make: what is compiled is shared by all of the process."""

    __slots__ = ("_bundle", "_crd_kinds", "_crds", "_found", "_locations")

    def __init__(
        self, bundle: kubernetes.Bundle, crds: Iterable[crd.CustomKind], where: Sequence[locations.Location]
    ) -> None:
        """Use `load`."""
        self._bundle = bundle
        self._crds: dict[tuple[str, str], crd.CustomKind] = {}
        self._crd_kinds: dict[tuple[str, str], list[crd.CustomKind]] = {}
        for entry in crds:
            if self._crds.setdefault((entry.api_version, entry.kind), entry) is entry:
                key = (kubernetes.group_of(entry.api_version), entry.kind)
                self._crd_kinds.setdefault(key, []).append(entry)
        self._locations = where
        self._found: dict[tuple[str, str], _Compiled | MissingSchema] = {}

    @classmethod
    def load(
        cls, version: str, *, crds: Iterable[Manifest] = (), locations: Sequence[str] = (), root: Path | None = None
    ) -> Schemas:
        """The schemas for a Kubernetes version ("1.37"; a patch number is ignored).

        `crds` are the manifests that may define custom kinds (others among them are passed over): of `crds/` folders
        and rendered. `locations` are `[schemas] locations`, relative to `root`.
        LookupError without a bundle for `version`, naming those there are; ValueError when it is no version;
        LocationError for a location that cannot be used.
        """
        bundle = kubernetes.load(minor(version))
        where = _locations.parse_all(tuple(locations), root)
        kinds = [entry for manifest in crds for entry in _kinds_of(manifest)]
        kinds += [entry for location in where if location.is_crd_file for entry in _kinds_in(location)]
        return cls(bundle, kinds, where)

    @property
    def version(self) -> str:
        """The Kubernetes version, like "1.37"."""
        return self._bundle.version

    def problems(self, manifest: Manifest) -> tuple[Problem, ...] | MissingSchema:
        """Everything the schema of its kind objects to in a manifest, or why there is no schema.

        A document without apiVersion or kind is a problem, not a missing schema.
        """
        api_version, kind = manifest.api_version, manifest.kind
        if not api_version or not kind:
            return _no_kind(manifest)
        found = self._lookup(api_version, kind)
        if isinstance(found, MissingSchema):
            return found
        body: Any = manifest.body
        try:
            if found.validator.is_valid(body) and (found.plan is None or not duplicates.any_in(found.plan, body)):
                return ()
            return _explain(found, body)
        except (ValueError, TypeError) as error:
            # Values that JSON does not have: a key that is no string, a date made by another reader.
            said = f"not representable as JSON: {error}"
            return (
                Problem("", said, "write keys as strings and plain values", None, "type", "write plain JSON values"),
            )

    def served(self, api_version: str, kind: str) -> Served:
        """Whether the environment's Kubernetes version, or a CRD known here, serves this API version of the kind."""
        answer = served.builtin(self._bundle, api_version, kind)
        if answer is not None:
            return answer
        entry = self._crds.get((api_version, kind))
        if entry is not None:
            return served.custom(entry)
        others = self._crd_kinds.get((kubernetes.group_of(api_version), kind))
        if others:
            return served.other_version(api_version, kind, others)
        return Served("unknown", f"{api_version} {kind} is no kind of Kubernetes, and no CRD here defines it")

    def namespaced(self, api_version: str, kind: str) -> bool | None:
        """Whether objects of the kind live in a namespace, None when that is not known."""
        builtin = self._bundle.kinds.get((api_version, kind))
        if builtin is not None:
            return builtin[1]
        entry = self._crds.get((api_version, kind)) or own.kinds().get((api_version, kind))
        if entry is not None:
            return entry.namespaced
        # Old API versions of a built-in kind (extensions/v1beta1 Ingress) have the scope of the new one.
        if served.is_builtin_group(self._bundle, api_version):
            scopes = {scope for (_, name), (_, scope) in self._bundle.kinds.items() if name == kind}
            return scopes.pop() if len(scopes) == 1 else None
        found = self._lookup(api_version, kind)
        return None if isinstance(found, MissingSchema) else found.namespaced

    def known(self, api_version: str, kind: str) -> bool:
        """Whether there is a schema to judge the kind by."""
        return isinstance(self._lookup(api_version, kind), _Compiled)

    def is_custom(self, api_version: str, kind: str) -> bool:
        """Whether a schema of the kind could be added: it is not Kubernetes' own, and no CRD here rules it."""
        return self.served(api_version, kind).status == "unknown"

    def api_versions(self) -> tuple[str, ...]:
        """What Argo CD passes to helm as `--api-versions`: group versions and group/version/Kind, sorted.

        Those of the bundle and of every CRD known here that is served; not those of the schemas this package ships,
        which say nothing about what a cluster has installed.
        """
        kinds = [*self._bundle.kinds, *(key for key, entry in self._crds.items() if entry.served)]
        return tuple(sorted({api for api, _ in kinds} | {f"{api}/{kind}" for api, kind in kinds}))

    def _lookup(self, api_version: str, kind: str) -> _Compiled | MissingSchema:
        found = self._found.get((api_version, kind))
        if found is None:
            found = self._found[api_version, kind] = self._find(api_version, kind)
        return found

    def _find(self, api_version: str, kind: str) -> _Compiled | MissingSchema:
        if (api_version, kind) in self._bundle.kinds:
            return _builtin(self._bundle.version, api_version, kind)
        gone = served.builtin(self._bundle, api_version, kind)
        if gone is not None:
            remedy = f"write {gone.replacement}" if gone.replacement else "remove it, or name the version it is for"
            return MissingSchema(api_version, kind, gone.message, remedy)
        add = f"releasegate schemas add {kind} --from DIR"
        entry = self._crds.get((api_version, kind))
        if entry is not None:
            return _of_crd(self._bundle.version, entry, add)
        for location in self._locations:
            found = location.find(api_version, kind, self._bundle.version)
            if found is not None:
                return _of_file(found, api_version, kind, add)
        entry = own.kinds().get((api_version, kind))
        if entry is not None:
            shipped = _of_crd(self._bundle.version, entry, add)
            hint = f"if it is newer than the schema shipped here, bring the CRD: {add}"
            return shipped if isinstance(shipped, MissingSchema) else replace(shipped, hint=hint)
        others = self._crd_kinds.get((kubernetes.group_of(api_version), kind))
        if others:
            answer = served.other_version(api_version, kind, others)
            return MissingSchema(api_version, kind, answer.message, f"write {answer.replacement}")
        reason = f"no schema for {api_version} {kind}"
        where = "a folder that holds its CRD or JSON Schema, a URL template, or cluster; --missing for all such kinds"
        return MissingSchema(api_version, kind, reason, f"{add} ({where})")


# `locations` is also the name of a parameter of the contract.
_locations = locations


def _kinds_of(manifest: Manifest) -> Iterable[crd.CustomKind]:
    origin = manifest.path or manifest.template or f"the CustomResourceDefinition {manifest.name}"
    return crd.custom_kinds(manifest.body, origin)


def _kinds_in(location: locations.Location) -> Iterable[crd.CustomKind]:
    read = location.crd_text()
    if read is None:
        return
    path, text = read
    for document in yamlio.documents(text):
        if isinstance(document.value, Mapping):
            yield from crd.custom_kinds(document.value, path)


def _no_kind(manifest: Manifest) -> tuple[Problem, ...]:
    if "apiVersion" not in manifest.body and "kind" not in manifest.body:
        said = "missing required fields apiVersion and kind: this is no Kubernetes object"
        hint = "write both, or leave the file out where only objects belong"
        return (Problem("", said, hint, None, "required", "write apiVersion and kind"),)
    problems = []
    for field in ("apiVersion", "kind"):
        value = manifest.body.get(field)
        if isinstance(value, str) and value:
            continue
        if field not in manifest.body:
            said, pointer, keyword = f"missing required field {field}", "", "required"
        else:
            said, pointer, keyword = f"{field} is {messages.show(value)}, not the name of one", f"/{field}", "type"
        hint = f"write {field}, or remove the document if nothing is to be applied"
        problems.append(Problem(pointer, said, hint, value, keyword, f"write {field}"))
    return tuple(problems)


def _explain(found: _Compiled, body: Any) -> tuple[Problem, ...]:
    problems = messages.of_errors(found.validator.iter_errors(body), found.schema, body, secret=found.secret)
    if found.hint:
        problems = [
            replace(problem, help=f"{problem.help}; {found.hint}")
            if problem.keyword == _UNKNOWN and not problem.pointer.startswith("/metadata/")
            else problem
            for problem in problems
        ]
    if found.plan is not None:
        problems += map(messages.of_duplicate, duplicates.all_in(found.plan, body))
    return tuple(problems)


@functools.cache
def _builtin(version: str, api_version: str, kind: str) -> _Compiled:
    bundle = kubernetes.load(version)
    schema = bundle.json_schema(api_version, kind)
    plan = bundle.plan(api_version, kind)
    return _Compiled(compile_schema(schema), schema, plan, secret=(api_version, kind) == ("v1", "Secret"))


_SHARED: dict[tuple[str, str], _Compiled | str] = {}


def _shared(version: str, source: Any, build: Callable[[], _Compiled]) -> _Compiled | str:
    """What `build` compiles from `source`, or why it could not, once per process and content."""
    digest = hashlib.sha256(json.dumps(source, sort_keys=True, default=str).encode()).hexdigest()
    found = _SHARED.get((version, digest))
    if found is None:
        try:
            found = build()
        except SchemaError as error:
            found = str(error)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            found = f"malformed ({type(error).__name__}: {error})"
        _SHARED[version, digest] = found
    return found


def _of_crd(version: str, entry: crd.CustomKind, add: str) -> _Compiled | MissingSchema:
    if entry.schema is None:
        reason = f"{entry.origin} has no openAPIV3Schema for {entry.api_version} {entry.kind}"
        return MissingSchema(entry.api_version, entry.kind, reason, f"mend the CRD, or {add}")
    source = entry.schema

    def build() -> _Compiled:
        schema = kubernetes.load(version).custom_schema(source, status_subresource=entry.status_subresource)
        return _Compiled(compile_schema(schema), schema, duplicates.of_custom(source))

    found = _shared(version, [source, entry.status_subresource], build)
    if isinstance(found, str):
        reason = f"the schema of {entry.api_version} {entry.kind} in {entry.origin} cannot be used: {found}"
        return MissingSchema(entry.api_version, entry.kind, reason, f"mend the CRD, or {add}")
    return found


def _of_file(found: locations.Found, api_version: str, kind: str, add: str) -> _Compiled | MissingSchema:
    if found.error is not None:
        return MissingSchema(api_version, kind, found.error, f"mend {found.path}, or {add}")

    def build() -> _Compiled:
        schema = convert.closed(found.schema)
        said = found.schema.get(convert.NAMESPACED)
        namespaced = said if isinstance(said, bool) else None
        return _Compiled(compile_schema(schema), schema, duplicates.of_custom(found.schema), namespaced=namespaced)

    compiled = _shared("", found.schema, build)
    if isinstance(compiled, str):
        reason = f"{found.path} cannot be used as a schema: {compiled}"
        return MissingSchema(api_version, kind, reason, f"mend {found.path}, or {add}")
    return compiled
