"""schema/served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from releasegate.model import Finding, Kind, Manifest, Scope, Unjudged
from releasegate.rules import Evidence, manifests, rule


@rule(scope=Scope.RELEASE, kind=Kind.FACT, subjects=manifests)
def check(subject: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Every object is written in an API version that the environment's Kubernetes version serves.

    A deprecated version is advice that names the release which removes it. API versions the environment declares
    (`api_versions` in releasegate.toml) count as served; custom kinds without a known CRD are left to schema/valid.

    Why: after a cluster upgrade the same manifest is refused ("no matches for kind"), in every environment at once.

    Fix: write the API version the message names and compare the fields with its schema: between v1beta1 and v1 some
    are renamed. To upgrade later, set `kubernetes` in releasegate.toml to what the cluster really runs.

    Bad:
        apiVersion: policy/v1beta1
        kind: PodDisruptionBudget
        metadata:
          name: api
        spec:
          minAvailable: 1
          selector:
            matchLabels:
              app: api

    Good:
        apiVersion: policy/v1
        kind: PodDisruptionBudget
        metadata:
          name: api
        spec:
          minAvailable: 1
          selector:
            matchLabels:
              app: api
    """
    manifest: Manifest = subject
    if evidence.schemas is None or not manifest.api_version or not manifest.kind:
        return
    declared = () if evidence.environment is None else evidence.environment.api_versions
    answer = evidence.schemas.served(manifest.api_version, manifest.kind)
    named = f"{manifest.api_version}/{manifest.kind}"
    if answer.status == "removed" and (manifest.api_version in declared or named in declared):
        return
    if answer.status in {"deprecated", "removed"}:
        use = answer.replacement
        yield Finding(
            message=answer.message,
            help=f"write apiVersion: {use}" if use and " " not in use else f"use {use}" if use else "remove it",
            change=f"replace {manifest.api_version} {manifest.kind}",
            manifest=manifest,
            pointer="/apiVersion",
            value=manifest.api_version,
            advice=answer.status == "deprecated",
        )
