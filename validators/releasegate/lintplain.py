"""What `releasegate lint` judges besides Kubernetes objects: plain files by what they are, objects that hold such files.

Nothing here is imported while only clean manifests are judged.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from releasegate import evaluate, rulefiles
from releasegate.cache import Cache
from releasegate.config import Config
from releasegate.discover import owners
from releasegate.model import (
    CaseId,
    Environment,
    Finding,
    Level,
    Place,
    Rendered,
    Repo,
    ToolIdentity,
    Tree,
    Unjudged,
    Verdict,
)
from releasegate.rules import Evidence, Rule, Shared, chosen
from releasegate.rules.owners import valid as owners_valid
from releasegate.rules.prometheus.tests import named_rule_files, test_file
from releasegate.run import cache_folder
from releasegate.tools import store

OWNERS = "CODEOWNERS"
_IN_OBJECTS = ("prometheus/rules",)
_PLAIN = ("prometheus/files", "prometheus/tests")


def is_plain(name: str, text: str) -> bool:
    """Whether a file that is no Kubernetes object is one that is judged here."""
    if name.rpartition("/")[2] == OWNERS:
        return True
    if not name.endswith(rulefiles.SUFFIXES):
        return False
    return rulefiles.read(text, origin="file", path=name) is not None or test_file(name, text) is not None


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts, the rules they are of, and the programs that were asked."""

    verdicts: tuple[Verdict, ...]
    rules: Mapping[str, Rule]
    tools: tuple[ToolIdentity, ...]


def judge(plain: Mapping[str, str], holders: Sequence[Rendered], environment: Environment, repo: Repo) -> Judged:
    """Judge plain files (name as shown -> path) and the renders of files whose objects may hold rules.

    The files that unit tests name are read too, given or not.
    """
    shown = {os.path.abspath(path): name for name, path in plain.items()}  # noqa: PTH100 -- a link keeps its own name
    named = [path for path in shown for path in _named_by(path)]
    root = os.getcwd()  # noqa: PTH109 -- a text, as the others
    if not all(path.startswith(f"{root}/") for path in (*shown, *named)):
        root = "/"
    prefix = root.rstrip("/") + "/"
    inside = {path.removeprefix(prefix): name for path, name in shown.items()}
    held = [name for rendered in holders for manifest in rendered.manifests if (name := manifest.path) is not None]
    # Tests of rules take seconds each.
    cache = Cache(None if os.environ.get("CI", "") not in ("", "0", "false") else cache_folder() / "answers")
    verdicts: list[Verdict] = []
    tools: dict[str, ToolIdentity] = {}
    rules = {one.id: one for one in chosen((*(_PLAIN if plain else ()), *(_IN_OBJECTS if holders else ())))}
    for rule in rules.values():
        files = (
            tuple(inside) if rule.id == "prometheus/files" else (*inside, *(one.removeprefix(prefix) for one in named))
        )
        tree = Tree(root=root, files=tuple(sorted({*files, *(held if root != "/" else ())})))
        shared = Shared(tree, find=store.find, cache=cache)
        evidence = Evidence(
            repo=replace(repo, tree=tree, releases=()),
            config=Config(),
            environment=environment,
            release=None,
            renders=tuple(holders) if rule.id in _IN_OBJECTS else (),
            shared=shared,
        )
        verdict = evaluate.judge(rule, CaseId(rule=rule.id, environment=environment.name), evidence, Level.ON)
        if verdict.subjects or verdict.unjudged:
            verdicts.append(_as_shown(verdict, inside))
        tools.update((one.identity.name, one.identity) for one in shared.used)
    for name, path in plain.items():
        if name.rpartition("/")[2] == OWNERS:
            rule = _of_owners(owners.parse(_text(path) or "", name))
            rules[rule.id] = rule
            alone = Evidence(
                repo=repo,
                config=Config(),
                environment=environment,
                release=None,
                renders=(),
                shared=Shared(repo.tree),
            )
            case = CaseId(rule=rule.id, environment=environment.name, release=name)
            verdicts.append(evaluate.judge(rule, case, alone, Level.ON))
    return Judged(tuple(verdicts), rules, tuple(tools.values()))


def _of_owners(file: owners.Codeowners) -> Rule:
    """`owners/valid` for a file by itself: which files its patterns are about is not known."""
    (whole,) = chosen(("owners/valid",))
    return replace(
        whole,
        subjects=lambda _evidence: (*file.lines, *file.mistakes),
        check=lambda _subjects, _evidence: owners_valid.judge(file),
    )


def _named_by(path: str) -> list[str]:
    """The rule files that a file of unit tests names, as they are on disk."""
    text = _text(path)
    tests = None if text is None else test_file(path, text)
    folder = os.path.dirname(path)  # noqa: PTH120 -- as above
    found = (
        [] if tests is None else [one for name in named_rule_files(tests) for one in glob.glob(name, root_dir=folder)]  # noqa: PTH207 -- as above
    )
    return [os.path.normpath(os.path.join(folder, one)) for one in found]  # noqa: PTH118 -- as above


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _as_shown(verdict: Verdict, names: Mapping[str, str]) -> Verdict:
    """The verdict with each place under the name that the file was given by."""

    def shown(place: Place | None) -> Place | None:
        return place if place is None else replace(place, path=names.get(place.path, place.path))

    findings: list[Finding] = [replace(one, place=shown(one.place)) for one in verdict.findings]
    unjudged: list[Unjudged] = [replace(one, place=shown(one.place)) for one in verdict.unjudged]
    return replace(verdict, findings=tuple(findings), unjudged=tuple(unjudged))
