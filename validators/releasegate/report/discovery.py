"""What `releasegate discover` prints: environments and releases with the reason for each, and all that is not one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from releasegate.model import DirectorySource, HelmSource, Release, Repo, UnsupportedSource
from releasegate.report.text import clean
from releasegate.tools.store import Tool, ToolMissing


def document(repo: Repo, helm: Tool | ToolMissing) -> dict[str, Any]:
    """Return the discovery as plain values; `helm` is the program that renders."""
    return {
        "helm": _helm(helm),
        "environments": [
            {
                "name": environment.name,
                "protected": environment.protected,
                "kubernetes": environment.kubernetes,
                "why": environment.why,
                "releases": [_release(one) for one in repo.releases if one.environment == environment.name],
            }
            for environment in repo.environments
        ],
        "not_understood": [
            {
                "what": row.what,
                "reason": row.reason,
                "remedy": row.remedy,
                "path": row.place.path if row.place else None,
                "line": row.place.line if row.place else None,
                "environment": row.environment,
                "blocking": row.blocking,
            }
            for row in repo.not_understood
        ],
        "unreferenced_values": list(repo.unreferenced_values),
        "undeployed": list(repo.undeployed),
        "notes": list(repo.notes),
    }


def _helm(helm: Tool | ToolMissing) -> dict[str, Any]:
    if isinstance(helm, ToolMissing):
        return {"missing": helm.reason, "remedy": helm.remedy}
    return {"version": helm.identity.version, "why": helm.identity.why}


def _release(release: Release) -> dict[str, Any]:
    application = release.application
    return {
        "name": release.name,
        "helm_release": release.helm_release,
        "namespace": release.namespace,
        "sources": [_source(one) for one in release.sources],
        "application": None
        if application is None
        else {
            "name": application.name,
            "path": application.place.path if application.place else application.template,
            "line": application.place.line if application.place else None,
            "parent": application.parent,
        },
        "why": release.why,
    }


def _source(source: HelmSource | DirectorySource | UnsupportedSource) -> dict[str, Any]:
    if isinstance(source, HelmSource):
        return {
            "type": "helm",
            "chart": source.chart,
            "values": [file.path for file in source.values_files],
            "inline": source.inline.text if source.inline else None,
            "parameters": [[one.name, one.value] for one in source.parameters],
        }
    if isinstance(source, DirectorySource):
        return {"type": "directory", "path": source.path, "files": list(source.files)}
    return {"type": "unsupported", "description": source.description, "reason": source.reason, "remedy": source.remedy}


def lines(repo: Repo, helm: Tool | ToolMissing) -> Iterator[str]:
    """Yield the discovery as a person reads it; `helm` is the program that renders."""
    if isinstance(helm, ToolMissing):
        yield f"Nothing can be rendered: {helm}"
    else:
        yield f"Helm {helm.identity.version} renders: {helm.identity.why}"
    yield ""
    for environment in repo.environments:
        releases = [one for one in repo.releases if one.environment == environment.name]
        shield = ", protected" if environment.protected else ""
        yield click.style(
            f"{environment.name}{shield}, Kubernetes {environment.kubernetes}: {_count(len(releases), 'release')}",
            bold=True,
        )
        yield click.style(f"  {clean(environment.why)}", dim=True)
        width = max((len(one.name) for one in releases), default=0)
        for release in releases:
            sources = "; ".join(_short(one) for one in release.sources)
            yield f"  {release.name:<{width}}  {clean(sources)}  {click.style(clean(release.why), dim=True)}"
        yield ""
    if repo.not_understood:
        yield click.style("Not understood:", bold=True)
        for row in repo.not_understood:
            where = f"{row.place}: " if row.place else ""
            yield f"  {where}{clean(row.what)}: {clean(row.reason)}"
            yield f"    mend: {clean(row.remedy)}"
        yield ""
    if repo.undeployed:
        yield click.style("Charts not deployed from here (judged once in `default`):", bold=True)
        yield from (f"  {path}" for path in repo.undeployed)
        yield ""
    if repo.unreferenced_values:
        yield click.style("Values files that no release reads:", bold=True)
        yield from (f"  {path}" for path in repo.unreferenced_values)
        yield ""
    for note in repo.notes:
        yield f"note: {clean(note)}"
    yield f"{_count(len(repo.environments), 'environment')}, {_count(len(repo.releases), 'release')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(source: HelmSource | DirectorySource | UnsupportedSource) -> str:
    if isinstance(source, HelmSource):
        values = ", ".join(file.path for file in source.values_files)
        inline = f" + {source.inline.key} inline" if source.inline else ""
        return f"{source.chart}{f' < {values}' if values else ''}{inline}"
    if isinstance(source, DirectorySource):
        return f"{source.path} ({len(source.files)} files)"
    return f"not judged: {source.reason}"
