"""schema/unique."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate.model import Finding, Kind, Manifest, Release, Rendered, Scope, Unjudged
from releasegate.rules import Evidence, rule


@dataclass(frozen=True, slots=True, eq=False)
class Owned:
    """A manifest together with the render it belongs to."""

    rendered: Rendered
    manifest: Manifest


def owned(evidence: Evidence) -> Sequence[Owned]:
    """Every manifest of the environment with its render."""
    return [Owned(rendered, manifest) for rendered in evidence.rendered for manifest in rendered.manifests]


@rule(scope=Scope.ENVIRONMENT, kind=Kind.FACT, subjects=owned, together=True)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """No two objects of an environment have the same identity.

    Identity is destination cluster, API group, kind, namespace and name, whatever the API version says. An object
    without namespace lives in its release's; cluster-scoped kinds have none. Objects named by `generateName` are
    never equal. Hooks are no exception: one deletes or waits for the other.

    Why: both are applied and the last one wins. Within an Application Argo CD reports RepeatedResourceWarning and
    applies one of the two; between Applications each takes the object from the other at every sync
    (SharedResourceWarning), and deleting one Application deletes what the other runs on.

    Fix: rename one of them, or let one chart own it.

    Bad:
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: settings
        data:
          color: red
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: settings
        data:
          color: blue

    Good:
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: settings
        data:
          color: red
        ---
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: settings-blue
        data:
          color: blue
    """
    first: dict[tuple[str, str, str, str | None, str], Owned] = {}
    for subject in subjects:
        manifest: Manifest = subject.manifest
        if not manifest.name or not manifest.kind or not manifest.api_version:
            continue
        identity = identity_of(manifest, subject.rendered.release, evidence)
        other = first.setdefault(identity, subject)
        if other is not subject:
            yield _finding(identity, other, subject)


def identity_of(manifest: Manifest, release: Release, evidence: Evidence) -> tuple[str, str, str, str | None, str]:
    """(cluster, group, kind, namespace or None, name).

    Where the scope of a custom kind is not known it is taken for namespaced: that never calls two objects equal
    which are not.
    """
    namespaced = None if evidence.schemas is None else evidence.schemas.namespaced(manifest.api_version, manifest.kind)
    namespace = None if namespaced is False else manifest.namespace or release.namespace
    group = manifest.api_version.rpartition("/")[0]
    return cluster_of(release), _HOME_GROUP.get((group, manifest.kind), group), manifest.kind, namespace, manifest.name


# Kinds that moved between groups are one object in both.
_HOME_GROUP = {
    ("extensions", "DaemonSet"): "apps",
    ("extensions", "Deployment"): "apps",
    ("extensions", "Ingress"): "networking.k8s.io",
    ("extensions", "NetworkPolicy"): "networking.k8s.io",
    ("extensions", "ReplicaSet"): "apps",
    ("events.k8s.io", "Event"): "",
}


def cluster_of(release: Release) -> str:
    """The destination cluster, one spelling each; "" where no Application names one."""
    if release.application is None:
        return ""
    destination = release.application.destination
    told = destination.get("server") or destination.get("name") or ""
    # argo-cd docs/operator-manual/declarative-setup.md: the cluster Argo CD runs in, by address and by name.
    return "" if told in {"https://kubernetes.default.svc", "in-cluster"} else str(told)


def _finding(identity: tuple[str, str, str, str | None, str], first: Owned, again: Owned) -> Finding:
    _, _, kind, namespace, name = identity
    where = f" in namespace {namespace}" if namespace else ""
    if first.rendered is again.rendered:
        said = f"{kind} {name}{where} is rendered twice by {_release(again)}: {_from(first)} and {_from(again)}"
        fix = "rename one of them, or remove it: only one of the two is applied"
    else:
        said = (
            f"{kind} {name}{where} is rendered by two releases: {_release(first)} ({_from(first)}) "
            f"and {_release(again)} ({_from(again)})"
        )
        fix = "rename one of them, or let one release own it: each sync overwrites the other's"
    return Finding(
        message=said,
        help=fix,
        change=f"rename or remove {kind} {name}",
        manifest=again.manifest,
        pointer="/metadata/name",
        value=name,
    )


def _release(subject: Owned) -> str:
    return subject.rendered.release.id


def _from(subject: Owned) -> str:
    manifest = subject.manifest
    if manifest.path is not None:
        return f"{manifest.path}:{manifest.line}"
    return manifest.template or "unknown template"
