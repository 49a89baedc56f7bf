"""prometheus/config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate import k8s, yamlio
from releasegate.model import Finding, Kind, Manifest, Rendered, Scope, Unjudged
from releasegate.prometheuses import MountedFile, Server, servers, texts, version_of
from releasegate.rulefiles import read, rule_files
from releasegate.rules import Evidence, rule
from releasegate.rules.prometheus import sources
from releasegate.tools import promtool, store

_NAMES = frozenset({"prometheus.yml", "prometheus.yaml"})
_PROMTAIL = frozenset({"clients", "positions", "server", "target_config"})
_DISCOVERY = re.compile(r"field (\w+)_sd_configs not found in type")
# Discoveries of Prometheus that a promtool may be built without (plugins/*.go of the module).
_OPTIONAL = frozenset(
    [
        "aws",
        "azure",
        "consul",
        "digitalocean",
        "dns",
        "docker",
        "dockerswarm",
        "ec2",
        "ecs",
        "elasticache",
        "eureka",
        "gce",
        "hetzner",
        "ionos",
        "kubernetes",
        "kuma",
        "lightsail",
        "linode",
        "marathon",
        "msk",
        "nerve",
        "nomad",
        "oci",
        "openstack",
        "outscale",
        "ovhcloud",
        "puppetdb",
        "rds",
        "scaleway",
        "serverset",
        "stackit",
        "triton",
        "uyuni",
        "vultr",
    ]
)
# The oldest Prometheus that reads a field (its CHANGELOG; for labels of groups
# https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.RuleGroup).
_SINCE_GROUP = {"limit": (2, 31, 0), "query_offset": (2, 53, 0), "labels": (3, 0, 0)}
_SINCE_RULE = {"keep_firing_for": (2, 42, 0)}


@dataclass(frozen=True, slots=True, eq=False)
class ConfigFile:
    """A prometheus.yml in a key of a ConfigMap."""

    manifest: Manifest
    rendered: Rendered
    pointer: str
    text: str

    @property
    def key(self) -> str:
        """The name of the file."""
        return k8s.split(self.pointer)[-1]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.key} of ConfigMap {self.manifest.name}"


def configs(evidence: Evidence) -> Sequence[ConfigFile | Server]:
    """Every prometheus.yml in the render, and every Prometheus that says its version."""
    found: list[ConfigFile | Server] = [
        ConfigFile(manifest, rendered, pointer, text)
        for rendered in evidence.rendered
        for manifest in rendered.manifests
        if manifest.kind == "ConfigMap"
        for pointer, text in texts(manifest)
        if _is_config(k8s.split(pointer)[-1], text)
    ]
    found += [one for one in servers(evidence.rendered) if one.version is not None]
    return found


def _is_config(key: str, text: str) -> bool:
    """By its name, else by what it holds: scrape configs that are not Promtail's."""
    if key in _NAMES:
        return True
    if "scrape_configs" not in text or not key.endswith((".yml", ".yaml")):
        return False
    try:
        body = yamlio.load(text)
    except yamlio.YamlError:
        return False  # by its name it is none, and by what it holds nobody can say
    return isinstance(body, Mapping) and isinstance(body.get("scrape_configs"), list) and not _PROMTAIL & set(body)


@rule(scope=Scope.ENVIRONMENT, kind=Kind.FACT, subjects=configs, together=True)
def check(subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    """Prometheus accepts its config, and the config loads the rule files that are mounted for it.

    Every `prometheus.yml` in a ConfigMap goes through `promtool check config`. Where a container mounts it, each entry
    of `rule_files` must match a file that the container sees, and each rule file mounted there must be matched by one.
    Mounts that are not rendered here (claims, Secrets, files a sidecar writes) are not known, and nothing is said
    about them. An older Prometheus than promtool knows is advised about, with the fields that it refuses.

    Why: Prometheus does not start with a config it refuses; a pattern that matches nothing is no error to it, and all
    alerts of those files are silently gone.

    Fix: correct the field on that line, or the path: `rule_files` are paths inside the container, relative to the
    config's folder.

    Bad:
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: prometheus
        data:
          prometheus.yml: |
            scrape_configs:
              - job_name: api
                scrape_intervall: 30s

    Good:
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: prometheus
        data:
          prometheus.yml: |
            scrape_configs:
              - job_name: api
                scrape_interval: 30s
    """
    files = [one for one in subjects if isinstance(one, ConfigFile)]
    said = _answers([one.text for one in files], evidence)
    if isinstance(said, promtool.Unavailable):
        yield Unjudged(reason=said.reason, remedy=said.remedy, group=said.reason)
    else:
        for one in files:
            for problem in dict.fromkeys(said[one.text]):
                yield _problem(one, problem, evidence)
    running = servers(evidence.rendered)
    for one in files:
        yield from _rule_files(one, running, evidence)
    for one in subjects:
        if isinstance(one, Server):
            yield from _older(one, evidence)


def _answers(
    texts: Sequence[str], evidence: Evidence
) -> Mapping[str, tuple[promtool.Problem, ...]] | promtool.Unavailable:
    known: dict[str, tuple[promtool.Problem, ...]] = evidence.shared.once("prometheus/config: answers", dict)
    new = [text for text in dict.fromkeys(texts) if text not in known]
    if new:
        tool = evidence.shared.tool("promtool")
        if isinstance(tool, store.ToolMissing):
            return promtool.Unavailable(f"promtool is missing: {tool.reason}", tool.remedy)
        said = promtool.check_config(tool, new)
        if isinstance(said, promtool.Unavailable):
            return said
        known.update(zip(new, said, strict=True))
    return known


def _problem(file: ConfigFile, problem: promtool.Problem, evidence: Evidence) -> Finding | Unjudged:
    place = (
        sources(evidence).place_in_text(file.manifest, file.rendered, file.text, problem.line) if problem.line else None
    )
    discovery = _DISCOVERY.search(problem.message)
    if discovery is not None and discovery[1] in _OPTIONAL:
        return Unjudged(
            reason=f"{file.name}: this promtool is built without the service discovery {discovery[1]}",
            remedy="put the promtool of an official Prometheus release into the folder that RELEASEGATE_TOOLS names",
            group=f"promtool without {discovery[1]}_sd_configs",
            place=place,
            manifest=file.manifest,
        )
    line = f" (line {problem.line} of it)" if problem.line else ""
    return Finding(
        message=f"{file.name}: {problem.message}{line}",
        help="mend it: Prometheus does not start with it, and does not reload it",
        change=f"{file.name}: {problem.message}",
        manifest=file.manifest,
        pointer=file.pointer,
        place=place,
    )


def _rule_files(file: ConfigFile, running: Sequence[Server], evidence: Evidence) -> Iterator[Finding]:
    """What the `rule_files` of a config match in the containers that are started with it."""
    try:
        body = yamlio.load(file.text)
        positions = yamlio.positions(file.text)
    except yamlio.YamlError:
        return  # promtool says so
    patterns = body.get("rule_files") if isinstance(body, Mapping) else None
    patterns = [str(one) for one in patterns] if isinstance(patterns, list) else []
    for server in running:
        mounted = server.files.get(server.config or "")
        if mounted is None or mounted.manifest is not file.manifest or mounted.key != file.key:
            continue
        loaded: set[str] = set()
        unknown = False
        for index, pattern in enumerate(patterns):
            found = server.matches(pattern)
            unknown |= found is None
            loaded |= {one.path for one in found or ()}
            if found == []:
                mark = positions.value(f"/rule_files/{index}")
                yield Finding(
                    message=(
                        f"rule file {pattern!r} of {file.name} matches no file in the container of {server.manifest.kind} "
                        f"{server.manifest.name}: none of its alerts exists"
                    ),
                    help=_seen(server, evidence),
                    change=f"{file.name}: rule file {pattern} matches nothing",
                    manifest=file.manifest,
                    pointer=file.pointer,
                    place=sources(evidence).place_in_text(file.manifest, file.rendered, file.text, mark.line)
                    if mark is not None
                    else None,
                )
        for one in server.files.values():
            if one.path not in loaded and _holds_rules(one):
                yield Finding(
                    message=(
                        f"{one.key} of ConfigMap {one.manifest.name} holds rules and is mounted at {one.path}, and no entry "
                        f"of `rule_files` in {file.name} matches it: they are never loaded"
                    ),
                    help=f"add {one.path!r}, or a pattern that matches it, to `rule_files`",
                    change=f"{one.key} of {one.manifest.name} is not loaded",
                    manifest=one.manifest,
                    pointer=one.pointer,
                )


def _seen(server: Server, evidence: Evidence) -> str:
    paths = sorted(path for path, one in server.files.items() if _holds_rules(one))
    del evidence
    shown = ", ".join(paths[:3])
    return f"mounted rule files are: {shown}" if shown else "mount a ConfigMap with rules there, or take the entry out"


def _holds_rules(file: MountedFile) -> bool:
    return read(file.text, origin="text") is not None


def _older(server: Server, evidence: Evidence) -> Iterator[Finding]:
    """Advice where what promtool accepts may be refused by the Prometheus that is deployed."""
    tool = evidence.shared.tool("promtool")
    judged = version_of(tool.identity.version) if isinstance(tool, store.Tool) else None
    deployed = server.version
    if deployed is None or judged is None or deployed >= judged:
        return
    named = ".".join(map(str, deployed))
    newer = sorted(_newer_fields(deployed, evidence))
    if not newer and deployed[0] == judged[0]:
        return
    fields = f"; the rules use {', '.join(newer)}" if newer else ""
    yield Finding(
        message=(
            f"Prometheus {named} is deployed, and promtool {'.'.join(map(str, judged))} judges its rules and config: what is "
            f"newer than {named} passes here and is refused there{fields}"
        ),
        help=f"deploy Prometheus {judged[0]}.{judged[1]}, or write only what {named} understands",
        change=f"Prometheus {named} is older than promtool",
        manifest=server.manifest,
        pointer=server.pointer,
        value=server.value,
        advice=True,
    )


def _newer_fields(deployed: tuple[int, int, int], evidence: Evidence) -> set[str]:
    found = set()
    for file in rule_files(evidence.rendered):
        for one in file.rules():
            for fields, holder, of in ((_SINCE_GROUP, one.group, "of a group"), (_SINCE_RULE, one.body, "of a rule")):
                for name, since in fields.items():
                    if since > deployed and isinstance(holder, Mapping) and name in holder:
                        found.add(f"`{name}` {of} ({since[0]}.{since[1]})")
    return found
