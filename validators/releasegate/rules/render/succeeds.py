from __future__ import annotations

from collections.abc import Iterator, Sequence

from releasegate.model import Finding, HelmSource, Kind, Place, Rendered, Scope, Unjudged, Unrendered
from releasegate.rules import Evidence, rule


def _renders(evidence: Evidence) -> Sequence[Rendered | Unrendered]:
    return evidence.renders


@rule(scope=Scope.RELEASE, kind=Kind.FACT, subjects=_renders, needs_render=False)
def succeeds(render: Rendered | Unrendered, _evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Every release renders, with Argo CD's arguments, to at least one object.

    Why: a chart that does not render stops Argo CD's sync with ComparisonError, and `helm template` of a chart whose
    templates are all behind a false `if` prints nothing and exits 0: a pipeline that validates an empty stream is green.

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
            yield Finding(message=render.reason, help=render.remedy, change=render.reason, place=render.place)
    elif not render.manifests:
        source = render.release.sources[0]
        path = source.chart if isinstance(source, HelmSource) else getattr(source, "path", "")
        yield Finding(
            message=f"{render.release.id} renders no object at all: nothing of it could be judged",
            help="switch it on in this environment's values, or take its Application out of this environment",
            change=f"{path} renders nothing",
            place=Place(path=path) if path else None,
        )
