"""images/no-mutable-tag."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from releasegate.k8s import ImageRef
from releasegate.model import Finding, Kind, Level, Scope, Unjudged
from releasegate.rules import Evidence, rule
from releasegate.rules.images import Use, uses

# Tags that are pushed again by their nature: names of channels, branches and stages.
FLOATING = frozenset(
    {
        *("latest", "current", "newest", "stable", "unstable", "release", "released", "rolling", "tip", "next", "lts"),
        *("main", "master", "trunk", "mainline", "default", "head", "edge", "nightly", "daily", "weekly", "snapshot"),
        *("dev", "devel", "develop", "development", "test", "testing", "qa", "uat", "ci", "experimental", "preview"),
        *("staging", "stage", "prod", "production", "live", "canary", "alpha", "beta", "rc", "integration"),
    }
)  # fmt: skip
# What stands beside a tag to say how, not which: `stable-slim`, `1.27-alpine3.20`. Alone it names a moving base.
VARIANTS = frozenset(
    {
        *("alpine", "debian", "ubuntu", "bullseye", "bookworm", "trixie", "buster", "jammy", "noble", "focal", "ubi"),
        *("slim", "fat", "full", "minimal", "distroless", "nonroot", "rootless", "debug", "scratch", "musl", "glibc"),
        *("amd64", "arm64", "arm", "x86", "linux", "windows", "perl", "fpm", "apache", "cli", "jdk", "jre", "static"),
    }
)  # fmt: skip
# Of these even `1-stable` or `v2.3-nightly` is moved; `1.2.3-beta` is a version.
CHANNELS = frozenset({"latest", "stable", "edge", "nightly", "snapshot", "main", "master", "dev", "lts"})
_CHANNEL_NUMBERS = 2
_NUMBER = re.compile(r"v?[0-9]{1,3}")
_PARTS = re.compile(r"[-_.]")
# A bare number of three digits is a build (`v737`), no release line.
_MAJOR_MINOR = re.compile(r"v?(?:[0-9]{1,2}|[0-9]{1,3}\.[0-9]{1,3})(?P<variants>(?:-[a-z]+[0-9]*(?:\.[0-9]+)*)*)")


@rule(scope=Scope.RELEASE, kind=Kind.POLICY, subjects=uses)
def check(subject: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """No image is named by a tag that is pushed again.

    Refused: no tag at all (the runtime takes `latest`), names of channels, branches and stages (latest, stable, main,
    edge, nightly, dev, canary, prod, …, also with a variant: `stable-slim`), and what a template left over
    (`repo:`, `<no value>`, `{{`). A bare `1` or `1.2` is advice for images that are not `[images] own`: most publishers
    move it to each new patch. An image with a digest never floats, whatever its tag says.

    Why: the same file in git means another program tomorrow. Nobody reviewed the change, no rollback brings the old
    one back, and a restarted pod is the moment it happens.

    Fix: write the version that is published once, or better its digest.

    Bad:
        apiVersion: v1
        kind: Pod
        metadata:
          name: api
        spec:
          containers:
            - name: api
              image: registry.example/api:latest

    Good:
        apiVersion: v1
        kind: Pod
        metadata:
          name: api
        spec:
          containers:
            - name: api
              image: registry.example/api:1.4.2
    """
    use: Use = subject
    text = use.image.text
    try:
        ref = ImageRef.parse(text)
    except ValueError as error:
        digests = evidence.config.level("images/digest-only", Kind.POLICY, evidence.environment)
        if digests is Level.ON and _only_digest_is_wrong(text):
            return  # one cause, one entry: images/digest-only tells it
        said = f"{use.where}: {text!r} names no image: {error}"
        yield _finding(
            use, said, "give the image a name and a version, or mend the value that is missing", f"mend {text!r}"
        )
        return
    if ref.digest is not None:
        return
    change = f"give {ref.name} a fixed tag"
    fix = f"write the version that is published once, as {ref.name}:1.2.3, or add its digest"
    if ref.tag is None:
        yield _finding(use, f"{use.where}: {text} has no tag: the runtime takes `latest`", fix, change)
    elif floats(ref.tag):
        yield _finding(use, f"{use.where}: the tag of {text} is moved to each new build", fix, change)
    elif is_major_minor(ref.tag) and not _is_own(ref, evidence.config.images_own):
        said = f"{use.where}: the tag of {text} may be moved to each new patch release"
        yield _finding(use, said, fix, change, advice=True)


def _only_digest_is_wrong(text: str) -> bool:
    """Whether a name and a fixed tag stand before an `@` that no digest follows."""
    named, at, _ = text.partition("@")
    try:
        ref = ImageRef.parse(named)
    except ValueError:
        return False
    return bool(at) and ref.tag is not None and not floats(ref.tag)


def floats(tag: str) -> bool:
    """Whether a tag is made of nothing but floating words and variants: `latest`, `main-amd64`, `alpine`, `1-stable`."""
    parts = _PARTS.split(tag.lower())
    words = [part for part in parts if not _NUMBER.fullmatch(part)]
    if not words or any(word not in FLOATING and word not in VARIANTS for word in words):
        return False
    numbers = len(parts) - len(words)
    return not numbers or (numbers <= _CHANNEL_NUMBERS and not CHANNELS.isdisjoint(words))


def is_major_minor(tag: str) -> bool:
    """Whether a tag is `1`, `v1`, `1.2`, also with variants (`1.27-alpine3.20`), so that patches move it."""
    found = _MAJOR_MINOR.fullmatch(tag)
    if found is None:
        return False
    names = [re.match(r"[a-z]*", part) for part in found["variants"].split("-")[1:]]
    return all(name is not None and name[0] in VARIANTS for name in names)


def _is_own(ref: ImageRef, own: Sequence[str]) -> bool:
    return any(fnmatchcase(ref.name, glob) for glob in own)


def _finding(use: Use, message: str, fix: str, change: str, *, advice: bool = False) -> Finding:
    return Finding(
        message=message,
        help=fix,
        change=change,
        manifest=use.manifest,
        pointer=use.image.pointer,
        value=use.image.text,
        advice=advice,
    )
