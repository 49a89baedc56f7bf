"""argo/sync-policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from releasegate.discover.argo import mapping
from releasegate.model import Application, Finding, Kind, Release, Scope, Unjudged
from releasegate.rules import Evidence, rule
from releasegate.rules.argo import about, application_of, deployed, made_by, spec_of

# `automated.enabled` came with 3.1 (argo-cd pull request 21999); before, the API server drops it.
_KNOWS_ENABLED = (3, 1)
_AUTOMATED = "/spec/syncPolicy/automated"


def _judged(evidence: Evidence) -> Sequence[Release]:
    """The Applications of an environment whose config says how it is synced; elsewhere nothing is asked."""
    environment = evidence.environment
    return deployed(evidence) if environment is not None and environment.sync is not None else ()


@rule(scope=Scope.ENVIRONMENT, kind=Kind.POLICY, subjects=_judged, needs_render=False)
def check(subject: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Every Application is synced as its environment says: by hand, or by Argo CD itself.

    Judged where releasegate.toml says `sync = "manual"` or `sync = "automated"`. `automated: {}` is on, and so is
    `automated:` with only `prune: false`; `automated: null` is off, and `enabled: false` is since Argo CD 3.1
    (`argocd` in releasegate.toml; older ones ignore the field). Applications of ApplicationSets and of charts are
    judged as those written in files.

    Why: with automated sync a merge is the deployment, and `argocd app rollback` is refused. Where people believe
    that production waits for a person, nobody watches; where they believe that it syncs, a fix is merged and stays out.

    Fix: take `automated` out of the Application's `syncPolicy` (or write it, where the environment is automated), or
    change `sync` of the environment in releasegate.toml.

    Bad:
        # releasegate.toml: [environments.prod] sync = "manual"
        apiVersion: argoproj.io/v1alpha1
        kind: Application
        metadata:
          name: api-prod
        spec:
          syncPolicy:
            automated: {}

    Good:
        apiVersion: argoproj.io/v1alpha1
        kind: Application
        metadata:
          name: api-prod
        spec:
          syncPolicy:
            syncOptions:
              - CreateNamespace=true
    """
    environment = evidence.environment
    if environment is None:
        return
    application = application_of(subject)
    automated = mapping(spec_of(application).get("syncPolicy")).get("automated")
    switched_off = mapping(automated).get("enabled") is False
    old = switched_off and _is_before(evidence.config.argocd, _KNOWS_ENABLED)
    on = automated is not None and (not switched_off or old)
    if on and environment.sync == "manual":
        yield _on(application, automated, environment.name, old=old)
    elif not on and environment.sync == "automated":
        yield _off(application, environment.name, switched_off=switched_off)


def _on(application: Application, automated: Any, environment: str, *, old: bool) -> Finding:
    how = "automated: {} is on" if automated == {} else "syncPolicy.automated is on"
    if old:
        how = "Argo CD before 3.1 ignores automated.enabled, so syncPolicy.automated is on"
    return about(
        application,
        _AUTOMATED,
        f"{made_by(application)} syncs by itself, and {environment} is synced by hand: {how}",
        f'remove `automated` (or write `automated: null`), or say sync = "automated" of {environment} in releasegate.toml',
        change="remove syncPolicy.automated",
    )


def _off(application: Application, environment: str, *, switched_off: bool) -> Finding:
    why = "automated.enabled is false" if switched_off else "syncPolicy.automated is not written"
    return about(
        application,
        f"{_AUTOMATED}/enabled" if switched_off else _AUTOMATED,
        f"{made_by(application)} waits for a person, and {environment} is synced by Argo CD: {why}",
        "remove `enabled: false`" if switched_off else "write `automated: {}` below spec.syncPolicy",
        change="switch syncPolicy.automated on",
    )


def _is_before(version: str | None, wanted: tuple[int, int]) -> bool:
    """Whether the config names an older Argo CD; without a version it is taken for a current one."""
    if version is None:
        return False
    parts = version.removeprefix("v").split(".")
    return tuple(int(part) for part in parts[:2] if part.isdecimal()) < wanted
