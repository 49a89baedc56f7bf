"""`releasegate lint`: plain manifests judged without a repo around them; same rules, same report, same exit codes.

Files, folders and stdin become Directory releases of one environment, so that no second way of judging exists.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from releasegate import config as configuration
from releasegate import evaluate, process, schemas, sources, yamlio
from releasegate.manifests import CRD_KIND, manifests_of
from releasegate.model import (
    CaseId,
    DirectorySource,
    Environment,
    Finding,
    Manifest,
    Place,
    Release,
    Rendered,
    Repo,
    Scope,
    ToolIdentity,
    Tree,
    Unrendered,
    Verdict,
)
from releasegate.rules import Evidence, Shared, chosen
from releasegate.usage import UsageError, bundle_version

ENVIRONMENT = "lint"
SUFFIXES = (".yaml", ".yml", ".json")
OWNERS = "CODEOWNERS"
STDIN = "-"
# Those that need no repo around a file.
RULES = (
    "images/digest-only",
    "images/no-mutable-tag",
    "render/succeeds",
    "schema/served",
    "schema/unique",
    "schema/valid",
)
MIN_FILES_PER_PROCESS = 200  # below that, starting a process costs more than it saves
FILES_PER_PART = 100  # of many files: what a process takes at a time
# Rules over all files that look at nothing but what an object is called: for them a clean file's objects come back
# from the process that judged it without their bodies.
NAMES_ONLY = frozenset({"schema/unique"})
_OF_RULES = b"groups"  # a file without the word holds no Prometheus rules


def lint(paths: Sequence[str], *, kubernetes: str | None, locations: Sequence[str]) -> evaluate.Report:
    """Judge plain manifests. A folder stands for the .yaml, .yml and .json files below it; `-` is stdin.

    Many files are judged by as many processes as the machine has cores. A file in which something is found, or that
    cannot be read, has cases of its own; all others are counted together, one case per rule.
    Raises UsageError for a path that does not exist or a Kubernetes version without bundle.
    """
    began = time.perf_counter()
    root = Path.cwd()
    version = bundle_version(kubernetes)
    environment = Environment(name=ENVIRONMENT, protected=False, kubernetes=version, why="releasegate lint")
    with _stdin_as_file(paths) as given:
        files = list(dict.fromkeys(entry for path in given for entry in _files(path, root)))
        repo = Repo(
            tree=Tree(root=str(root), files=tuple(name for name, _ in files)),
            environments=(environment,),
            releases=tuple(_release(name) for name, _ in files),
        )
        judge = _Judge(repo, environment, [path for _, path in files], locations)
        renders, verdicts = judge.all()
        verdicts += judge.besides()
    verdicts = sources.resolve(verdicts, renders, sources.Locator(None))
    return evaluate.Report(
        repo=repo,
        verdicts=tuple(verdicts),
        causes=evaluate.causes(verdicts, judge.rules),
        exit_code=evaluate.exit_code(verdicts),
        complete=True,
        head=None,
        base=None,
        config_sha256=judge.config.sha256,
        tools=judge.tools,
        objects={key: len(one.manifests) if isinstance(one, Rendered) else 0 for key, one in renders.items()},
        seconds=time.perf_counter() - began,
        notes=(f"Kubernetes {version}",),
    )


def _content(path: str) -> tuple[bytes, str | None]:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each of many files costs as much as reading
            return file.readall(), None
    except OSError as error:
        return b"", error.strerror


def _release(name: str) -> Release:
    source = DirectorySource(path=name, files=(name,))
    return Release(
        name=name, environment=ENVIRONMENT, helm_release=name, namespace="default", sources=(source,), why="given"
    )


_Names = tuple[str, str, str, str | None, int, str]  # what _named makes a Manifest of


@dataclass(slots=True)
class _Part:
    """What comes back of some files: of a clean one only what its objects are called, or all of them in `whole`.

    `totals` are the subjects and seconds of each rule's case over the clean files. `mentions` are the files that hold
    the word CustomResourceDefinition, `holders` those whose objects may hold Prometheus rules; `plain` are files that
    are no objects and that lintplain judges.
    """

    names: dict[int, list[_Names]]
    whole: dict[int, Rendered | Unrendered]
    verdicts: list[Verdict]
    totals: list[tuple[int, float]]
    mentions: list[int]
    holders: list[int]
    plain: list[int]


class _Judge:
    """Judges given files with the rules that need no repo around them."""

    def __init__(self, repo: Repo, environment: Environment, paths: Sequence[str], locations: Sequence[str]) -> None:
        self.repo = repo
        self.config = configuration.Config()
        self.rules = {one.id: one for one in chosen(RULES)}
        self._paths = paths
        self._environment = environment
        self._locations = locations
        self._shared = Shared(repo.tree)
        self._levels = {one.id: self.config.level(one.id, one.kind, environment) for one in self.rules.values()}
        self._each = [one for one in self.rules.values() if one.scope is Scope.RELEASE]
        self._all = [one for one in self.rules.values() if one.scope is Scope.ENVIRONMENT]
        # A file renders to what it holds: the case of another rule is there only to say that it cannot be read.
        self._of_rendered = [one for one in self._each if one.needs_render]
        self._names_only = {one.id for one in self._all} <= NAMES_ONLY
        self._looking = True  # for CRDs among the files
        self._holders: list[int] = []
        self._plain: list[int] = []
        self.tools: tuple[ToolIdentity, ...] = ()
        self._schemas = self._load(())

    def all(self) -> tuple[dict[str, Rendered | Unrendered], list[Verdict]]:
        """Judge every file, then all of them together. Returns the renders by release, and the verdicts.

        CRDs among the files are known to all of them: where there are some, the first time was only for finding them.
        """
        parts = self._judged()
        crds = [one for part in parts for number in part.mentions for one in self._crds(number)]
        self._looking = False
        if any(part.mentions for part in parts):
            self._schemas = self._load(crds)
            parts = self._judged()
        self._holders = [number for part in parts for number in part.holders]
        self._plain = [number for part in parts for number in part.plain]
        renders: dict[str, Rendered | Unrendered] = {}
        for part in parts:
            for number in sorted((*part.names, *part.whole)):
                release = self.repo.releases[number]
                renders[release.id] = part.whole.get(number) or Rendered(
                    release=release, manifests=tuple([_named(release.name, one) for one in part.names[number]])
                )
        verdicts = [one for part in parts for one in part.verdicts]
        if len({one.id.release for one in verdicts}) < len(renders):
            for rule, totals in zip(self._of_rendered, zip(*(part.totals for part in parts), strict=True), strict=True):
                case = CaseId(rule=rule.id, environment=ENVIRONMENT)
                subjects, seconds = (sum(column) for column in zip(*totals, strict=True))
                verdicts.append(evaluate.clean(case, self._levels[rule.id], int(subjects), seconds))
        evidence = self._evidence(None, tuple(renders.values()))
        for rule in self._all:
            case = CaseId(rule=rule.id, environment=ENVIRONMENT)
            verdict = evaluate.judge(rule, case, evidence, self._levels[rule.id])
            verdicts.append(self._with_bodies(verdict, renders) if verdict.findings else verdict)
        return renders, verdicts

    def _load(self, crds: Sequence[Manifest]) -> schemas.Schemas:
        root = Path(self.repo.tree.root)
        return schemas.Schemas.load(self._environment.kubernetes, crds=crds, locations=self._locations, root=root)

    def _crds(self, number: int) -> Iterator[Manifest]:
        rendered = self._read(number, *_content(self._paths[number]))
        if isinstance(rendered, Rendered):
            yield from (one for one in rendered.manifests if one.kind == CRD_KIND)

    def _judged(self) -> list[_Part]:
        count = len(self._paths)
        copies = min(os.cpu_count() or 1, count // MIN_FILES_PER_PROCESS)
        size = max(FILES_PER_PART, -(-count // process.MAX_PARTS))
        parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
        return process.spread(self._part, parts, copies=copies)

    def _part(self, part: range) -> _Part:
        made = _Part({}, {}, [], [(0, 0.0)] * len(self._of_rendered), [], [], [])
        for number in part:
            data, error = _content(self._paths[number])
            if self._looking and CRD_KIND.encode() in data:
                made.mentions.append(number)
            if _OF_RULES in data:
                made.holders.append(number)
            if not made.mentions:
                self._file(number, self._read(number, data, error), made)
        return made

    def _file(self, number: int, rendered: Rendered | Unrendered, made: _Part) -> None:
        release = self.repo.releases[number]
        rules = self._of_rendered if isinstance(rendered, Rendered) else self._each
        evidence = self._evidence(release, (rendered,))
        verdicts = [
            evaluate.judge(
                rule,
                CaseId(rule=rule.id, environment=ENVIRONMENT, release=release.name),
                evidence,
                self._levels[rule.id],
            )
            for rule in rules
        ]
        if isinstance(rendered, Unrendered) or any(one.findings or one.unjudged for one in verdicts):
            if self._is_plain(number, rendered):
                made.plain.append(number)
                made.names[number] = []
                return
            made.whole[number] = rendered
            made.verdicts += verdicts
            return
        made.totals = [
            (subjects + one.subjects, seconds + one.seconds)
            for (subjects, seconds), one in zip(made.totals, verdicts, strict=True)
        ]
        if self._names_only:
            made.names[number] = [
                (one.api_version, one.kind, one.name, one.namespace, one.line, one.within) for one in rendered.manifests
            ]
        else:
            made.whole[number] = rendered

    def _is_plain(self, number: int, rendered: Rendered | Unrendered) -> bool:
        """Whether it is no object, and something else that is judged: rules, or tests of rules."""
        if isinstance(rendered, Rendered) and any(one.kind for one in rendered.manifests):
            return False
        from releasegate import lintplain  # noqa: PLC0415 - clean manifests need none of it

        data, error = _content(self._paths[number])
        try:
            return error is None and lintplain.is_plain(self.repo.releases[number].name, _text(data))
        except UnicodeDecodeError:
            return False

    def besides(self) -> list[Verdict]:
        """Judge the files that are no objects, and the rules that objects hold; [] where there are none."""
        plain = {self.repo.releases[number].name: self._paths[number] for number in self._plain}
        holders = [number for number in self._holders if number not in set(self._plain)]
        if not plain and not holders:
            return []
        from releasegate import lintplain  # noqa: PLC0415 - as above

        read = [self._read(number, *_content(self._paths[number])) for number in holders]
        given = [one for one in read if isinstance(one, Rendered)]
        judged = lintplain.judge(plain, given, self._environment, self.repo)
        self.rules.update(judged.rules)
        self.tools = judged.tools
        return list(judged.verdicts)

    def _with_bodies(self, verdict: Verdict, renders: Mapping[str, Rendered | Unrendered]) -> Verdict:
        """The verdict about all files, its findings about whole objects again."""
        numbers = {name: number for number, name in enumerate(self.repo.tree.files)}
        read = functools.cache(lambda number: self._read(number, *_content(self._paths[number])))

        def whole(finding: Finding) -> Finding:
            named = finding.manifest
            if named is None or named.path is None or named.text:
                return finding
            number = numbers[named.path]
            before, after = renders[self.repo.releases[number].id], read(number)
            if isinstance(before, Unrendered) or isinstance(after, Unrendered):
                return finding
            index = next(index for index, one in enumerate(before.manifests) if one is named)
            return replace(finding, manifest=after.manifests[index])

        return replace(verdict, findings=tuple(map(whole, verdict.findings)))

    def _evidence(self, release: Release | None, renders: tuple[Rendered | Unrendered, ...]) -> Evidence:
        return Evidence(
            repo=self.repo,
            config=self.config,
            environment=self._environment,
            release=release,
            renders=renders,
            shared=self._shared,
            schemas=self._schemas,
        )

    def _read(self, number: int, data: bytes, unread: str | None) -> Rendered | Unrendered:
        release = self.repo.releases[number]
        name = release.name
        if unread is not None:
            return _broken(release, Place(path=name), f"cannot be read: {unread}")
        manifests: list[Manifest] = []
        try:
            for document in yamlio.documents(_text(data)):
                made = manifests_of(document, path=name)
                if isinstance(made, str):
                    place = Place(path=name, line=document.line)
                    return _broken(release, place, f"holds {made}, not a Kubernetes object")
                manifests += made
        except UnicodeDecodeError:
            return _broken(release, Place(path=name), "is not UTF-8 text")
        except yamlio.YamlError as error:
            place = Place(path=name, line=error.line, column=error.column)
            return _broken(release, place, f"is not YAML: {error.message}")
        return Rendered(release=release, manifests=tuple(manifests))


def _text(data: bytes) -> str:
    """The bytes of a file as text; the line ends of other systems become a newline."""
    text = data.decode()
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _named(path: str, names: _Names) -> Manifest:
    """An object by its names alone."""
    api_version, kind, name, namespace, line, within = names
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    return Manifest(body=body, text="", path=path, line=line, within=within)


def _broken(release: Release, place: Place, what: str) -> Unrendered:
    return Unrendered(release=release, reason=f"{place.path} {what}", remedy="mend the file", broken=True, place=place)


def _files(path: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, path) of each file that a given path stands for, a folder's in the order of their paths.

    The name is relative to `root`, or the path as it is when that is outside.
    """
    if path.is_dir():
        start, above = path.resolve().parts, root.parts
        prefix = "" if str(path) == "." else str(path / "_")[:-1]
        for parts, linked in sorted(_below(str(path), ())):
            file = prefix + "/".join(parts)
            whole = (*start, *parts)
            if linked:
                yield _relative(Path(file), root), file
            else:
                yield ("/".join(whole[len(above) :]) if whole[: len(above)] == above else file), file
    elif path.exists():
        yield _relative(path, root), str(path)
    else:
        raise UsageError(f"{path} does not exist")


def _below(folder: str, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield (its parts below the given folder, whether it is a link) of each file; links to folders are not followed."""
    try:
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in entries:
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, (*parts, name))
        elif ((name.rfind(".") > 0 and name.endswith(SUFFIXES)) or name == OWNERS) and entry.is_file():
            yield (*parts, name), entry.is_symlink()


def _relative(file: Path, root: Path) -> str:
    try:
        return file.resolve().relative_to(root).as_posix()
    except ValueError:
        return str(file)


@contextmanager
def _stdin_as_file(paths: Sequence[str]) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(prefix="releasegate-lint-") as folder:
        given: list[Path] = []
        for path in paths:
            if path == STDIN:
                file = Path(folder) / "stdin.yaml"
                file.write_bytes(sys.stdin.buffer.read())
                given.append(file)
            else:
                given.append(Path(path))
        yield given
