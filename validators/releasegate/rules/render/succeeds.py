from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from releasegate.model import Finding, HelmSource, Kind, Place, Rendered, Scope, Unjudged, Unrendered
from releasegate.rules import Evidence, rule

if TYPE_CHECKING:  # `releasegate lint` lists the rules and renders nothing
    from releasegate.render import Lint


def _renders(evidence: Evidence) -> Sequence[Rendered | Unrendered]:
    return evidence.renders


@rule(scope=Scope.RELEASE, kind=Kind.FACT, subjects=_renders, needs_render=False)
def succeeds(render: Rendered | Unrendered, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Every release renders, with Argo CD's arguments, to at least one object.

    Why: a chart that does not render stops Argo CD's sync with ComparisonError, and `helm template` of a chart whose
    templates are all behind a false `if` prints nothing and exits 0: a pipeline that validates an empty stream is green.

    With `helm_lint = true` in releasegate.toml, what `helm lint` calls an error is a finding too, and a warning advice.

    Fix: mend the template at the named line, or the values it reads. A release that is meant to hold nothing in an
    environment should have no Application there.

    Bad:
        # templates/deployment.yaml, with `enabeld: true` in values-prod.yaml
        {{ if .Values.enabled }}
        kind: Deployment
        {{ end }}

    Good:
        # values-prod.yaml
        enabled: true
    """
    if isinstance(render, Unrendered):
        if not render.broken:
            group = render.group or render.reason
            yield Unjudged(reason=render.reason, remedy=render.remedy, group=group, place=render.place)
        else:
            for reason, remedy, place in ((render.reason, render.remedy, render.place), *render.also):
                yield Finding(message=reason, help=remedy, change=reason, place=place)
    elif not render.manifests:
        source = render.release.sources[0]
        path = source.chart if isinstance(source, HelmSource) else getattr(source, "path", "")
        yield Finding(
            message=f"{render.release.id} renders no object at all: nothing of it could be judged",
            help="switch it on in this environment's values, or take its Application out of this environment",
            change=f"{path} renders nothing",
            place=Place(path=path) if path else None,
        )
    elif evidence.lint is not None:
        for lint in evidence.lint(render.release):
            yield from _linted(lint)


def _linted(lint: Lint) -> Iterator[Finding | Unjudged]:
    from releasegate.tools.helm import Unavailable  # noqa: PLC0415 - as above

    if isinstance(lint.said, Unavailable):
        yield Unjudged(reason=lint.said.reason, remedy=lint.said.remedy, group=lint.said.reason)
        return
    for severity, path, text in lint.said.messages:
        if severity in {"error", "warning"}:
            said = " ".join(text.split())
            yield Finding(
                message=f"helm lint: {said}",
                help="mend what helm names; `helm lint` shows the same",
                change=said,
                place=Place(path=f"{lint.chart}/{path}" if path else lint.chart),
                advice=severity == "warning",
            )
