"""`releasegate new-rule`: the files of a rule, red until they are filled in.

Rego goes into the `policies/` of a config repo. Python goes into a package of its own, since a check imports nothing from
the tree it judges. In the source of releasegate itself both go where ours are, with an incident story.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from releasegate import __version__
from releasegate.rules import FIRST_RELEASE, Rule
from releasegate.rules.installed import GROUP, ID
from releasegate.usage import UsageError

Language = Literal["rego", "python"]
PACKAGE = "releasegate_rules"
FOLDER = "releasegate-rules"
_POLICIES = "policies/"


def new_rule(root: Path, name: str, language: Language | None, known: Iterable[Rule]) -> list[str]:
    """Write the files of the rule `name` ("category/name"); return their paths relative to `root`, in reading order.

    `language` None: Rego in a config repo, Python in the source of releasegate and in a folder of Python rules. Raises
    UsageError, before anything is written, for what is no id, an id that is taken, and files that are there already.
    """
    at_home = (root / "validators" / "releasegate" / "rules").is_dir()
    if language is None:
        language = "python" if at_home or _is_package(root) else "rego"
    short = name.removeprefix(_POLICIES) if language == "rego" else name
    if not ID.fullmatch(short) or short.startswith(("expect/", _POLICIES, "lib/")):
        raise UsageError(f'{name!r} is no id of a rule: write "category/name", lower case, words joined by "-"')
    full = f"{_POLICIES}{short}" if language == "rego" else short
    if full in {one.id for one in known}:
        raise UsageError(f"there is a rule {full} already; `releasegate explain {full}` tells what it does")
    files = _rego(short, at_home=at_home) if language == "rego" else _python(root, short, at_home=at_home)
    there = [path for path in files if (root / path).exists() and not path.endswith("pyproject.toml")]
    if there:
        raise UsageError(f"{there[0]} is there already; nothing was written")
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return list(files)


def next_steps(root: Path, name: str, written: Iterable[str]) -> list[str]:
    """What to do with what was written, in commands."""
    paths = list(written)
    short = name.removeprefix(_POLICIES)
    if any(path.startswith("fixtures/") for path in paths):
        words = short.replace("/", "-")
        return [
            "add its id to tests/rules/test_catalogue.py, give it something to judge in fixtures/repos/shop, then",
            f"make docs && make test ARGS='tests -k \"{words} or {words.replace('-', '_')} or catalogue\"'",
        ]
    if any(path.endswith(".rego") for path in paths):
        return [
            f'switch it on in releasegate.toml: "{_POLICIES}{short}" = "on" below [rules]; fill in the files, then',
            f"releasegate check --rule {_POLICIES}{short}",
        ]
    folder = next(path for path in paths if path.endswith("pyproject.toml")).rpartition("/")[0]
    steps = [f"python -m pip install -e {folder or '.'}; fill in the files, then", "python -m pytest " + (folder or "")]
    if (root / "releasegate.toml").exists():
        steps.append("move the folder to a repository of its own: the check must install no code of the tree it judges")
    return [step.rstrip() for step in steps]


def _fill(text: str, short: str, **more: str) -> str:
    category, _, name = short.partition("/")
    values = {
        "ID": short,
        "CATEGORY": category,
        "NAME": name,
        "MODULE": f"{category}.{name.replace('-', '_')}",
        "WORDS": f"{category}_{name}".replace("-", "_"),
        "RULE": name.replace("-", "_"),
        **more,
    }
    return re.sub(r"<<([A-Z]+)>>", lambda found: values[found[1]], text)


# --- Rego -------------------------------------------------------------------------------------------------------------


def _rego(short: str, *, at_home: bool) -> dict[str, str]:
    category, _, name = short.partition("/")
    folder = f"{_POLICIES}{category}/{name}"
    files = {f"{folder}/{name}.rego": _REGO, f"{folder}/bad.yaml": _BAD, f"{folder}/good.yaml": _GOOD}
    if at_home:
        files[f"{folder}/{name}_test.rego"] = _REGO_TEST
        files |= _story(f"{_POLICIES}{short}")
    return {path: _fill(text, short) for path, text in files.items()}


_REGO = """\
# METADATA
# title: TODO the truth that every object keeps, in one sentence.
# custom:
#   why: >-
#     TODO what goes wrong otherwise, and for whom.
#   fix: >-
#     TODO what to write instead.
#   podspecs: true
package policies.<<MODULE>>

import data.releasegate.pods

# `input` is one rendered object of the kinds that METADATA declares: `podspecs: true` for all with a pod spec, or a list,
# `kinds: [Service, apps/Deployment]`. A rule called deny_… finds, one called warn_… only advises.
deny_<<RULE>> contains finding if {
	some one in pods.containers
	one.container.image == "TODO"
	finding := {
		"msg": sprintf("%s %s TODO what is wrong with it", [one.role, one.name]),
		"pointer": sprintf("%s/image", [one.pointer]),
		"fix": "TODO what to write instead",
	}
}
"""
_REGO_TEST = """\
package policies.<<MODULE>>_test

import data.policies.<<MODULE>> as policy

_deployment(container) := {
	"apiVersion": "apps/v1",
	"kind": "Deployment",
	"metadata": {"name": "app"},
	"spec": {"template": {"spec": {"containers": [container]}}},
}

test_what_is_wrong_is_denied if {
	count(policy.deny_<<RULE>>) == 1 with input as _deployment({"name": "app", "image": "app"})
}
"""
_BAD = """\
# Every rule of the policy must find something in each document here: a check that it passes does not count.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
spec:
  selector:
    matchLabels: {app: app}
  template:
    metadata:
      labels: {app: app}
    spec:
      containers:
        - name: app
          image: registry.example/app:1.0.0
"""
_GOOD = _BAD.replace(
    "# Every rule of the policy must find something in each document here: a check that it passes does not count.",
    "# The same, as it should be: no rule of the policy may find anything here.",
)


# --- Python -----------------------------------------------------------------------------------------------------------


def _python(root: Path, short: str, *, at_home: bool) -> dict[str, str]:
    category, _, name = short.partition("/")
    module = f"{category}/{name.replace('-', '_')}.py"
    test = f"test_{category}_{name.replace('-', '_')}.py"
    if at_home:
        minor = ".".join(__version__.split(".")[:2])
        since = "" if minor == FIRST_RELEASE else f', since="{minor}"'
        files = {f"validators/releasegate/rules/{module}": _fill(_RULE, short, SINCE=since)}
        init = f"validators/releasegate/rules/{category}/__init__.py"
        if not (root / init).exists():
            files[init] = f'"""TODO what the rules of {category} ask."""\n'
        files[f"tests/rules/{test}"] = _fill(_TEST, short)
        return files | {path: _fill(text, short) for path, text in _story(short).items()}
    folder = f"{FOLDER}/" if (root / "releasegate.toml").exists() and not _is_package(root) else ""
    project = root / folder / "pyproject.toml"
    entry = f'"{short}" = "{PACKAGE}.{module.removesuffix(".py").replace("/", ".")}"'
    return {
        f"{folder}pyproject.toml": _with_entry(project, entry),
        f"{folder}{PACKAGE}/{module}": _fill(_RULE, short, SINCE=""),
        f"{folder}tests/{test}": _fill(_TEST, short),
    }


def _is_package(root: Path) -> bool:
    return (root / PACKAGE).is_dir()


def _with_entry(project: Path, entry: str) -> str:
    """The pyproject.toml of the package with one more entry point."""
    if not project.exists():
        return _PROJECT.replace("<<ENTRY>>", entry)
    text = project.read_text(encoding="utf-8")
    header = f'[project.entry-points."{GROUP}"]\n'
    if header not in text:
        raise UsageError(f"{project.name} has no table {header.strip()}: write it, with the line {entry}")
    return text.replace(header, f"{header}{entry}\n", 1)


_PROJECT = f"""\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{FOLDER}"
version = "0.1.0"
description = "Rules of our own for releasegate."
requires-python = ">=3.11"
dependencies = ["releasegate"]

# Each line is a rule: its id, and the module that holds it.
[project.entry-points."{GROUP}"]
<<ENTRY>>

[tool.hatch.build.targets.wheel]
packages = ["{PACKAGE}"]
"""
_RULE = '''\
"""<<ID>>."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from releasegate.model import Finding, Kind, Manifest, Scope, Unjudged
from releasegate.rules import Evidence, manifests, rule


@rule(scope=Scope.RELEASE, kind=Kind.POLICY, subjects=manifests<<SINCE>>)
def check(subject: Any, _evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """TODO the truth that every object keeps, in one sentence.

    Why: TODO what goes wrong otherwise, and for whom.

    Fix: TODO what to write instead.

    Bad:
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: app

    Good:
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: app
    """
    manifest: Manifest = subject
    if manifest.name == "TODO":
        yield Finding(
            message=f"{manifest.kind} {manifest.name} TODO what is wrong with it",
            help="TODO what to write instead",
            change="TODO what one edit mends: equal for all findings that it mends",
            manifest=manifest,
            pointer="/metadata/name",
            value=manifest.name,
        )
'''
_TEST = '''\
"""<<ID>>: what is found, and what passes."""

from __future__ import annotations

from releasegate.testing import examples, judge

RULE = "<<ID>>"


def test_the_bad_example_of_the_page_is_found_and_mended_by_its_help() -> None:
    bad, _ = examples(RULE)
    verdict = judge(RULE, bad)
    assert verdict.outcome == "failed"
    assert all(finding.help and "TODO" not in finding.help for finding in verdict.findings)


def test_the_good_example_of_the_page_is_judged_and_passes() -> None:
    _, good = examples(RULE)
    verdict = judge(RULE, good)
    assert verdict.outcome == "passed"
    assert verdict.subjects > 0
'''


# --- an incident ------------------------------------------------------------------------------------------------------


def _story(rule: str) -> Mapping[str, str]:
    folder = f"fixtures/repos/incidents/{rule.removeprefix(_POLICIES).replace('/', '-')}"
    return {
        f"{folder}/README.md": "TODO what happened, to whom, and how it was noticed; one paragraph.\n",
        f"{folder}/story.toml": 'base = "shop"\n\n[[edit]]\npath = "helm/api/values-prod.yaml"\nold = "TODO"\nnew = "TODO"\n',
        f"{folder}/expect.toml": f'exit_code = 1\nrule = "{rule}"\nverdict = "failed"\ncases = ["prod/api"]\n',
    }
