"""references/resolve."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate import k8s
from releasegate.config import Config
from releasegate.model import (
    DEFAULT_ENVIRONMENT,
    Finding,
    Kind,
    Manifest,
    Release,
    Rendered,
    Scope,
    Unjudged,
    Unrendered,
)
from releasegate.references import RUNTIME_LABELS, Made, Pods, Reference, Selector, made, pods, references, selectors
from releasegate.rules import Evidence, rule
from releasegate.rules.schema.unique import cluster_of

NEAR = 0.8  # difflib's ratio: two of ten letters may differ
SHOWN = 6

Where = tuple[str, str]
"""A cluster and a namespace of it. No Application of this repo says which: UNKNOWN."""

UNKNOWN = "?"
# What every namespace has: kubernetes.io/docs, "Configure Service Accounts for Pods"; the root CA publisher.
_IN_EACH_NAMESPACE = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}
# The API server publishes itself as this Service: kubernetes/kubernetes pkg/controlplane/controller/kubernetesservice.
_API_SERVER = {"component": "apiserver", "provider": "kubernetes"}


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One reference or selector, and the namespace that its object is in (`where`) or that it looks into."""

    manifest: Manifest
    where: Where
    about: Reference | Selector


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """What a selector may pick: an object that makes pods, or a Service with its own labels and named ports."""

    manifest: Manifest
    offers: Pods


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One object: what it refers to and selects, what it makes, and the pods it starts."""

    manifest: Manifest
    where: Where
    references: tuple[Reference, ...]
    selectors: tuple[Selector, ...]
    made: tuple[Made, ...]
    pods: tuple[Pods, ...]


def read(rendered: Rendered, config: Config) -> tuple[Reading, ...]:
    """Read each object of a release once."""
    found = []
    for manifest in rendered.manifests:
        body = manifest.body
        specs = tuple(k8s.pod_specs(body))
        found.append(
            Reading(
                manifest,
                home(rendered.release, manifest.namespace),
                tuple(references(body, specs)),
                tuple(selectors(body)),
                (*made(body), *_configured(body, config)),
                tuple(pods(body, specs)),
            )
        )
    return tuple(found)


@dataclass(slots=True)
class Known:
    """What there is in the clusters of an environment, as far as this repo makes it.

    `things`: what each object holds, None where that is not known. `unrendered`: releases of a namespace whose objects
    nobody knows. `rendered_to`: the namespaces this repo puts anything into.
    """

    things: dict[tuple[Where, str, str], frozenset[str] | None] = field(default_factory=dict)
    numbered: dict[tuple[Where, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    names: dict[tuple[Where, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    homes: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    picked: dict[tuple[str, Where], list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    by_label: dict[tuple[str, Where, str, str], list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    custom: dict[Where, list[Manifest]] = field(default_factory=lambda: defaultdict(list))
    rendered_to: set[Where] = field(default_factory=set)
    unrendered: dict[Where, list[Unrendered]] = field(default_factory=lambda: defaultdict(list))
    _adds: list[tuple[Where, Made]] = field(default_factory=list)
    _places: dict[Where, tuple[Where, ...]] = field(default_factory=dict)

    def add(self, reading: Reading) -> None:
        """Take in an object, what it makes, and the pods it starts."""
        where, manifest = reading.where, reading.manifest
        self.rendered_to.add(where)
        for one in reading.made:
            self._make(where, one)
        group = k8s.group_of(manifest.api_version)
        if "." in group and not group.endswith(".k8s.io") and not _NO_PODS.fullmatch(f"{group}/{manifest.kind}"):
            self.custom[where].append(manifest)
        for pod in reading.pods:
            self._offer("pods", where, Candidate(manifest, pod))
        if manifest.kind == "Service" and not group:
            self._offer("services", where, Candidate(manifest, _of_service(manifest.body)))

    def _make(self, where: Where, one: Made) -> None:
        if one.numbered:
            self.numbered[where, one.kind].append(one.name)
        elif one.only_keys:
            self._adds.append((where, one))
        else:
            for namespace in (UNKNOWN,) if one.namespaces is None else one.namespaces or (where[1],):
                self.names[(where[0], namespace), one.kind].add(one.name)
                self.homes[one.kind, one.name].add(namespace)
                _merge(self.things, ((where[0], namespace), one.kind, one.name), one.keys)

    def _offer(self, kind: str, where: Where, candidate: Candidate) -> None:
        self.picked[kind, where].append(candidate)
        for label, value in candidate.offers.labels.items():
            self.by_label[kind, where, label, value].append(candidate)

    def finish(self) -> None:
        """Add the keys that ExternalSecrets merge into objects that somebody else makes."""
        for where, one in self._adds:
            for place in self.places(where):
                if (place, one.kind, one.name) in self.things:
                    _merge(self.things, (place, one.kind, one.name), one.keys)

    def places(self, where: Where) -> tuple[Where, ...]:
        """Every namespace that may be this one: a cluster or namespace nobody names may be any."""
        if where not in self._places:
            cluster, namespace = where
            everywhere = {where, *self.rendered_to, *self.unrendered, (cluster, UNKNOWN), (UNKNOWN, UNKNOWN)}
            self._places[where] = tuple(
                sorted(
                    (one, other)
                    for one, other in everywhere
                    if UNKNOWN in (cluster, one) or one == cluster
                    if UNKNOWN in (namespace, other) or other == namespace
                )
            )
        return self._places[where]

    def holds(self, where: Where, reference: Reference) -> tuple[bool, frozenset[str] | None]:
        """Whether the object is there, and what it holds (None: not known)."""
        kind, name = reference.kind, reference.name
        if (kind, name) in _IN_EACH_NAMESPACE or (kind, name, where[1]) == ("Service", "kubernetes", "default"):
            return True, None
        found: dict[str, frozenset[str] | None] = {}
        for place in self.places(where):
            if (place, kind, name) in self.things:
                _merge(found, name, self.things[place, kind, name])
            for claim in self.numbered.get((place, kind), ()):
                if name.startswith(claim) and name[len(claim) :].isdigit():
                    found[name] = None
        return name in found, found.get(name)

    def select(self, selector: Selector, places: Sequence[Where]) -> list[Candidate]:
        """Return what the selector picks in these namespaces."""
        wanted = {key: value for key, value in selector.labels.items() if key not in RUNTIME_LABELS}
        expressions = tuple(one for one in selector.expressions if one.get("key") not in RUNTIME_LABELS)
        asked = Selector("", wanted, expressions)
        found = []
        for where in places:
            lists = [self.by_label.get((selector.picks, where, *label), []) for label in wanted.items()]
            among = min(lists, key=len) if lists else self.picked.get((selector.picks, where), [])
            found += [one for one in among if asked.accepts(one.offers.labels)]
        return found


def home(release: Release, namespace: str | None) -> Where:
    """Where an object of the release goes that says `namespace` itself."""
    if release.application is None:
        return UNKNOWN, namespace or UNKNOWN
    return cluster_of(release), namespace or release.namespace


def _of_service(body: Mapping[str, Any]) -> Pods:
    ports = frozenset(name for _, name in k8s.matches(body, "/spec/ports/*/name") if isinstance(name, str))
    labels = {
        k8s.split(at)[-1]: value for at, value in k8s.matches(body, "/metadata/labels/*") if isinstance(value, str)
    }
    return Pods(labels, ports)


def _merge(into: dict[Any, frozenset[str] | None], key: Any, keys: frozenset[str] | None) -> None:
    before = into.get(key, frozenset())
    into[key] = None if before is None or keys is None else before | keys


def _configured(body: Mapping[str, Any], config: Config) -> Iterator[Made]:
    for producer in config.producers:
        if producer.kind == body.get("kind"):
            for _, name in k8s.matches(body, producer.pointer):
                if isinstance(name, str) and name:
                    yield Made(producer.makes, name)


# --- an environment ---------------------------------------------------------------------------------------------------


def _renders_beside(evidence: Evidence) -> Iterator[Rendered | Unrendered]:
    """Releases of other environments that share the clusters: what names no environment is there for each of them."""
    here = evidence.environment
    if here is None or evidence.render_with is None:
        return
    for release in evidence.repo.releases:
        if release.environment != here.name and DEFAULT_ENVIRONMENT in (release.environment, here.name):
            yield evidence.render_with(release, {})


def known(evidence: Evidence) -> Known:
    """What there is for the objects of the environment."""
    found = Known()
    for one in (*evidence.renders, *_renders_beside(evidence)):
        if isinstance(one, Unrendered):
            found.unrendered[home(one.release, None)].append(one)
        else:
            for reading in _read(one, evidence):
                found.add(reading)
    found.finish()
    return found


def _read(rendered: Rendered, evidence: Evidence) -> tuple[Reading, ...]:
    key = ("references/resolve", "read", rendered.release.id)
    return evidence.shared.once(key, lambda: read(rendered, evidence.config))


def _known(evidence: Evidence) -> Known:
    name = None if evidence.environment is None else evidence.environment.name
    return evidence.shared.once(("references/resolve", "known", name), lambda: known(evidence))


def uses(evidence: Evidence) -> Sequence[Use]:
    """Every reference and selector of the environment that this repo can answer.

    What points into a namespace this repo puts nothing into is not among them.
    """
    there = _known(evidence)
    namespaces = {namespace for _, namespace in there.rendered_to}
    found: list[Use] = []
    for rendered in evidence.rendered:
        for reading in _read(rendered, evidence):
            manifest, (cluster, namespace) = reading.manifest, reading.where
            found += [
                Use(manifest, (cluster, one.namespace or namespace), one)
                for one in reading.references
                if one.namespace is None or one.namespace in namespaces
            ]
            found += [
                Use(manifest, reading.where, one)
                for one in reading.selectors
                if all(name in namespaces for name in one.namespaces or ())
            ]
    return found


@rule(scope=Scope.ENVIRONMENT, kind=Kind.POLICY, subjects=uses, together=True)
def check(subjects: Sequence[Use], evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """What objects refer to and select is there.

    Judged over all releases of the environment, by cluster and namespace: ConfigMaps, Secrets, ServiceAccounts and
    claims that pods use, with their keys; Services select pods that have the named port; PodDisruptionBudgets,
    NetworkPolicies, ServiceMonitors and PodMonitors select something; autoscalers, Ingresses, routes and RoleBindings
    name what exists. An object counts as there when a release renders it or a controller makes it (ExternalSecret,
    Certificate, SealedSecret, claims of a StatefulSet, and others; `[[producers]]` adds more), when it is built in,
    `optional`, or matches a glob of `[references] external`: `Secret/vault-*`, or `Pod/app=legacy-*` for pods by label.
    Where a release of the namespace could not be rendered, what is missing is not judged.

    Why: each of these is valid for the API server. The pod then waits in CreateContainerConfigError, the Service has
    no endpoints, the PodDisruptionBudget protects nothing, and the sync says Synced.

    Fix: write the name, key or label that exists; or name what makes it from outside.

    Bad:
        apiVersion: v1
        kind: Service
        metadata:
          name: api
        spec:
          selector:
            app: ap
          ports:
            - port: 80
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: api
        spec:
          selector:
            matchLabels:
              app: api
          template:
            metadata:
              labels:
                app: api
            spec:
              containers:
                - name: api
                  image: registry.acme.example/api:1.7.3

    Good:
        apiVersion: v1
        kind: Service
        metadata:
          name: api
        spec:
          selector:
            app: api
          ports:
            - port: 80
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: api
        spec:
          selector:
            matchLabels:
              app: api
          template:
            metadata:
              labels:
                app: api
            spec:
              containers:
                - name: api
                  image: registry.acme.example/api:1.7.3
    """
    there = _known(evidence)
    clouded: dict[str, tuple[Unrendered, list[str]]] = {}
    for use in subjects:
        if isinstance(use.about, Reference):
            places = there.places(use.where)
            found = _dangling(use, use.about, there, evidence.config)
        else:
            places = _looked_into(use.where, use.about, there)
            found = _selects_nothing(use, use.about, places, there, evidence.config)
        for finding, certain in found:
            clouds = [] if certain else [one for place in places for one in there.unrendered.get(place, ())]
            for cloud in clouds:
                clouded.setdefault(cloud.release.id, (cloud, []))[1].append(finding.message)
            if not clouds:
                yield finding
    for cloud, messages in clouded.values():
        what = "1 reference" if len(messages) == 1 else f"{len(messages)} references"
        yield Unjudged(
            reason=f"{cloud.release.id} is not rendered ({cloud.reason}), and {what} may need what it makes: {messages[0]}",
            remedy=cloud.remedy,
            group=cloud.gap,
            place=cloud.place,
        )


# --- references ---------------------------------------------------------------------------------------------------------


def _dangling(use: Use, reference: Reference, there: Known, config: Config) -> Iterator[tuple[Finding, bool]]:
    """What is wrong with a reference; True with what stays wrong whatever an unrendered release makes."""
    if reference.optional or _external(config, reference.kind, reference.name):
        return
    found, keys = there.holds(use.where, reference)
    if not found:
        yield _missing(use, reference, there), False
    elif reference.key is not None and keys is not None and reference.key not in keys:
        yield _missing_key(use, reference, keys), True


def _external(config: Config, kind: str, name: str) -> bool:
    return any(fnmatch.fnmatchcase(f"{kind}/{name}", glob) for glob in config.references_external)


def _missing(use: Use, reference: Reference, there: Known) -> Finding:
    kind, name = reference.kind, reference.name
    namespace = use.where[1]
    near = _near(name, frozenset().union(*(there.names.get((place, kind), ()) for place in there.places(use.where))))
    elsewhere = sorted(there.homes.get((kind, name), ()))
    if elsewhere:
        fix = f"{kind} {name} is in namespace {elsewhere[0]}, and an object needs one of its own namespace;"
    elif near:
        fix = f"did you mean {kind} {near}?"
    else:
        fix = "write the name of one that is there, or render it;"
    return Finding(
        message=f"{_subject(use)} needs {kind} {name}, which nothing makes"
        + ("" if namespace == UNKNOWN else f" in namespace {namespace}"),
        help=f'{fix} if it comes from outside this repo, external = ["{kind}/{name}"] under [references] in '
        "releasegate.toml says so",
        change=f"{kind} {name} is missing",
        manifest=use.manifest,
        pointer=reference.pointer,
        value=name,
        anywhere=True,
    )


def _missing_key(use: Use, reference: Reference, keys: frozenset[str]) -> Finding:
    kind, name, key = reference.kind, reference.name, reference.key or ""
    what = "port" if kind == "Service" else "key"
    near = _near(key, keys)
    there = ", ".join(sorted(keys)[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
    return Finding(
        message=f"{_subject(use)} needs {what} {key} of {kind} {name}, which has no such {what}",
        help=f"did you mean {near}?"
        if near
        else f"write one that it has: {there}"
        if keys
        else f"{name} holds nothing",
        change=f"{kind} {name} has no {what} {key}",
        manifest=use.manifest,
        pointer=reference.key_pointer or reference.pointer,
        value=key,
        anywhere=True,
    )


def _subject(use: Use) -> str:
    return f"{use.manifest.kind} {use.manifest.name}"


@functools.lru_cache(maxsize=4096)  # fifty pods may need one missing object
def _near(name: str, among: frozenset[str]) -> str | None:
    # One slip leaves the start or the end as it is; comparing with every name of a namespace is what takes the time.
    alike = sorted(one for one in among if one[:2] == name[:2] or one[-3:] == name[-3:])
    return next(iter(difflib.get_close_matches(name, alike, 1, NEAR)), None)


# --- selectors ----------------------------------------------------------------------------------------------------------


def _looked_into(where: Where, selector: Selector, there: Known) -> tuple[Where, ...]:
    if selector.namespaces is None:
        return there.places((where[0], UNKNOWN))
    return tuple(place for name in selector.namespaces or (where[1],) for place in there.places((where[0], name)))


def _selects_nothing(
    use: Use, selector: Selector, places: Sequence[Where], there: Known, config: Config
) -> Iterator[tuple[Finding, bool]]:
    picked = there.select(selector, places)
    if not picked:
        if not _made_elsewhere(selector, places, there, config):
            yield _nothing(use, selector, places, there), False
        return
    ports = frozenset().union(*(one.offers.ports for one in picked))
    for pointer, name in selector.ports:
        if name not in ports:
            yield _no_port(use, pointer, name, picked, ports), False


def _made_elsewhere(selector: Selector, places: Sequence[Where], there: Known, config: Config) -> bool:
    """Outside this repo, by the API server, or by the controller of a custom resource that the labels name."""
    word = "Pod" if selector.picks == "pods" else "Service"
    if any(_external(config, word, f"{key}={value}") for key, value in selector.labels.items()):
        return True
    if selector.picks == "services" and any(name == "default" for _, name in places) and selector.accepts(_API_SERVER):
        return True
    return any(
        _may_be_of(key, value, custom)
        for where in places
        for custom in there.custom.get(where, ())
        for key, value in selector.labels.items()
    )


# Custom resources that configure what runs elsewhere: no controller starts a pod for one.
_NO_PODS = re.compile(
    r"(bitnami\.com|cert-manager\.io|cilium\.io|external-secrets\.io|karpenter\.sh|keda\.sh|(policies\.)?kyverno\.io"
    r"|(networking|security|telemetry)\.istio\.io|secrets\.hashicorp\.com|traefik\.io)/.*"
    r"|monitoring\.coreos\.com/(AlertmanagerConfig|PodMonitor|Probe|PrometheusRule|ScrapeConfig|ServiceMonitor)"
    r"|argoproj\.io/(AnalysisTemplate|AppProject|Application|ApplicationSet|Rollout|WorkflowTemplate|WorkflowEventBinding)"
)


def _may_be_of(key: str, value: str, custom: Manifest) -> bool:
    """Operators label the pods they make with a key of their domain (`cnpg.io/cluster`), or with the resource's name."""
    group, domain = k8s.group_of(custom.api_version), key.rpartition("/")[0]
    return value == custom.name or (domain != "" and f".{group}".endswith(f".{domain}"))


def _nothing(use: Use, selector: Selector, places: Sequence[Where], there: Known) -> Finding:
    what = "pod" if selector.picks == "pods" else "Service"
    names = sorted({name for _, name in places} - {UNKNOWN})
    where = f" in namespace {names[0]}" if len(names) == 1 else ""
    best = max(
        (one for place in places for one in there.picked.get((selector.picks, place), ())),
        key=lambda one: _agreement(selector, one),
        default=None,
    )
    pointer, value, fix = selector.pointer, None, f"write labels that a {what} there has"
    wrong = [key for key in selector.labels if best is None or best.offers.labels.get(key) != selector.labels[key]]
    if wrong:
        pointer, value = k8s.join(selector.pointer, wrong[0]), selector.labels[wrong[0]]
        if best is not None and _agreement(selector, best):
            has = best.offers.labels.get(wrong[0])
            said = f"no label {wrong[0]}" if has is None else f"{wrong[0]}={has}"
            fix = f"the nearest, {best.manifest.kind} {best.manifest.name}, has {said}"
    labels = ", ".join(f"{key}={value}" for key, value in selector.labels.items()) or "what its expressions say"
    return Finding(
        message=f"{_subject(use)} selects no {what}{where}: none has {labels}",
        help=f'{fix}; if it is made outside this repo, external = ["{what.title()}/key=value"] under [references] in '
        "releasegate.toml says so",
        change=f"{use.manifest.kind} selects no {what}",
        manifest=use.manifest,
        pointer=pointer,
        value=value,
    )


def _agreement(selector: Selector, candidate: Candidate) -> float:
    """How many labels agree, and a little for one that is nearly right."""
    score = 0.0
    for key, value in selector.labels.items():
        has = candidate.offers.labels.get(key)
        score += 1 if has == value else difflib.SequenceMatcher(None, has, value).ratio() / 2 if has else 0
    return score


def _no_port(use: Use, pointer: str, name: str, picked: Sequence[Candidate], ports: frozenset[str]) -> Finding:
    first = picked[0].manifest
    near = _near(name, ports)
    return Finding(
        message=f"{_subject(use)} names port {name}, which nothing it selects has: {first.kind} {first.name}"
        + (f" and {len(picked) - 1} more" if len(picked) > 1 else ""),
        help=f"did you mean {near}?"
        if near
        else f"write one of: {', '.join(sorted(ports)[:SHOWN])}"
        if ports
        else "name the port of the container",
        change=f"no port {name}",
        manifest=use.manifest,
        pointer=pointer,
        value=name,
    )
