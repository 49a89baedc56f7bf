"""What one source of an Application hands to helm: values files, inline values, parameters, file parameters.

Sources of the facts: argo-cd docs/user-guide/{helm,multiple_sources,parameters}.md, util/helm/cmd.go,
util/io/path/resolved.go, reposerver/repository/repository.go (helmTemplate, getResolvedValueFiles).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate import yamlio
from releasegate.discover.argo import Found, Repository, listed, mapping, string
from releasegate.discover.buildenv import BuildEnvironment, UnknownValue, is_build_variable
from releasegate.discover.files import Files, Unreadable, is_glob
from releasegate.model import InlineValues, Parameter, Place, UnsupportedSource, ValuesFile

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SOPS = re.compile(r"^sops:", re.MULTILINE)


class Unsupported(Exception):
    """A source that cannot be rendered; `source` says why."""

    def __init__(self, source: UnsupportedSource) -> None:
        """Keep the source."""
        super().__init__(source.reason)
        self.source = source


def unsupported(description: str, reason: str, remedy: str) -> UnsupportedSource:
    """Return a source that cannot be rendered; the description begins the reason."""
    return UnsupportedSource(reason=f"{description} {reason}", remedy=remedy, description=description)


def outside(path: str, files: Files) -> UnsupportedSource:
    """Return why a path of the repo is none of the judged folder."""
    prefix = files.tree.prefix
    if prefix and (path.strip("/") in files or files.is_folder(path.strip("/"))):
        return unsupported(
            path,
            f"is not in the repo: Argo CD counts from the top of the git repository, where it is {prefix}/{path.strip('/')}",
            f"write {prefix}/{path.strip('/')}",
        )
    return unsupported(path, "is outside the folder that is judged", "run releasegate at the top of the repo")


def revision_of(repository: Repository, files: Files) -> str | None:
    """Return the sha that files are taken from, where git knows it."""
    return repository.files.tree.head if files is repository.files else files.tree.revision


@dataclass(frozen=True, kw_only=True)
class References:
    """What the paths of one source count from: its repo at its revision, and the other sources it may name by `$ref`."""

    found: Found
    repository: Repository
    refs: Mapping[str, Mapping[str, Any]]
    several: bool  # spec.sources: only there `$` begins the name of another source
    source: Mapping[str, Any]
    files: Files

    @property
    def path(self) -> str:
        """The source's folder, a repo path."""
        return string(self.source.get("path")) or "."

    @property
    def environment(self) -> BuildEnvironment:
        """The variables of the source."""
        spec = mapping(self.found.body.get("spec"))
        return BuildEnvironment.of(
            name=self.found.name,
            namespace=string(mapping(spec.get("destination")).get("namespace")),
            project=string(spec.get("project")),
            source=self.source,
            revision=revision_of(self.repository, self.files),
        )

    def substituted(self, text: str) -> str:
        """Replace the build environment's variables; Unsupported for one that git does not know."""
        try:
            return self.environment.substituted(text)
        except UnknownValue as error:
            raise Unsupported(
                unsupported(
                    f"{text} in {self.path}",
                    f"uses ${error}, which is not known outside a git repository",
                    "judge a clone, or write the value itself",
                )
            ) from error

    def resolved(self, entry: str) -> str:
        """Return the tree path (or glob) that an entry of valueFiles or fileParameters means; Unsupported for others."""
        answer = self._resolved(entry)
        if isinstance(answer, UnsupportedSource):
            raise Unsupported(answer)
        return answer

    def _resolved(self, entry: str) -> str | UnsupportedSource:
        scheme = _SCHEME.match(entry)
        if scheme is not None:
            if scheme[1].lower() in ("http", "https"):
                return unsupported(entry, "is a values file on the network", "commit the file to this repo")
            if scheme[1].lower() == "file":
                return unsupported(entry, "is a file outside the repo", "name a file inside the repo")
            return encrypted(entry)
        first, _, rest = entry.partition("/")
        if first in self.refs:
            complaint = self._of_reference(entry, self.refs[first])
            if complaint is not None:
                return complaint
            repo_path = self.substituted(f"/{rest}")
        elif first.startswith("$") and (self.several or not is_build_variable(first)):
            return unsupported(
                entry,
                f"begins with {first}, which no source of the Application has as its `ref`: Argo CD refuses it",
                f"write `ref: {first[1:]}` at the source that holds the values, or mend the name",
            )
        else:
            repo_path = self.substituted(entry)
        if not repo_path.startswith("/"):
            repo_path = posixpath.join(self.path, repo_path)
        repo_path = posixpath.normpath(repo_path.lstrip("/"))
        if repo_path.startswith("../") or repo_path in ("..", "."):
            return unsupported(entry, "leaves the repo: Argo CD refuses it", "name a file inside the repo")
        local = self.files.local(repo_path)
        return outside(repo_path, self.files) if local is None else local

    def _of_reference(self, entry: str, reference: Mapping[str, Any]) -> UnsupportedSource | None:
        url = string(reference.get("repoURL"))
        if not self.repository.is_here(url):
            return unsupported(
                entry,
                f"reads values from another repository ({url})",
                'if it is this one, add the URL to repo = ["…"] in releasegate.toml',
            )
        if self.repository.at(reference.get("targetRevision")) is not self.files:
            return unsupported(
                entry,
                "takes chart and values from different revisions of this repo",
                "deploy both from one targetRevision",
            )
        return None


def encrypted(name: str) -> UnsupportedSource:
    """Return the source of values that only the cluster can read."""
    return unsupported(
        name,
        "is an encrypted values file, which only the cluster can read",
        "keep secrets out of values (ExternalSecret, SealedSecret), or judge with a plain stand-in file",
    )


@dataclass(kw_only=True)
class HelmOptions:
    """`spec.source.helm` with the overrides that git holds for it. `missing` collects files that are named and not here.

    `pointer` is the source's in the Application. `overrides` are the parts that a file of the folder replaces, with its
    path and text: then they stand there.
    """

    references: References
    pointer: str
    helm: Mapping[str, Any]
    overrides: Mapping[str, tuple[str, str]]
    missing: list[str] = field(default_factory=list)

    def _mark(self, key: str, rest: str = "") -> tuple[str, yamlio.Mark, str] | None:
        """Where a part of `helm` is written: the file, the mark, and the text as it stands there."""
        if key in self.overrides:
            path, text = self.overrides[key]
            mark = yamlio.positions(text).value(f"/helm/{key}{rest}")
            return None if mark is None else (path, mark, text[mark.index : mark.end_index])
        found, pointer = self.references.found, f"{self.pointer}/helm/{key}{rest}"
        mark = found.mark(pointer)
        return None if mark is None or found.place is None else (found.place.path, mark, found.raw(pointer))

    def _at(self, key: str, rest: str) -> Place | None:
        where = self._mark(key, rest)
        return None if where is None else Place(path=where[0], line=where[1].line, column=where[1].column)

    def values_files(self) -> tuple[ValuesFile, ...]:
        """Resolve, expand and order valueFiles as Argo CD does (getResolvedValueFiles)."""
        files = self.references.files
        written: Sequence[str] = self.helm.get("valueFiles") or ()
        ignore = self.helm.get("ignoreMissingValueFiles") is True
        resolved = [
            (name := self.references.resolved(entry), self._at("valueFiles", f"/{index}"), is_glob(name))
            for index, entry in enumerate(written)
        ]
        explicit = {name for name, _, glob in resolved if not glob}
        made: dict[str, ValuesFile] = {}
        for name, place, glob in resolved:
            for one in [match for match in files.glob(name) if match not in explicit] if glob else [name]:
                if one in files:
                    made.setdefault(one, ValuesFile(path=one, place=place))
            if not (files.glob(name) if glob else name in files):
                self.missing.append(name)
                if not ignore:
                    made.setdefault(name, ValuesFile(path=name, place=place))
        for name in made:
            if name in files and files.mentions(name, _SOPS) and "ENC[" in files.text(name):
                raise Unsupported(encrypted(name))
        return tuple(made.values())

    def file_parameters(self) -> tuple[tuple[tuple[str, str], ...], tuple[Place | None, ...]]:
        """Return (name, path) of each file parameter, the last of one name, and where their paths are written.

        Paths count as those of values files do; ignoreMissingValueFiles is not for them, and no glob is expanded.
        """
        made: dict[str, tuple[str, Place | None]] = {}
        for index, entry in enumerate(listed(self.helm.get("fileParameters"))):
            one = mapping(entry)
            name, path = string(one.get("name")), string(one.get("path"))
            place = self._at("fileParameters", f"/{index}/path")
            if not name or not path:
                raise Unsupported(
                    unsupported(
                        f"{self.references.path} (Helm)",
                        "has a file parameter without name or path: Argo CD refuses it",
                        "write name and path of each of helm.fileParameters",
                    )
                )
            resolved = self.references.resolved(path)
            if resolved not in self.references.files:
                self.missing.append(resolved)
            made[name] = (resolved, place)
        return tuple((name, path) for name, (path, _) in made.items()), tuple(place for _, place in made.values())

    def parameters(self) -> tuple[Parameter, ...]:
        """Argo CD keeps parameters by name: the last of one name wins (util/helm/cmd.go, TemplateOpts.Set)."""
        written: dict[tuple[str, bool], Parameter] = {}
        for index, entry in enumerate(listed(self.helm.get("parameters"))):
            one = mapping(entry)
            name, value = string(one.get("name")), one.get("value")
            if not name:
                continue
            forced = one.get("forceString") is True
            text = value if isinstance(value, str) else "" if value is None else yamlio.dump(value).strip()
            written[name, forced] = Parameter(
                name=name,
                value=self.references.substituted(text),
                force_string=forced,
                place=self._at("parameters", f"/{index}/value"),
            )
        return tuple(written.values())

    def inline(self) -> InlineValues | None:
        """`valuesObject` voids `values`, even an empty one does (types.go, ValuesYAML)."""
        if self.helm.get("valuesObject") is not None:
            return self._object(self.helm["valuesObject"])
        text = self.helm.get("values")
        if not isinstance(text, str) or not text:
            return None
        return InlineValues(text=text, key="values", place=self._first_line(text))

    def _first_line(self, text: str) -> Place | None:
        """Where the text's first line stands, when its lines are lines of the file: a literal block or one line."""
        where = self._mark("values")
        if where is None:
            return None
        path, mark, raw = where
        if raw.startswith("|"):
            # A template may have made more or fewer lines of what is written.
            return Place(path=path, line=mark.line + 1) if _same_lines(raw, text) else None
        if "\n" not in text.rstrip("\n") and mark.line == mark.end_line:
            return Place(path=path, line=mark.line)
        return None

    def _object(self, value: Any) -> InlineValues:
        """The lines of the file itself where they say the same without their surroundings, else a dump of the value."""
        where = self._mark("valuesObject")
        if where is not None:
            path, mark, raw = where
            first, *rest = raw.split("\n")
            indent = " " * (mark.column - 1)
            if all(line.startswith(indent) or not line.strip() or line.lstrip().startswith("#") for line in rest):
                lines = [first, *(line[len(indent) :] if line.startswith(indent) else line.lstrip() for line in rest)]
                text = "\n".join(lines) + "\n"
                try:
                    same = yamlio.load(text) == value
                except yamlio.YamlError:
                    same = False
                if same:
                    return InlineValues(text=text, key="valuesObject", place=Place(path=path, line=mark.line))
        return InlineValues(text=yamlio.dump(value), key="valuesObject")


def _same_lines(raw: str, text: str) -> bool:
    """Whether a literal block as written has the text's lines, apart from what a template fills in within a line."""
    written = [line.strip() for line in raw.rstrip().split("\n")[1:]]
    made = [line.strip() for line in text.rstrip().split("\n")]
    return len(written) == len(made) and all(
        one == other or "{{" in one for one, other in zip(written, made, strict=True)
    )


def overridden(
    source: Mapping[str, Any], name: str, files: Files, folder: str
) -> tuple[Mapping[str, Any], dict[str, tuple[str, str]], list[str]]:
    """Apply `.argocd-source.yaml` and `.argocd-source-<application>.yaml` of the folder, as Argo CD does.

    They are JSON merge patches (docs/user-guide/parameters.md, "Store Overrides In Git"); Image Updater writes them.
    Returns the source, for each key of `helm` that a patch replaced its file and text, and patches nobody can read.
    """
    overrides: dict[str, tuple[str, str]] = {}
    unread: list[str] = []
    for file in (
        posixpath.normpath(posixpath.join(folder, one))
        for one in (".argocd-source.yaml", f".argocd-source-{name}.yaml")
    ):
        if file not in files:
            continue
        try:
            patch = yamlio.load(files.text(file))
        except (Unreadable, yamlio.YamlError):
            unread.append(file)
            continue
        if isinstance(patch, Mapping):
            source = merge_patch(source, patch)
            overrides |= {key: (file, files.text(file)) for key in mapping(patch.get("helm"))}
    return source, overrides, unread


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, mappings merge, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
