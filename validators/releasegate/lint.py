"""`releasegate lint`: plain manifests judged without a repo around them; same rules, same report, same exit codes.

Files, folders and stdin become Directory releases of one environment, so that no second way of judging exists.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from releasegate import config as configuration
from releasegate import evaluate, process, schemas, sources, yamlio
from releasegate.model import (
    CaseId,
    DirectorySource,
    Environment,
    Manifest,
    Place,
    Release,
    Rendered,
    Repo,
    Scope,
    Tree,
    Unrendered,
    Verdict,
)
from releasegate.render import manifests_of
from releasegate.rules import Evidence, Rule, catalogue
from releasegate.run import CRD_KIND, UsageError, bundle_version

ENVIRONMENT = "lint"
SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
FAMILIES = ("schema", "images")
MIN_FILES_PER_PROCESS = 200  # below that, starting a process costs more than it saves


def lint(paths: Sequence[str], *, kubernetes: str | None, locations: Sequence[str]) -> evaluate.Report:
    """Judge plain manifests. A folder stands for the .yaml, .yml and .json files below it; `-` is stdin.

    Many files are read and judged by as many processes as the machine has cores.
    Raises UsageError for a path that does not exist or a Kubernetes version without bundle.
    """
    began = time.perf_counter()
    root = Path.cwd()
    version = bundle_version(kubernetes)
    environment = Environment(name=ENVIRONMENT, protected=False, kubernetes=version, why="releasegate lint")
    with _stdin_as_file(paths) as given:
        files = list(dict.fromkeys((_relative(file, root), file) for path in given for file in _files(path)))
        releases = tuple(_release(name) for name, _ in files)
        repo = Repo(
            tree=Tree(root=str(root), files=tuple(name for name, _ in files)),
            environments=(environment,),
            releases=releases,
        )
        judge = _Judge(repo, environment, locations)
        work = list(zip(releases, (file for _, file in files), strict=True))
        jobs = min(os.cpu_count() or 1, len(work) // MIN_FILES_PER_PROCESS) or 1
        crds = [crd for part in process.spread(_crds_of, _parts(work, jobs)) for crd in part]
        judge.load(crds)
        judged = process.spread(judge.releases, _parts(work, jobs))
    renders = {one.release.id: one for part, _ in judged for one in part}
    verdicts = [verdict for _, part in judged for verdict in part]
    verdicts += judge.environment(tuple(renders.values()))
    locator = sources.Locator(root, lambda release, _texts: renders[release.id])
    verdicts = sources.resolve(verdicts, evaluate.systemic(verdicts, judge.rules), renders, locator)
    return evaluate.Report(
        repo=repo,
        verdicts=tuple(verdicts),
        causes=evaluate.causes(verdicts, judge.rules),
        exit_code=evaluate.exit_code(verdicts),
        complete=True,
        head=None,
        base=None,
        config_sha256=judge.config.sha256,
        tools=(),
        objects={key: len(one.manifests) if isinstance(one, Rendered) else 0 for key, one in renders.items()},
        seconds=time.perf_counter() - began,
        notes=(f"Kubernetes {version}",),
    )


Work = list[tuple[Release, Path]]


def _parts(work: Work, jobs: int) -> list[Work]:
    size = -(-len(work) // jobs) if work else 1
    return [work[start : start + size] for start in range(0, len(work), size)]


def _release(name: str) -> Release:
    source = DirectorySource(path=name, files=(name,))
    return Release(
        name=name, environment=ENVIRONMENT, helm_release=name, namespace="default", sources=(source,), why="given"
    )


def _crds_of(work: Work) -> list[Manifest]:
    """CRDs among the given files are known to all of them; a file without the word has none."""
    found: list[Manifest] = []
    for release, file in work:
        with contextlib.suppress(OSError):
            if CRD_KIND.encode() not in file.read_bytes():
                continue
        rendered = _read(release, file, release.name)
        if isinstance(rendered, Rendered):
            found += [manifest for manifest in rendered.manifests if manifest.kind == CRD_KIND]
    return found


class _Judge:
    """Judges given files with the rules that need no repo around them."""

    def __init__(self, repo: Repo, environment: Environment, locations: Sequence[str]) -> None:
        self.repo = repo
        self.config = configuration.parse("")
        self.rules = {one.id: one for one in catalogue() if one.id == "render/succeeds" or one.family in FAMILIES}
        self._environment = environment
        self._locations = locations
        self._schemas: schemas.Schemas | None = None

    def load(self, crds: Sequence[Manifest]) -> None:
        """Load the schemas, once the CRDs among the files are known."""
        self._schemas = schemas.Schemas.load(
            self._environment.kubernetes, crds=crds, locations=self._locations, root=Path(self.repo.tree.root)
        )

    def releases(self, work: Work) -> tuple[list[Rendered | Unrendered], list[Verdict]]:
        """Read and judge one part of the files."""
        renders: list[Rendered | Unrendered] = []
        verdicts: list[Verdict] = []
        for release, file in work:
            rendered = _read(release, file, release.name)
            renders.append(rendered)
            verdicts += [
                self._judge(rule, release.name, (rendered,), release)
                for rule in self.rules.values()
                # A file renders to what it holds: the case is there only to say that it cannot be read.
                if rule.scope is Scope.RELEASE and (rule.needs_render or isinstance(rendered, Unrendered))
            ]
        return renders, verdicts

    def environment(self, renders: tuple[Rendered | Unrendered, ...]) -> list[Verdict]:
        """Judge what is about all files together."""
        return [
            self._judge(rule, None, renders, None) for rule in self.rules.values() if rule.scope is Scope.ENVIRONMENT
        ]

    def _judge(
        self, rule: Rule, name: str | None, renders: tuple[Rendered | Unrendered, ...], release: Release | None
    ) -> Verdict:
        case = CaseId(rule=rule.id, environment=ENVIRONMENT, release=name)
        evidence = Evidence(
            repo=self.repo,
            config=self.config,
            environment=self._environment,
            release=release,
            renders=renders,
            schemas=self._schemas,
        )
        return evaluate.judge(rule, case, evidence, self.config.level(rule.id, rule.kind, self._environment))


def _read(release: Release, file: Path, name: str) -> Rendered | Unrendered:
    manifests: list[Manifest] = []
    try:
        for document in yamlio.documents(file.read_text()):
            made = manifests_of(document, path=name)
            if isinstance(made, str):
                return _broken(release, Place(path=name, line=document.line), f"holds {made}, not a Kubernetes object")
            manifests += made
    except UnicodeDecodeError:
        return _broken(release, Place(path=name), "is not UTF-8 text")
    except OSError as error:
        return _broken(release, Place(path=name), f"cannot be read: {error.strerror}")
    except yamlio.YamlError as error:
        place = Place(path=name, line=error.line, column=error.column)
        return _broken(release, place, f"is not YAML: {error.message}")
    return Rendered(release=release, manifests=tuple(manifests))


def _broken(release: Release, place: Place, what: str) -> Unrendered:
    return Unrendered(release=release, reason=f"{place.path} {what}", remedy="mend the file", broken=True, place=place)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in SUFFIXES and file.is_file():
                yield file
    elif path.exists():
        yield path
    else:
        raise UsageError(f"{path} does not exist")


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
