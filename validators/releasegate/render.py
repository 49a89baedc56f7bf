"""Release -> Rendered | Unrendered, exactly as Argo CD would render it, with a content-addressed cache for the desk.

Charts are rendered from a private copy of what they need: a link that leaves the judged tree is refused, and nothing
helm does can touch the tree. The cache holds parsed manifests keyed by every input (chart tree, values, arguments,
helm's identity) and is verified on read; it detects corruption, not malice, and is never carried into a required check.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import functools
import hashlib
import json
import os
import re
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from releasegate import chartvalues, process, yamlio
from releasegate.cache import Cache
from releasegate.manifests import manifests_of
from releasegate.model import (
    DirectorySource,
    Environment,
    HelmSource,
    Manifest,
    Parameter,
    Place,
    Release,
    Rendered,
    Source,
    Tree,
    Unrendered,
    UnsupportedSource,
)
from releasegate.tools import helm, store

CACHE_FORMAT = 2
_ALIKE = 0.7  # two names of folders, one of them mistyped
INLINE = "inline"
_NO_PATH = "\0"  # begins what is the name of no file
HOOK = "helm.sh/hook"
# Argo CD maps the other Helm hooks to sync phases and never applies these
# (docs/user-guide/helm.md, "Helm Hooks": test and rollback hooks have no equivalent).
NEVER_APPLIED_HOOKS = frozenset({"test", "test-success", "test-failure", "pre-rollback", "post-rollback"})
_TEMPLATE = re.compile(r"(?:charts/[^/]+/)*templates/")
_PARTIAL = re.compile(r"(?:\A|/)_[^/]*\Z")
_SOURCE = re.compile(r"^---\n# Source: ([^\n]+)\n", re.MULTILINE)


def seconds() -> float:
    """How long one helm call may take: RELEASEGATE_TOOL_SECONDS, else 60."""
    given = os.environ.get("RELEASEGATE_TOOL_SECONDS", "")
    return float(given) if given.replace(".", "", 1).isdigit() else process.Limits().seconds


class LinkLeavesTree(Exception):
    """A chart holds a symbolic link whose target is not inside the judged tree."""

    def __init__(self, path: str) -> None:
        """`path` is the link, relative to the tree."""
        super().__init__(path)
        self.path = path


_Linted = helm.LintOutput | helm.Unavailable


@dataclass(frozen=True, slots=True)
class Lint:
    """What `helm lint` said of a chart (a folder of the tree) with the values of a release."""

    chart: str
    said: _Linted


class Sandbox:
    """A private folder with copies of the charts and values files that renders read. Safe for several threads."""

    def __init__(self, tree: Tree, folder: Path) -> None:
        """Copy from `tree` into `folder`, lazily and each file once."""
        self.tree = tree
        self.folder = folder
        self._lock = threading.RLock()
        self._root = Path(tree.root).resolve()
        self._below: dict[str, tuple[str, ...]] = {}
        self._hashes: dict[str, str] = {}
        self._content: dict[str, bytes] = {}
        self._copied: set[str] = set()

    def files_below(self, path: str) -> tuple[str, ...]:
        """Return the files of the tree below the folder `path` ("." is the whole tree), sorted."""
        with self._lock:
            if path not in self._below:
                files = self.tree.files
                if path in (".", ""):
                    self._below[path] = files
                else:
                    prefix = path.rstrip("/")  # the files are sorted, and "0" follows "/"
                    first, last = bisect_left(files, f"{prefix}/"), bisect_left(files, f"{prefix}0")
                    self._below[path] = files[first:last]
            return self._below[path]

    def read(self, path: str) -> bytes:
        """Return the content of one file of the tree. Raises LinkLeavesTree, OSError."""
        with self._lock:
            if path not in self._content:
                real = Path(os.path.realpath(self._root / path))  # of a loop of links, what is left of it
                if not real.is_relative_to(self._root):
                    raise LinkLeavesTree(path)
                if real.exists() and not real.is_file():
                    raise OSError(errno.EINVAL, "is no regular file", str(self._root / path))
                self._content[path] = real.read_bytes()
            return self._content[path]

    def hash_of(self, path: str) -> str:
        """Return the sha256 of one file, or of a folder's files and their names. Raises LinkLeavesTree, OSError."""
        with self._lock:
            if path in self._hashes:
                return self._hashes[path]
            below = self.files_below(path)
            if not below:
                digest = hashlib.sha256(self.read(path)).hexdigest()
            else:
                whole = hashlib.sha256()
                for name in below:
                    for inner in self._expand(name):
                        whole.update(f"{inner[len(path) :]}\0{self.hash_of(inner)}\n".encode())
                digest = whole.hexdigest()
            self._hashes[path] = digest
            return digest

    def place(self, path: str) -> Path:
        """Return where `copy` puts a file or folder."""
        return self.folder / path

    def copy(self, path: str) -> None:
        """Copy a file or folder of the tree into the sandbox, once. Raises LinkLeavesTree, OSError."""
        with self._lock:
            if path not in self._copied:
                for name in self.files_below(path) or (path,):
                    for inner in self._expand(name):
                        into = self.folder / inner
                        into.parent.mkdir(parents=True, exist_ok=True)
                        into.write_bytes(self.read(inner))
                self._copied.add(path)

    def write(self, text: str) -> Path:
        """Put `text` into a file of its own, named by its content; return where it is."""
        data = text.encode()
        path = self.folder / ".values" / f"{hashlib.sha256(data).hexdigest()}.yaml"
        with self._lock:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return path

    def _expand(self, name: str) -> Iterable[str]:
        """A link to a folder inside the tree stands for the files below it; anything else for itself."""
        full = self._root / name
        if full.is_symlink():
            real = Path(os.path.realpath(full))
            if not real.is_relative_to(self._root):
                raise LinkLeavesTree(name)
            if real.is_dir():
                if full.parent.resolve().is_relative_to(real):
                    raise LinkLeavesTree(name)  # a loop: the folder that holds the link
                for inner in sorted(real.rglob("*")):
                    if inner.is_file() and not inner.is_symlink():
                        yield f"{name}/{inner.relative_to(real).as_posix()}"
                return
        yield name


def _key_with(key: str, texts: Mapping[str, str], *, probe: frozenset[str] | None) -> str:
    told = json.dumps([key, sorted(texts.items()), None if probe is None else sorted(probe)])
    return hashlib.sha256(told.encode()).hexdigest()


def join(folder: str, path: str) -> str:
    """Return the tree path of what a folder holds; "." is the tree itself."""
    return path if folder == "." else f"{folder}/{path}"


def inline_key(index: int) -> str:
    """Return the key under which other inline values are given for the n-th source of a release (from 0)."""
    return f"{_NO_PATH}{INLINE}:{index}"


def parameter_key(index: int, parameter: Parameter) -> str:
    """Return the key under which another value is given for a parameter of the n-th source of a release (from 0)."""
    return f"{_NO_PATH}{index}:{_parameter(parameter)}"


def _parameter(parameter: Parameter) -> str:
    return f"{_NO_PATH}parameter:{parameter.force_string}:{parameter.name}"


def _of_source(index: int, source: HelmSource, texts: Mapping[str, str]) -> dict[str, str]:
    """The texts that are meant for one source, under the keys that `_job` asks for."""
    said = {key: text for key, text in texts.items() if key[:1] != _NO_PATH}
    if inline_key(index) in texts:
        said[INLINE] = texts[inline_key(index)]
    for one in source.parameters:
        if parameter_key(index, one) in texts:
            said[_parameter(one)] = texts[parameter_key(index, one)]
    return said


def _named_at(source: Source, path: str) -> Place | None:
    """Where the Application names a file that it hands to helm: what a person edits when the file is not there."""
    if not isinstance(source, HelmSource):
        return None
    named = [(file.path, file.place) for file in source.values_files]
    named += [(file, place) for (_, file), place in zip(source.file_parameters, source.file_places, strict=False)]
    return next((place for file, place in named if file == path), None)


def _absent(release: Release, source: HelmSource | DirectorySource, sandbox: Sandbox) -> _Broken | None:
    """The folder that an Application names is not in the tree: Argo CD says "app path does not exist"."""
    chart = isinstance(source, HelmSource)
    path = source.chart if isinstance(source, HelmSource) else source.path
    if release.application is None or sandbox.files_below(path):
        return None
    parts = path.split("/")
    files = sandbox.tree.files
    if any("/".join(parts[:depth]) in files for depth in range(1, len(parts) + 1)):
        return None  # a file, or below a link: another fault
    near = _near_folder(path, {folder for file in files for folder in _folders_of(file, chart=chart)})
    prefix = f"{sandbox.tree.prefix}/" if sandbox.tree.prefix else ""
    made_by = release.application.template
    return _Broken(
        reason=f"the {'chart folder' if chart else 'folder'} {path} is not in this repository"
        + (f" at {source.revision[:12]}" if source.revision else "")
        + (f"; did you mean {near}?" if near else ""),
        remedy=f"mend spec.source.path{f' (write {prefix}{near})' if near else ''}, or commit the folder",
        place=source.place or release.application.place or (Place(path=made_by) if made_by else None),
    )


def _folders_of(file: str, *, chart: bool) -> list[str]:
    """The chart folder that a file makes, or all folders above it."""
    folder, _, name = file.rpartition("/")
    if chart:
        return [folder] if name == "Chart.yaml" and folder else []
    parts = folder.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)] if folder else []


def _near_folder(path: str, known: Iterable[str]) -> str | None:
    """The folder that differs from the path in one name only, and there by little; None if none does."""
    parts = path.split("/")
    best: tuple[float, str] | None = None
    for folder in sorted(known):
        there = folder.split("/")
        if len(there) != len(parts):
            continue
        differ = [(one, other) for one, other in zip(parts, there, strict=True) if one != other]
        if len(differ) == 1:
            one, other = differ[0]
            alike = difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio()
            if alike >= _ALIKE and (best is None or alike > best[0]):
                best = alike, folder
    return None if best is None else best[1]


def _list_with(source: Source, path: str) -> str:
    """Which list of the Application names the file."""
    parameters = source.file_parameters if isinstance(source, HelmSource) else ()
    return "fileParameters" if any(file == path for _, file in parameters) else "valueFiles"


@dataclass(frozen=True, slots=True)
class _Job:
    """One helm call, prepared but not started: `copies` are the parts of the tree it reads.

    `texts` are files of the chart that are to say something else.
    """

    request: helm.TemplateRequest
    chart: str
    key: str
    copies: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    probe: frozenset[str] | None = None  # the templates that a probe is about


@dataclass(frozen=True, slots=True)
class _Broken:
    """Why a source did not render; becomes Unrendered for each release that asked for it."""

    reason: str
    remedy: str
    broken: bool = True
    place: Place | None = None
    group: str | None = None
    also: tuple[tuple[str, str, Place | None], ...] = ()
    faults: tuple[chartvalues.Fault, ...] = ()  # of values that a schema refuses


def _refused(
    chart: str,
    faults: Sequence[chartvalues.Fault],
    place: Callable[[chartvalues.Fault], Place | None] = lambda _fault: None,
) -> _Broken:
    """What the values of a chart that its schemas refuse become, each with its place."""
    told: list[tuple[str, str, Place | None]] = []
    for fault in faults:
        schema = join(chart, fault.schema)
        if fault.path is None:
            told.append((f"{schema} {fault.message}", fault.help, Place(path=schema)))
        else:
            told.append((f"the values do not meet {schema}: {fault.message}", fault.help, place(fault)))
    (reason, remedy, where), *also = told
    return _Broken(reason=reason, remedy=remedy, place=where, also=tuple(also), faults=tuple(faults))


def _refused_at(fault: chartvalues.Fault, source: HelmSource, sandbox: Sandbox) -> Place | None:
    """Where the refused value is written; without a line the file that is nearest to the release, if any is certain."""
    for name, place in [
        *((one.name, one.place) for one in source.parameters),
        *((name, place) for (name, _), place in zip(source.file_parameters, source.file_places, strict=False)),
    ]:
        parts = re.split(r"[.\[]", name.replace("]", ""))
        if parts == [str(part) for part in (fault.path or ())[: len(parts)]]:
            return place
    passed = [one.path for one in source.values_files]
    layers = [*_subcharts(fault, source.chart, sandbox)]
    for path in [join(source.chart, "values.yaml"), *passed]:
        with contextlib.suppress(OSError, UnicodeDecodeError, LinkLeavesTree):
            layers.append(chartvalues.Layer(file=path, text=sandbox.read(path).decode()))
    if source.inline is not None:
        at = source.inline.place
        above = None if at is None or at.line is None else at.line - 1
        layers.append(chartvalues.Layer(file=at.path if at else "", text=source.inline.text, above=above))
    found = chartvalues.place_of(fault, layers)
    if found is not None:
        return found
    if source.inline is not None:
        return None if source.inline.place is None else Place(path=source.inline.place.path)
    files = [one.file for one in layers if not one.chart]
    return Place(path=files[-1] if files else join(source.chart, fault.schema))


def _subcharts(fault: chartvalues.Fault, chart: str, sandbox: Sandbox) -> Iterable[chartvalues.Layer]:
    """The own values of the subcharts around a value, the innermost first: the charts above win."""
    for depth in range(len(fault.inside), 0, -1):
        names = fault.inside[:depth]
        path = join(chart, "".join(f"charts/{name}/" for name in names) + "values.yaml")
        with contextlib.suppress(OSError, UnicodeDecodeError, LinkLeavesTree):
            yield chartvalues.Layer(file=path, text=sandbox.read(path).decode(), chart=names)


class Renderer:
    """Renders the releases of one judged tree; every caller asks for the same release once.

    `cache` is the folder of the desk's cache, None in the required check. `jobs` renders run at a time.
    Use as a context manager: at its end no process and no copy is left.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        tool: store.Tool | store.ToolMissing,
        worker: store.Tool | None = None,
        jobs: int | None = None,
        cache: Path | None = None,
        at_revision: Callable[[str], Tree | None] | None = None,
        api_versions: Callable[[Environment], tuple[str, ...]] = lambda _environment: (),
    ) -> None:
        """Nothing is started yet."""
        self.tool = tool
        self._worker = worker
        self._jobs = jobs or os.cpu_count() or 2
        self._cache = Cache(cache)
        self._at_revision = at_revision or (lambda _revision: None)
        self._api_versions = api_versions
        self._folder = tempfile.TemporaryDirectory(prefix="releasegate-")
        self._sandboxes: dict[str | None, Sandbox] = {None: Sandbox(tree, Path(self._folder.name) / "tree")}
        self._pool: helm.Pool | None = None
        self._answers: dict[str, _Answer] = {}
        self._lints: dict[object, Future[_Linted]] = {}
        self._lock = threading.RLock()
        self._values = chartvalues.Checker(Path(self._folder.name) / "probes")
        self._variants: dict[str, Path] = {}
        self._templates: dict[str, dict[str, str]] = {}
        self.cache_hits = 0
        self.renders = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End every process and remove the copies."""
        self.close()

    def close(self) -> None:
        """End every process and remove the copies."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self._folder.cleanup()

    @property
    def worker_used(self) -> bool:
        """The render worker answered: it belongs into the receipt."""
        return self._worker is not None and self._pool is not None and self._pool.worker_problem is None

    def start(self, releases: Iterable[Release], environments: Mapping[str, Environment]) -> None:
        """Begin rendering in the background; results are asked for with `result`."""
        for release in releases:
            self._parts(release, environments[release.environment])

    def result(self, release: Release, environment: Environment) -> Rendered | Unrendered:
        """Return what the release renders to, waiting for it; begins it when nobody did.

        Equal inputs are rendered once, whoever asks and under whichever name in ids.
        """
        return _collect(release, self._parts(release, environment))

    def batch(
        self, releases: Sequence[Release], environments: Mapping[str, Environment]
    ) -> list[Rendered | Unrendered]:
        """Render many at once, in order: what discovery asks for, one call per level of app-of-apps."""
        self.start(releases, environments)
        return [self.result(release, environments[release.environment]) for release in releases]

    def again(self, release: Release, environment: Environment) -> Rendered | Unrendered:
        """Render a second time, past every cache: for rules that compare two renders."""
        return _collect(release, self._parts(release, environment, fresh=True))

    def substituted(
        self, release: Release, environment: Environment, texts: Mapping[str, str]
    ) -> Rendered | Unrendered:
        """Render with other texts for some files (path -> text), inline values or parameters.

        Keys: a path; "inline" for the inline values of every source, `inline_key(n)` for those of the n-th (from 0);
        `parameter_key(n, one)` for the value of a parameter.
        A text for the chart's own values.yaml is passed as the first values file: chart defaults lose to all others.
        A text for another file of a chart is rendered from a copy of the chart.
        """
        return _collect(release, self._parts(release, environment, texts=texts))

    def begin_probe(
        self, release: Release, environment: Environment, texts: Mapping[str, str], templates: frozenset[str]
    ) -> Callable[[], Rendered | Unrendered]:
        """Begin what `substituted` does and return what waits for it, with the objects of these templates only.

        For texts that are no values anybody would write (marks that tell where a value goes): they are not held
        against the chart's schema, and the answer is not kept for the rest of the run.
        """
        parts = self._parts(release, environment, texts=texts, probe=templates)

        def answer() -> Rendered | Unrendered:
            answered = _collect(release, parts)
            if isinstance(answered, Rendered):
                return answered
            # It may have missed a template that was left out.
            whole = _collect(release, self._parts(release, environment, texts=texts))
            if isinstance(whole, Unrendered):
                return whole
            return replace(whole, manifests=tuple(one for one in whole.manifests if one.template in templates))

        return answer

    # --- inside ---------------------------------------------------------------------------------------------------

    def start_lint(self, release: Release, environment: Environment) -> list[tuple[str, Future[_Linted]]]:
        """Begin `helm lint` of the charts of a release, once per (chart, values)."""
        begun: list[tuple[str, Future[_Linted]]] = []
        for source in release.sources:
            sandbox = self._sandbox(source.revision) if isinstance(source, HelmSource) else None
            if not isinstance(source, HelmSource) or sandbox is None or isinstance(self.tool, store.ToolMissing):
                continue  # told by the release's render
            try:
                job = self._job(release, environment, source, sandbox, {})
                request = job.request
                inputs = (request.chart, request.values_files, request.sets, request.set_files, request.kube_version)
                with self._lock:
                    if inputs not in self._lints:
                        for path in job.copies:
                            sandbox.copy(path)
                        self._lints[inputs] = self._start_pool().submit_lint(request)
                    begun.append((source.chart, self._lints[inputs]))
            except (LinkLeavesTree, OSError):
                continue  # as above
        return begun

    def lint(self, release: Release, environment: Environment) -> list[Lint]:
        """Return what `helm lint` says of the charts of a release, waiting for it."""
        return [Lint(chart, future.result()) for chart, future in self.start_lint(release, environment)]

    def _sandbox(self, revision: str | None) -> Sandbox | None:
        with self._lock:
            if revision not in self._sandboxes:
                tree = self._at_revision(revision) if revision is not None else None
                if tree is None:
                    return None
                self._sandboxes[revision] = Sandbox(tree, Path(self._folder.name) / f"at-{revision}")
            return self._sandboxes[revision]

    def _start_pool(self) -> helm.Pool:
        with self._lock:
            if self._pool is None:
                if isinstance(self.tool, store.ToolMissing):
                    raise AssertionError("a missing helm is answered before any job is made")
                self._pool = helm.Pool(self.tool, self._worker, self._jobs, limits=process.Limits(seconds=seconds()))
            return self._pool

    def _parts(
        self,
        release: Release,
        environment: Environment,
        *,
        fresh: bool = False,
        texts: Mapping[str, str] | None = None,
        probe: frozenset[str] | None = None,
    ) -> list[_Part]:
        parts: list[_Part] = []
        for index, source in enumerate(release.sources):
            try:
                said = _of_source(index, source, texts) if texts and isinstance(source, HelmSource) else {}
                parts.append(self._part(release, environment, source, fresh=fresh, texts=said, probe=probe))
            except LinkLeavesTree as link:
                parts.append(
                    _Broken(
                        reason=f"{link.path} is a symbolic link that leaves the repository",
                        remedy="commit the file itself, or link to a file inside the repository",
                        place=Place(path=link.path),
                    )
                )
            except OSError as error:
                path = os.path.relpath(error.filename or "", self._sandboxes[None].tree.root)
                parts.append(
                    _Broken(
                        reason=f"{path} cannot be read: {error.strerror}",
                        remedy="commit the folder, or mend the Application's spec.source.path"
                        if path == getattr(source, "chart", None)
                        else f"commit the file, or take it out of the Application's {_list_with(source, path)}",
                        place=_named_at(source, path) or Place(path=path),
                    )
                )
        return parts

    def _part(
        self,
        release: Release,
        environment: Environment,
        source: Source,
        *,
        fresh: bool,
        texts: Mapping[str, str],
        probe: frozenset[str] | None = None,
    ) -> _Part:
        if isinstance(source, UnsupportedSource):
            # "chart redis 18 of https://… is a remote chart": all that end alike are mended alike.
            group = source.reason.removeprefix(source.description).strip()
            return _Broken(reason=source.reason, remedy=source.remedy, broken=False, group=group)
        sandbox = self._sandbox(source.revision)
        if sandbox is None:
            return _Broken(
                reason=f"targetRevision {source.revision} is not in this clone",
                remedy="fetch the whole history (actions/checkout: fetch-depth: 0), or deploy the judged branch",
                broken=False,
            )
        absent = _absent(release, source, sandbox)
        if absent is not None:
            return absent
        if isinstance(source, DirectorySource):
            return _Answer(chart=source.path, folder=sandbox.folder, outcome=_directory(source, sandbox))
        if isinstance(self.tool, store.ToolMissing):
            reason = f"{self.tool.name} is missing: {self.tool.reason}"
            return _Broken(reason=reason, remedy=self.tool.remedy, broken=False)
        job = self._job(release, environment, source, sandbox, texts)
        passed = {join(source.chart, "values.yaml"), *(file.path for file in source.values_files)}
        below = join(source.chart, "")
        inside = {
            path: text
            for path, text in texts.items()
            if path not in passed and path != INLINE and path[:1] != _NO_PATH and path.startswith(below)
        }
        if inside or probe is not None:
            job = replace(job, key=_key_with(job.key, inside, probe=probe), texts=inside, probe=probe)
        with self._lock:
            answer = None if fresh else self._answers.get(job.key)
            if answer is None:
                answer = self._answer(job, sandbox, fresh=fresh)
                if not fresh and probe is None:
                    self._answers[job.key] = answer
        if answer.faults and not texts:
            # Equal inputs share the answer, and each release has files of its own.
            return _refused(source.chart, answer.faults, lambda fault: _refused_at(fault, source, sandbox))
        return answer

    def _variant(self, job: _Job) -> _Job:
        """The job on a copy of its chart with other texts for some files; of a probe without what it does not look at."""
        below = len(join(job.chart, ""))
        left_out = self._left_out(job.request.chart, frozenset(path[below:] for path in job.probe or ()))
        key = _key_with(job.request.chart, job.texts, probe=left_out)
        chart = self._variants.get(key)
        if chart is None:
            folder = Path(self._folder.name) / "variants" / str(len(self._variants))
            chart = self._variants[key] = folder / Path(job.chart).name
            original = Path(job.request.chart)
            changed = {path[below:]: text for path, text in job.texts.items()}
            for file in original.rglob("*"):
                name = file.relative_to(original).as_posix()
                if name not in left_out and file.is_file():
                    (chart / name).parent.mkdir(parents=True, exist_ok=True)
                    if name in changed:
                        (chart / name).write_text(changed[name])
                    else:
                        os.link(file, chart / name)  # nothing writes to either
        return replace(job, request=replace(job.request, chart=str(chart)))

    def _left_out(self, chart: str, wanted: frozenset[str]) -> frozenset[str]:
        """Templates that the wanted ones can do without: no partials, no `define` in them, nowhere called by name."""
        if not wanted:
            return frozenset()
        if chart not in self._templates:
            files = ((file.relative_to(chart).as_posix(), file) for file in Path(chart).rglob("*") if file.is_file())
            self._templates[chart] = {
                name: file.read_bytes().decode(errors="replace") for name, file in files if _TEMPLATE.match(name)
            }
        texts = self._templates[chart]
        kept = {name for name, text in texts.items() if name in wanted or _PARTIAL.search(name) or "define" in text}
        waiting = list(kept)
        while waiting:
            text = texts[waiting.pop()]
            called = {name for name in texts if name not in kept and name.rpartition("/")[2] in text}
            kept |= called
            waiting += called
        return frozenset(texts) - kept

    def _answer(self, job: _Job, sandbox: Sandbox, *, fresh: bool) -> _Answer:
        if not fresh:
            hit = self._read_cache(job.key)
            if hit is not None:
                self.cache_hits += 1
                return _Answer(chart=job.chart, folder=sandbox.folder, outcome=hit, cached=True)
        for path in job.copies:
            sandbox.copy(path)
        if job.texts or job.probe is not None:
            job = self._variant(job)
        pool = self._start_pool()
        faults: list[chartvalues.Fault] = []
        if job.probe is None:
            faults = self._values.faults(job.request, lambda request: pool.submit(request).result())
        if faults:
            return _Answer(chart=job.chart, folder=sandbox.folder, outcome=_refused(job.chart, faults))
        self.renders += 1
        keep = None if fresh else (lambda manifests: self._write_cache(job.key, manifests))
        return _Answer(
            chart=job.chart, folder=sandbox.folder, outcome=pool.submit(job.request), keep=keep, only=job.probe
        )

    def _job(
        self,
        release: Release,
        environment: Environment,
        source: HelmSource,
        sandbox: Sandbox,
        texts: Mapping[str, str],
    ) -> _Job:
        """Argo's arguments for this source, and the key of everything that goes into it."""
        values: list[tuple[Path, str]] = []
        copies = [source.chart]
        own = join(source.chart, "values.yaml")
        if own in texts:
            values.append((sandbox.write(texts[own]), texts[own]))
        for file in source.values_files:
            if file.path in texts:
                values.append((sandbox.write(texts[file.path]), texts[file.path]))
            else:
                values.append((sandbox.place(file.path), sandbox.hash_of(file.path)))
                copies.append(file.path)
        if source.inline is not None:
            text = texts.get(INLINE, source.inline.text)
            values.append((sandbox.write(text), text))
        copies += [path for _, path in source.file_parameters]
        known = self._api_versions(environment)
        told = source.told or release
        request = helm.TemplateRequest(
            chart=str(sandbox.place(source.chart)),
            release_name=told.helm_release,
            namespace=told.namespace,
            kube_version=told.kube_version or f"{environment.kubernetes}.0",  # Argo passes a full version
            api_versions=tuple(sorted({*known, *told.api_versions, *environment.api_versions})),
            values_files=tuple(str(path) for path, _ in values),
            sets=tuple(
                (one.name, texts.get(_parameter(one), one.value), one.force_string) for one in source.parameters
            ),
            set_files=tuple((name, str(sandbox.place(path))) for name, path in source.file_parameters),
            include_crds=not source.skip_crds,
            skip_tests=source.skip_tests,
        )
        tool = self.tool
        identity = tool.identity.sha256 if isinstance(tool, store.Tool) else ""
        key = hashlib.sha256(
            json.dumps(
                [
                    CACHE_FORMAT,
                    identity,
                    sandbox.hash_of(source.chart),
                    source.chart,
                    [text for _, text in values],
                    [(name, sandbox.hash_of(path)) for name, path in source.file_parameters],
                    request.release_name,
                    request.namespace,
                    request.kube_version,
                    request.api_versions,
                    request.sets,
                    request.include_crds,
                    request.skip_tests,
                ],
            ).encode()
        ).hexdigest()
        return _Job(request, source.chart, key, tuple(copies))

    def _read_cache(self, key: str) -> list[Manifest] | None:
        payload = self._cache.get(key)
        if payload is None:
            return None
        return [
            Manifest(
                body=body,
                text=text,
                template=template,
                within=within,
                problems=tuple((line, said) for line, said in problems),
            )
            for body, text, template, within, problems in json.loads(payload)
        ]

    def _write_cache(self, key: str, manifests: Sequence[Manifest]) -> None:
        if self._cache.folder is not None:
            entries = [[one.body, one.text, one.template, one.within, one.problems] for one in manifests]
            self._cache.put(key, json.dumps(entries).encode())


class _Answer:
    """A source's manifests: from the cache, from files, or from a helm call under way. Parsed once."""

    def __init__(
        self,
        *,
        chart: str,
        folder: Path,
        outcome: Future[helm.Output | helm.TemplateError | helm.Unavailable] | list[Manifest] | _Broken,
        keep: Callable[[list[Manifest]], None] | None = None,
        cached: bool = False,
        only: frozenset[str] | None = None,
    ) -> None:
        self.cached = cached
        self._only = only
        self.seconds = 0.0
        self._chart = chart
        self._folder = folder
        self._outcome = outcome
        self._keep = keep
        self._lock = threading.Lock()

    @property
    def faults(self) -> tuple[chartvalues.Fault, ...]:
        """The values that a schema refuses: known before helm renders."""
        return self._outcome.faults if isinstance(self._outcome, _Broken) else ()

    def manifests(self) -> list[Manifest] | _Broken:
        with self._lock:
            if isinstance(self._outcome, Future):
                self._outcome = self._read(self._outcome.result())
            return self._outcome

    def _read(self, outcome: helm.Output | helm.TemplateError | helm.Unavailable) -> list[Manifest] | _Broken:
        if isinstance(outcome, helm.Unavailable):
            return _Broken(reason=outcome.reason, remedy=outcome.remedy, broken=False)
        if isinstance(outcome, helm.TemplateError):
            return _Broken(
                reason=f"helm template: {' '.join(outcome.message.replace(f'{self._folder}/', '').split())}",
                remedy=_mend(outcome),
                place=_template_place(self._chart, outcome, self._folder),
            )
        began = time.perf_counter()
        parsed = _parse(self._chart, outcome.text, self._only)
        if isinstance(parsed, list) and self._keep is not None:
            self._keep(parsed)
        self.seconds = outcome.seconds + time.perf_counter() - began
        return parsed


_Part = _Answer | _Broken


def _collect(release: Release, parts: Sequence[_Part]) -> Rendered | Unrendered:
    """Put the sources of a release together, in their order; the first that did not render decides."""
    manifests: list[Manifest] = []
    for part in parts:
        made = part.manifests() if isinstance(part, _Answer) else part
        if isinstance(made, _Broken):
            return Unrendered(
                release=release,
                reason=made.reason,
                remedy=made.remedy.replace("{release}", release.id),
                broken=made.broken,
                place=made.place,
                group=made.group,
                also=tuple((reason, remedy.replace("{release}", release.id), at) for reason, remedy, at in made.also),
            )
        manifests += made
    answers = [part for part in parts if isinstance(part, _Answer)]
    return Rendered(
        release=release,
        manifests=tuple(manifests),
        seconds=sum(answer.seconds for answer in answers),
        cached=all(answer.cached for answer in answers),
    )


def _mend(error: helm.TemplateError) -> str:
    """What to do about helm's error: it depends on which kind of file helm could not read."""
    path = error.path or ""
    if path.startswith("/") or path == "values.yaml":
        what = "mend the YAML of the values file"
    elif path.endswith("Chart.yaml") or "Chart.yaml" in error.message:
        what = (
            "give the chart a Chart.yaml with apiVersion, name and version, or mend the Application's spec.source.path"
        )
    elif "missing in charts/ directory" in error.message:
        what = "vendor the dependencies: `helm dependency build` in the chart's folder, and commit charts/"
    else:
        what = "mend the template or the values it reads"
    return f"{what}; `releasegate render {{release}}` shows the same error"


def _template_place(chart: str, error: helm.TemplateError, folder: Path) -> Place:
    if error.path is None:
        return Place(path=chart)
    if error.path.startswith("/"):  # a values file, named where helm read it: in our copy
        inside = Path(error.path)
        path = inside.relative_to(folder).as_posix() if inside.is_relative_to(folder) else chart
        return _yaml_error_place(inside, path) or Place(path=path, line=error.line, column=error.column)
    return Place(path=f"{chart}/{error.path}", line=error.line, column=error.column)


def _yaml_error_place(file: Path, path: str) -> Place | None:
    """Helm names a line of a values file only inside its message, and not always."""
    try:
        yamlio.documents(file.read_text())
    except yamlio.YamlError as error:
        return Place(path=path, line=error.line, column=error.column)
    except (OSError, UnicodeDecodeError):
        return None
    return None


@functools.lru_cache(maxsize=2048)
def _documents(chunk: str) -> tuple[yamlio.Document, ...]:
    """The documents of one file of a render. Renders that look for source lines differ from the first in a few only."""
    return tuple(yamlio.documents(chunk))


def _parse(chart: str, text: str, only: frozenset[str] | None = None) -> list[Manifest] | _Broken:
    """Read helm's output: every document under its `# Source:` line, Lists expanded, hooks Argo drops dropped."""
    found: list[Manifest] = []
    pieces = _SOURCE.split(text)
    if pieces[0].strip():
        return _Broken(
            reason=f"helm printed text that is no render: {pieces[0].strip()[:80]!r}",
            remedy="releasegate tools install helm",
            broken=False,
        )
    for source, chunk in zip(pieces[1::2], pieces[2::2], strict=True):
        template = join(chart, source.partition("/")[2])
        if only is not None and template not in only:
            continue
        try:
            documents = _documents(chunk)
        except yamlio.YamlError as error:
            return _Broken(
                reason=f"{template} renders text that is not YAML: {error.message} (line {error.line} of the render)",
                remedy="mend the template or the values it prints; `releasegate render {release}` shows the text",
                place=Place(path=template),
            )
        for document in documents:
            made = manifests_of(document, template=template)
            if isinstance(made, str):
                return _Broken(
                    reason=f"{template} renders {made}, not a Kubernetes object",
                    remedy="render a mapping with apiVersion, kind and metadata, or nothing",
                    place=Place(path=template),
                )
            found += made
    return [manifest for manifest in found if not _never_applied(manifest)]


def _never_applied(manifest: Manifest) -> bool:
    annotations = manifest.metadata.get("annotations")
    if not isinstance(annotations, Mapping) or HOOK not in annotations:
        return False
    hooks = {part.strip() for part in str(annotations[HOOK]).split(",")}
    return hooks <= NEVER_APPLIED_HOOKS


def _directory(source: DirectorySource, sandbox: Sandbox) -> list[Manifest] | _Broken:
    manifests: list[Manifest] = []
    for path in source.files:
        try:
            documents = yamlio.documents(sandbox.read(path).decode())
        except UnicodeDecodeError:
            return _broken_file(Place(path=path), "is not UTF-8 text")
        except yamlio.YamlError as error:
            place = Place(path=path, line=error.line, column=error.column)
            return _broken_file(place, f"is not YAML: {error.message}")
        for document in documents:
            made = manifests_of(document, path=path)
            if isinstance(made, str):
                return _broken_file(Place(path=path, line=document.line), f"holds {made}, not a Kubernetes object")
            manifests += made
    return manifests


def _broken_file(place: Place, what: str) -> _Broken:
    return _Broken(
        reason=f"{place.path} {what}; Argo CD cannot sync this folder",
        remedy="mend the file, or leave it out with spec.source.directory.exclude",
        place=place,
    )
