"""images/digest-only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from releasegate.k8s import ImageRef
from releasegate.model import Finding, Kind, Scope, Unjudged
from releasegate.rules import Evidence, rule
from releasegate.rules.images import Use, uses

_DIGEST = "sha256:<64 hexadecimal digits>"


@rule(scope=Scope.RELEASE, kind=Kind.POLICY, subjects=uses)
def check(subject: Any, _evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Every image is named by its sha256 digest.

    Looked at are containers, init containers, sidecars, ephemeral containers and image volumes of every pod spec in
    any kind, the image fields of well-known custom resources, and `[images] fields` of the config. `repo@sha256:…` and
    `repo:tag@sha256:…` pass; the tag beside a digest is a comment that the runtime ignores.

    Why: a tag can be pushed again. What was tested in staging is then not what runs in production, two nodes of one
    Deployment run different builds, and a rollback to the same tag brings the broken build back.

    Fix: append the digest that the registry shows for the tag: `crane digest REPO:TAG`, or
    `docker buildx imagetools inspect REPO:TAG`. Give the chart a value for it, empty by default.

    Bad:
        apiVersion: v1
        kind: Pod
        metadata:
          name: api
        spec:
          containers:
            - name: api
              image: registry.example/api:1.4.2

    Good:
        apiVersion: v1
        kind: Pod
        metadata:
          name: api
        spec:
          containers:
            - name: api
              image: registry.example/api:1.4.2@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
    """
    use: Use = subject
    text = use.image.text
    try:
        ref = ImageRef.parse(text)
    except ValueError as error:
        said = f"{use.where}: {text!r} names no image: {error}"
        yield _finding(
            use, said, f"write REPOSITORY:TAG@{_DIGEST}, or mend the value that is missing", f"mend {text!r}"
        )
        return
    if ref.digest is None:
        said = f"{use.where}: {text} is not pinned by digest"
        yield _finding(use, said, f"write {text}@{_DIGEST}; `crane digest {text}` prints it", f"pin {ref.name}")
    elif not ref.digest.startswith("sha256:"):
        said = f"{use.where}: {text} is pinned by {ref.digest.partition(':')[0]}, not by sha256"
        yield _finding(use, said, f"write {ImageRef(ref.name, ref.tag)}@{_DIGEST}", f"pin {ref.name}")


def _finding(use: Use, message: str, fix: str, change: str) -> Finding:
    return Finding(
        message=message,
        help=fix,
        change=change,
        manifest=use.manifest,
        pointer=use.image.pointer,
        value=use.image.text,
    )
