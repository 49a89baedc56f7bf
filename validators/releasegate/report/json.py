"""The JSON report, version 1 (design.md 6). Other programs read it: it changes only by added fields."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from releasegate.evaluate import Cause, Report, cause_id, place_of
from releasegate.model import (
    DirectorySource,
    Environment,
    Finding,
    HelmSource,
    Manifest,
    Outcome,
    Place,
    Release,
    ToolIdentity,
    Unjudged,
    UnsupportedSource,
    Verdict,
)
from releasegate.report.text import clean, message

VERSION = 1
SUMMARY = (
    "cases",
    *(outcome.value.replace("-", "_") for outcome in Outcome),
    "findings",
    "causes",
    "objects",
)


def report(result: Report) -> dict[str, Any]:
    """Return the report as plain values."""
    cause_of = {id(finding): cause.id for cause in result.causes for _, finding in cause.entries}
    return {
        "version": VERSION,
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "complete": result.complete,
        "head": result.head,
        "base": result.base,
        "config_sha256": result.config_sha256,
        "seconds": round(result.seconds, 3),
        "tools": {one.name: _tool(one) for one in result.tools},
        "environments": [_environment(one, result) for one in result.repo.environments],
        "cases": [_case(verdict, cause_of) for verdict in result.verdicts],
        "causes": [_cause(one) for one in result.causes],
        "summary": result.counts,
        "notes": [clean(note) for note in result.notes],
    }


def usage_error(text: str) -> dict[str, Any]:
    """Return the report of a run that never began: exit code 4."""
    return {
        "version": VERSION,
        "verdict": "usage-error",
        "exit_code": 4,
        "complete": False,
        "head": None,
        "base": None,
        "config_sha256": None,
        "seconds": 0.0,
        "tools": {},
        "environments": [],
        "cases": [],
        "causes": [],
        "summary": dict.fromkeys(SUMMARY, 0),
        "notes": [clean(text)],
    }


def indented(value: Any, margin: str = "\n") -> str:
    """Return `json.dumps(value, indent=1, ensure_ascii=False)` for values with string keys, several times as fast.

    The standard library indents by a chain of generators, one per level; only scalars need its rules.
    """
    inner = f"{margin} "
    if isinstance(value, dict) and value:
        items = [f"{_scalar(key)}: {indented(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{margin}}}"
    if isinstance(value, list | tuple) and value:
        return f"[{inner}{f',{inner}'.join([indented(item, inner) for item in value])}{margin}]"
    return _scalar(value)


_scalar = json.JSONEncoder(ensure_ascii=False).encode


def write(document: Mapping[str, Any], path: str) -> None:
    """Write to a file, whole or not at all, or to stdout for `-`. Raises OSError."""
    text = indented(document) + "\n"
    if path == "-":
        os.write(1, text.encode(errors="backslashreplace"))
        return
    target = Path(path).resolve()  # a link stays a link: what it names is written
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8", errors="backslashreplace") as file:  # a device or a pipe
            file.write(text)
        return
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _tool(one: ToolIdentity) -> dict[str, Any]:
    why = {} if one.why is None else {"why": one.why}
    return {"version": one.version, "origin": one.origin, "sha256": one.sha256, **why}


def _environment(environment: Environment, result: Report) -> dict[str, Any]:
    return {
        "name": environment.name,
        "protected": environment.protected,
        "kubernetes": environment.kubernetes,
        "why": clean(environment.why),
        "releases": [
            _release(one, result.objects.get(one.id, 0))
            for one in result.repo.releases
            if one.environment == environment.name
        ],
    }


def _release(release: Release, objects: int) -> dict[str, Any]:
    helm = next((one for one in release.sources if isinstance(one, HelmSource)), None)
    application = release.application
    return {
        "name": release.name,
        "helm_release": release.helm_release,
        "chart": helm.chart if helm else None,
        "namespace": release.namespace,
        "values": [file.path for file in helm.values_files] if helm else [],
        "sources": [_source(one) for one in release.sources],
        "application": None
        if application is None
        else {
            "name": application.name,
            "path": application.place.path if application.place else application.template,
            "line": application.place.line if application.place else None,
            "parent": application.parent,
        },
        "objects": objects,
        "why": clean(release.why),
    }


def _source(source: HelmSource | DirectorySource | UnsupportedSource) -> str:
    if isinstance(source, HelmSource):
        return f"helm {source.chart}"
    if isinstance(source, DirectorySource):
        return f"directory {source.path}"
    return clean(source.description)


def _case(verdict: Verdict, cause_of: Mapping[int, str]) -> dict[str, Any]:
    case = verdict.id
    return {
        "id": str(case),
        "rule": case.rule,
        "level": verdict.level.value,
        "environment": case.environment,
        "release": case.release,
        "verdict": verdict.outcome.value,
        "subjects": verdict.subjects,
        "seconds": round(verdict.seconds, 6),
        "reason": None if verdict.reason is None else clean(verdict.reason),
        "remedy": None if verdict.remedy is None else clean(verdict.remedy),
        "findings": [_finding(one, case.rule, cause_of) for one in verdict.findings],
        "unjudged": [_unjudged(one) for one in verdict.unjudged],
    }


def _finding(finding: Finding, rule: str, cause_of: Mapping[int, str]) -> dict[str, Any]:
    place = place_of(finding)
    manifest = finding.manifest
    return {
        "message": message(finding, finding.message),
        "help": message(finding, finding.help),
        "cause": cause_of.get(id(finding)) or cause_id(rule, place, finding.change),
        **_place(place),
        "object": None if manifest is None else _object(manifest),
        "pointer": finding.pointer,
        "template": None if manifest is None else manifest.template,
        "status": finding.status.value,
    }


def _unjudged(gap: Unjudged) -> dict[str, Any]:
    return {
        "reason": clean(gap.reason),
        "remedy": clean(gap.remedy),
        "group": clean(gap.group),
        **_place(gap.place),
        "object": None if gap.manifest is None else _object(gap.manifest),
    }


def _object(manifest: Manifest) -> dict[str, Any]:
    return {
        "apiVersion": clean(manifest.api_version),
        "kind": clean(manifest.kind),
        "namespace": None if manifest.namespace is None else clean(manifest.namespace),
        "name": clean(manifest.name),
    }


def _place(place: Place | None) -> dict[str, Any]:
    if place is None:
        return {"path": None, "line": None, "column": None}
    return {"path": place.path, "line": place.line, "column": place.column}


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "id": cause.id,
        "rule": cause.rule,
        "message": clean(cause.message),
        "help": clean(cause.help),
        **_place(cause.place),
        "status": cause.status.value,
        "kind": "not-evaluated" if cause.unjudged else "systemic" if cause.systemic else "finding",
        "findings": len(cause.entries),
        "environments": list(cause.environments),
        "releases": list(cause.releases),
        "failing": cause.systemic[0] if cause.systemic else None,
        "judged": cause.systemic[1] if cause.systemic else None,
    }
