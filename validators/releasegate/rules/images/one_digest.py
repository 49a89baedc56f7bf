"""images/one-digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from releasegate.discover.files import Unreadable
from releasegate.k8s import ImageRef
from releasegate.model import Finding, HelmSource, Kind, Place, Release, Scope, Unjudged
from releasegate.render import join
from releasegate.rules import Evidence, rule
from releasegate.rules.images import Use, uses
from releasegate.rules.images.no_mutable_tag import floats, is_major_minor


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """A use of `repo:tag@digest` in a release."""

    release: Release
    use: Use
    ref: ImageRef


def _pinned(evidence: Evidence) -> Sequence[Pinned]:
    """Every `repo:tag@digest` of every environment; the environments in the order of promotion, protected ones last."""
    return [
        Pinned(rendered.release, use, ref)
        for environment in evidence.repo.environments
        for rendered in evidence.rendered
        if rendered.release.environment == environment.name
        for use in uses(replace(evidence, renders=(rendered,)))
        if (ref := _parsed(use.image.text)) is not None and ref.tag is not None and ref.digest is not None
    ]


def _parsed(text: str) -> ImageRef | None:
    try:
        return ImageRef.parse(text)
    except ValueError:
        return None  # told by images/digest-only


@rule(scope=Scope.REPO, kind=Kind.POLICY, subjects=_pinned, together=True)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """A tag of an image names one digest, in every environment.

    Compared are all `repo:tag@digest` of all environments' renders. A tag that is moved by its nature (`latest`,
    `stable`, …) may stand beside two digests; for `1` and `1.2` it is advice.

    Why: the digest runs, and the tag is what people read. Where staging and production show 1.7.3 and run two builds,
    what was tested is not what is deployed, and nobody can see it: either one of the two is a slip of the hand, or the
    tag was pushed twice.

    Fix: ask the registry which digest the tag has (`crane digest REPO:TAG`) and write it at both places, or give the
    other build the tag it was published under.

    Bad:
        # values-staging.yaml
        image:
          tag: 1.7.3
          digest: sha256:53db6bc39af0d2d5708b5d9375f8ef2cece40c47c37f2bafc9611b1958acc47b
        # values-prod.yaml
        image:
          tag: 1.7.3
          digest: sha256:b24088031433092bfdcc41f427cc4060962a6501a3ab85bf75cc119174f3b448

    Good:
        # values-staging.yaml and values-prod.yaml
        image:
          tag: 1.7.3
          digest: sha256:b24088031433092bfdcc41f427cc4060962a6501a3ab85bf75cc119174f3b448
    """
    first: dict[tuple[str, str], Pinned] = {}
    for pinned in subjects:
        named = pinned.ref.name, pinned.ref.tag
        other = first.setdefault(named, pinned)
        if other.ref.digest != pinned.ref.digest and not floats(pinned.ref.tag):
            yield _finding(other, pinned, evidence)


def _finding(one: Pinned, other: Pinned, evidence: Evidence) -> Finding:
    tagged = f"{one.ref.name}:{one.ref.tag}"
    return Finding(
        message=(
            f"{tagged} is {_short(other)} in {other.release.id} ({_where(other, evidence)}) "
            f"and {_short(one)} in {one.release.id} ({_where(one, evidence)})"
        ),
        help=f"`crane digest {tagged}` prints the one it has; write that at both places, or the tag of the other build",
        change=f"one digest for {tagged}: not {other.ref.digest}",
        manifest=other.use.manifest,
        pointer=other.use.image.pointer,
        value=other.use.image.text,
        advice=is_major_minor(one.ref.tag or ""),
    )


def _short(pinned: Pinned) -> str:
    return f"{(pinned.ref.digest or '')[: len('sha256:') + 12]}…"


def _where(pinned: Pinned, evidence: Evidence) -> str:
    """The values line that holds the digest where one and only one does, else who uses it."""
    digest = pinned.ref.digest or ""
    found = []
    for source in pinned.release.sources:
        if isinstance(source, HelmSource) and source.revision is None:
            for path in dict.fromkeys(
                (*(file.path for file in source.values_files), join(source.chart, "values.yaml"))
            ):
                found += [Place(path=path, line=line) for line in _lines(path, digest, evidence)]
    return str(found[0]) if len(found) == 1 else pinned.use.where


def _lines(path: str, text: str, evidence: Evidence) -> list[int]:
    try:
        lines = evidence.shared.files.text(path).splitlines()
    except Unreadable:
        return []
    return [number for number, line in enumerate(lines, 1) if text in line]
