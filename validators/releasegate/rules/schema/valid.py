"""schema/valid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from releasegate.model import Finding, Kind, Manifest, Place, Scope, Unjudged
from releasegate.rules import Evidence, manifests, rule
from releasegate.schemas import MissingSchema

_LINES = re.compile(r" \(first on line \d+\)")


def _served(evidence: Evidence) -> Sequence[Manifest]:
    """Every object but those whose API version is gone: no schema can judge them, schema/served refuses them."""
    known = evidence.schemas
    return [
        one
        for one in manifests(evidence)
        if known is None
        or not (one.api_version and one.kind)
        or known.served(one.api_version, one.kind).status != "removed"
    ]


@rule(scope=Scope.RELEASE, kind=Kind.FACT, subjects=_served)
def check(subject: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Every object has the fields and types that its kind has in the environment's Kubernetes version.

    Nothing that `kubeconform -strict` refuses passes. Refused beyond that, as the API server does: values outside an
    enum, numbers outside their type, text that is no quantity or no base64, two entries of a list with the same key,
    the same YAML key twice. A kind without schema is not judged, and never passes.

    Why: the API server drops what it does not know. With `replica: 3` the Deployment is accepted somewhere, runs one
    pod, and nobody is told; in a strict apply the whole sync fails after the merge, when it is everybody's problem.

    Fix: write what the message says. For a kind without schema bring its CRD into the repo (`crds/`), or run the
    command shown: `releasegate schemas add --missing --from URL|DIR|cluster`.

    Bad:
        apiVersion: v1
        kind: Service
        metadata:
          name: api
        spec:
          port:
            - port: 80

    Good:
        apiVersion: v1
        kind: Service
        metadata:
          name: api
        spec:
          ports:
            - port: 80
    """
    if evidence.schemas is None:
        return
    manifest: Manifest = subject
    for line, message in manifest.problems:
        place = None if manifest.path is None else Place(path=manifest.path, line=manifest.line + line - 1)
        # A line of the render is no line of the repo: there it would only mislead, and differ from release to release.
        said = message if place is not None else _LINES.sub("", message)
        yield Finding(
            message=said,
            help="keep one of the two and remove the other",
            change=f"mend the YAML: {said}",
            manifest=manifest,
            place=place,
            text_line=line,
        )
    found = evidence.schemas.problems(manifest)
    if isinstance(found, MissingSchema):
        yield Unjudged(reason=found.reason, remedy=found.remedy, group=found.group, manifest=manifest)
        return
    for problem in found:
        yield Finding(
            message=problem.message,
            help=problem.help,
            change=problem.change,
            manifest=manifest,
            pointer=problem.pointer,
            value=problem.value,
            advice=problem.advice,
            about_key=problem.keyword == "additionalProperties",
        )
