"""Is Argo CD told what people think it is told?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from releasegate import k8s
from releasegate.discover.argo import mapping
from releasegate.model import Application, Finding, Place, Release
from releasegate.rules import Evidence


def deployed(evidence: Evidence) -> Sequence[Release]:
    """Every release of the environment that an Application deploys, whether it renders or not."""
    environment = evidence.environment
    return [
        release
        for release in evidence.repo.releases
        if environment is not None and release.environment == environment.name and release.application is not None
    ]


def application_of(release: Release) -> Application:
    """The Application of one of `deployed`."""
    if release.application is None:
        raise AssertionError(f"{release.id} is deployed by no Application")
    return release.application


def spec_of(application: Application) -> Mapping[str, Any]:
    """`spec`, or {} when absent or not a mapping."""
    return mapping(application.body.get("spec"))


def made_by(application: Application) -> str:
    """`Application api-prod`, and the ApplicationSet where one makes it."""
    manifest = application.manifest
    if manifest is not None and manifest.kind == "ApplicationSet":
        return f"Application {application.name} (of ApplicationSet {manifest.name})"
    return f"Application {application.name}"


def about(
    application: Application, pointer: str, message: str, fix: str, *, change: str, advice: bool = False
) -> Finding:
    """Return a finding about a field of an Application, at the deepest part of `pointer` that is written.

    Its place is the line in the Application's or ApplicationSet's file, or in the template that rendered it.
    """
    manifest = application.manifest
    if manifest is None:
        place = application.place or (Place(path=application.template) if application.template else None)
        return Finding(message=message, help=fix, change=change, place=place, pointer=pointer, advice=advice)
    found, value = deepest(manifest.body, application.base + pointer)
    return Finding(
        message=message, help=fix, change=change, manifest=manifest, pointer=found, value=value, advice=advice
    )


def deepest(body: Any, pointer: str) -> tuple[str, Any]:
    """The longest beginning of a JSON pointer that there is in `body`, and the value there."""
    tokens = k8s.split(pointer)
    for end in range(len(tokens), 0, -1):
        part = k8s.join("", *tokens[:end])
        try:
            return part, k8s.resolve(body, part)
        except KeyError:
            continue
    return "", body
