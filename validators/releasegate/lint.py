"""`releasegate lint`: plain manifests judged without a repo around them; same rules, same report, same exit codes.

Files, folders and stdin become Directory releases of one environment, so that no second way of judging exists.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from releasegate import config as configuration
from releasegate import evaluate, schemas, sources, yamlio
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


def lint(paths: Sequence[str], *, kubernetes: str | None, locations: Sequence[str]) -> evaluate.Report:
    """Judge plain manifests. A folder stands for the .yaml, .yml and .json files below it; `-` is stdin.

    Raises UsageError for a path that does not exist or a Kubernetes version without bundle.
    """
    began = time.perf_counter()
    with _stdin_as_file(paths) as given:
        files = [file for path in given for file in _files(path)]
        root = Path.cwd()
        names = [_relative(file, root) for file in files]
        version = bundle_version(kubernetes)
        environment = Environment(name=ENVIRONMENT, protected=False, kubernetes=version, why="releasegate lint")
        releases = []
        renders: dict[str, Rendered | Unrendered] = {}
        for name, file in zip(names, files, strict=True):
            release = Release(
                name=name,
                environment=ENVIRONMENT,
                helm_release=name,
                namespace="default",
                sources=(DirectorySource(path=name, files=(name,)),),
                why="given",
            )
            releases.append(release)
            renders[release.id] = _read(release, file, name)
        repo = Repo(
            tree=Tree(root=str(root), files=tuple(names)), environments=(environment,), releases=tuple(releases)
        )
        verdicts, rules = _judge(repo, environment, renders, locations)
    locator = sources.Locator(root, lambda release, _texts: renders[release.id])
    verdicts = sources.resolve(verdicts, evaluate.systemic(verdicts, rules), renders, locator)
    return evaluate.Report(
        repo=repo,
        verdicts=tuple(verdicts),
        causes=evaluate.causes(verdicts, rules),
        exit_code=evaluate.exit_code(verdicts),
        complete=True,
        head=None,
        base=None,
        config_sha256=configuration.parse("").sha256,
        tools=(),
        objects={key: len(one.manifests) if isinstance(one, Rendered) else 0 for key, one in renders.items()},
        seconds=time.perf_counter() - began,
        notes=(f"Kubernetes {version}",),
    )


def _judge(
    repo: Repo, environment: Environment, renders: dict[str, Rendered | Unrendered], locations: Sequence[str]
) -> tuple[list[Verdict], dict[str, Rule]]:
    config = configuration.parse("")
    crds = [
        manifest
        for one in renders.values()
        if isinstance(one, Rendered)
        for manifest in one.manifests
        if manifest.kind == CRD_KIND
    ]
    known = schemas.Schemas.load(environment.kubernetes, crds=crds, locations=locations, root=Path(repo.tree.root))
    rules = {one.id: one for one in catalogue() if one.id == "render/succeeds" or one.family in FAMILIES}
    verdicts: list[Verdict] = []
    for rule in rules.values():
        level = config.level(rule.id, rule.kind, environment)
        if rule.scope is Scope.RELEASE:
            for release in repo.releases:
                case = CaseId(rule=rule.id, environment=ENVIRONMENT, release=release.name)
                evidence = Evidence(
                    repo=repo,
                    config=config,
                    environment=environment,
                    release=release,
                    renders=(renders[release.id],),
                    schemas=known,
                )
                verdicts.append(evaluate.judge(rule, case, evidence, level))
        elif rule.scope is Scope.ENVIRONMENT:
            case = CaseId(rule=rule.id, environment=ENVIRONMENT)
            evidence = Evidence(
                repo=repo,
                config=config,
                environment=environment,
                release=None,
                renders=tuple(renders.values()),
                schemas=known,
            )
            verdicts.append(evaluate.judge(rule, case, evidence, level))
    return verdicts, rules


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
