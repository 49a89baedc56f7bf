"""Would Prometheus load these rules? promtool is the judge; rendered rule files and plain ones are judged alike."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from releasegate import k8s, yamlio
from releasegate.model import Finding, Manifest, Place, Unjudged
from releasegate.prometheuses import cluster_of, servers
from releasegate.rulefiles import Rule, RuleFile, Sources, canonical
from releasegate.rules import Evidence
from releasegate.tools import promtool, store

SHOWN = 160
_IN_RULE = re.compile(r'(label|annotation) "((?:[^"\\]|\\.)*)": ')
_UNKNOWN_FIELD = re.compile(r"field (\S+) not found in type rulefmt\.(\S+)")
_LOKI = "loki_rule"  # the label by which Grafana's sidecar gives a ConfigMap to Loki's ruler
# https://grafana.com/docs/loki/latest/query/: line filters and functions that PromQL has not.
_OF_LOGQL = re.compile(r"\}\s*!(?:=|~|>)|\b(?:bytes_over_time|bytes_rate|rate_counter|first_over_time)\s*\(")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`', re.DOTALL)


def judge(
    files: Sequence[RuleFile], together: Sequence[Sequence[RuleFile]], evidence: Evidence
) -> Iterator[Finding | Unjudged]:
    """Judge rule files: what promtool says of each, equal rules, what the config requires of alerts.

    `together` are sets of files that one Prometheus loads, besides each file alone.
    """
    readable = [file for file in files if file.error is None]
    for file in files:
        if file.error is not None:
            yield _not_yaml(file, evidence)
    said = answers((file.text for file in readable), evidence)
    if isinstance(said, promtool.Unavailable):
        yield Unjudged(reason=said.reason, remedy=said.remedy, group=said.reason)
    else:
        for file in readable:
            yield from _judge_file(file, said[file.text], evidence)
    told: set[tuple[int, int]] = set()
    for members in [*([file] for file in readable), *together]:
        yield from _equal_rules(members, told, evidence)
    for file in readable:
        yield from _required(file, evidence)


def _judge_file(file: RuleFile, said: promtool.RuleFile, evidence: Evidence) -> Iterator[Finding | Unjudged]:
    rules = file.rules()
    if file.rest is not None:
        yield finding(
            evidence,
            message=f"{file.name} has a second YAML document: Prometheus reads the first one and skips the rest",
            help="put all groups into one document, or each document into a file of its own",
            change="second document",
            file=file,
            line=file.rest,
        )
    for problem in dict.fromkeys(said.problems):
        yield _problem(file, problem, rules, evidence)
    if said.problems:
        return
    twice = len({rule.identity for rule in rules}) < len(rules)
    if said.rules != len(rules) and not (said.repeated and twice):
        counted = "found equal rules where there are none" if said.repeated else f"found {said.rules}"
        yield Unjudged(
            reason=f"{file.name}: {len(rules)} rules are written there, promtool {counted}",
            remedy=f"`promtool check rules --lint=all --lint-fatal` on {file.name} says more",
            group=f"rules of {file.name} not counted",
            place=_place_of_file(file),
            manifest=file.manifest,
        )


def _problem(
    file: RuleFile, problem: promtool.Problem, rules: Sequence[Rule], evidence: Evidence
) -> Finding | Unjudged:
    rule, inside = _subject(problem, rules)
    message = problem.message
    if rule is not None and _other_language(file, rule, message):
        language = "MetricsQL" if file.dialect == "victoriametrics" else "LogQL"
        return Unjudged(
            reason=f"{rule} in {file.name} is no PromQL ({_short(message)}); promtool cannot judge {language}",
            remedy=(
                "write it in PromQL, or accept it in releasegate.toml: [[waivers]] with rule = "
                '"prometheus/rules", not_evaluated = true and its kind'
            ),
            group=f"{language} in {file.name}",
            place=sources(evidence).place(rule, inside) or _place_of_file(file),
            manifest=file.manifest,
        )
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown is not None:
        of_file = unknown[2].endswith("Groups")
        what = "a rule file" if of_file else "a group" if "Group" in unknown[2] else "a rule"
        holder, at = _holder(unknown[1], unknown[2], rules)
        if holder is not None:
            rule, inside = holder, at
        message = f"{unknown[1]!r} is no field of {what}"
        if file.dialect == "victoriametrics" and unknown[2].startswith("Rule") and rule is None:
            message += " of Prometheus"
    who = f"{rule}: " if rule is not None else f"{file.name}: "
    return finding(
        evidence,
        message=who + _short(message),
        help=_help(message, rule),
        change=f"{who}{message}",
        file=file,
        rule=rule,
        inside=inside,
        line=problem.line if rule is None and file.origin == "file" and file.documents == 1 else None,
    )


def _help(message: str, rule: Rule | None) -> str:
    if "could not parse expression" in message and rule is not None:
        expression = rule.body.get("expr") if isinstance(rule.body, Mapping) else None
        shown = " ".join(str(expression).split())
        return f"mend the expression `{_short(shown)}`: for it Prometheus refuses the whole file, with all its alerts"
    if "is no field of" in message:
        return "take it out, or correct its name: Prometheus refuses the whole file for it"
    if "undefined variable" in message:
        return "there are $labels, $value, $externalLabels and $externalURL"
    return "mend it: Prometheus refuses the whole file, with all its alerts"


def _subject(problem: promtool.Problem, rules: Sequence[Rule]) -> tuple[Rule | None, str]:
    """The rule that a problem is about, and what in it."""
    of_group = [rule for rule in rules if rule.group.get("name") == problem.group and rule.index + 1 == problem.rule]
    named = [rule for rule in of_group if rule.name == (problem.name or "")]
    if problem.group is None or len(named) != 1:
        return None, ""
    inside = _IN_RULE.match(problem.message)
    if inside is not None:
        return named[0], k8s.join(f"/{inside[1]}s", inside[2])
    if "expr" in problem.message:
        return named[0], "/expr"
    field = re.search(r"'(annotations|for|keep_firing_for)' in recording rule", problem.message)
    return named[0], f"/{field[1]}" if field else ""


def _holder(field: str, kind: str, rules: Sequence[Rule]) -> tuple[Rule | None, str]:
    """The one rule that has an unknown field; None where there are several, or where a group has it."""
    if "Group" in kind:
        return None, ""
    holders = [rule for rule in rules if isinstance(rule.body, Mapping) and field in rule.body]
    return (holders[0], k8s.join("", field)) if len(holders) == 1 else (None, "")


def _is_logql(file: RuleFile, expression: str) -> bool:
    """Whether an expression has what PromQL has not: `|` outside of strings; for Loki's own files, its other words.

    A PrometheusRule is no place for LogQL.
    """
    bare = _QUOTED.sub("", expression)
    if file.origin == "object":
        return False
    labels = file.manifest.metadata.get("labels") if file.manifest is not None else None
    for_loki = isinstance(labels, Mapping) and _LOKI in labels
    return "|" in bare or (for_loki and _OF_LOGQL.search(bare) is not None)


def _other_language(file: RuleFile, rule: Rule, message: str) -> bool:
    """Whether what is refused may be right where it is loaded: MetricsQL of a VMRule, LogQL of a ConfigMap."""
    expression = rule.body.get("expr") if isinstance(rule.body, Mapping) else None
    if file.dialect == "victoriametrics":
        return "could not parse expression" in message or _IN_RULE.match(message) is not None
    return "could not parse expression" in message and isinstance(expression, str) and _is_logql(file, expression)


# --- equal rules --------------------------------------------------------------------------------------------------


def _equal_rules(members: Sequence[RuleFile], told: set[tuple[int, int]], evidence: Evidence) -> Iterator[Finding]:
    """Each rule that has the name and the labels of one before it, once per pair whatever sets both are in."""
    first: dict[Hashable, Rule] = {}
    for rule in (rule for file in members for rule in file.rules()):
        other = first.setdefault(rule.identity, rule)
        pair = (_key(other), _key(rule))
        if other is rule or not rule.name or pair in told:
            continue
        told.add(pair)
        if other.file is not rule.file and _key_of_file(other.file) == _key_of_file(rule.file):
            continue  # the same object rendered twice is schema/unique's finding
        labels = ", ".join(f"{name}={value}" for name, value in sorted(rule.labels.items())) or "no labels"
        where = sources(evidence).place(other, "/alert" if other.is_alert else "/record")
        beside = f"at {where.path}:{where.line}" if where is not None else f"in {other.file.name}"
        # Recording one name in parts is usual (kube-prometheus does): wrong only where the parts overlap, which no
        # file tells. An alert has one meaning.
        parts = not rule.is_alert and canonical(rule.body) != canonical(other.body)
        yield finding(
            evidence,
            message=f"{rule} is defined twice with the same labels ({labels}): first {beside}",
            help="make sure that no series comes out of both: one overwrites the other's samples"
            if parts
            else "give one of them another name or another label, make one expression of both, or remove one",
            change=f"{rule} twice with {labels}",
            file=rule.file,
            rule=rule,
            inside="/alert" if rule.is_alert else "/record",
            advice=parts,
        )


def _key(rule: Rule) -> int:
    return hash((id(rule.file), rule.pointer))


def _key_of_file(file: RuleFile) -> Hashable:
    manifest = file.manifest
    if manifest is None:
        return file.path
    namespace = manifest.namespace or (file.rendered.release.namespace if file.rendered is not None else None)
    return manifest.kind, namespace, manifest.name, file.pointer


def loaded_together(files: Iterable[RuleFile], evidence: Evidence) -> list[list[RuleFile]]:
    """Sets of rule files that one Prometheus certainly loads if it loads one of them.

    No selector can tell objects apart that have the same labels in the same namespace; and where a Prometheus is
    rendered, its own selectors say.
    """
    objects = [
        file
        for file in files
        if file.origin == "object" and file.dialect == "prometheus" and file.error is None and file.manifest is not None
    ]
    alike: dict[Hashable, list[RuleFile]] = defaultdict(list)
    for file in objects:
        alike[_cluster(file), _namespace(file), tuple(sorted(_labels(file).items()))].append(file)
    sets = [members for members in alike.values() if len(members) > 1]
    for rendered in evidence.rendered:
        for manifest in rendered.manifests:
            if manifest.kind == "Prometheus" and manifest.api_version.startswith("monitoring.coreos.com/"):
                chosen = [
                    file
                    for file in objects
                    if cluster_of(rendered) == _cluster(file)
                    and _selects(manifest, manifest.namespace or rendered.release.namespace, file)
                ]
                if len(chosen) > 1:
                    sets.append(chosen)
    return [*sets, *_mounted_together(files, evidence)]


def _mounted_together(files: Iterable[RuleFile], evidence: Evidence) -> Iterator[list[RuleFile]]:
    """Sets of ConfigMap keys that the `rule_files` of one prometheus.yml match."""
    by_key = {(id(file.manifest), file.pointer): file for file in files if file.origin == "text"}
    if len(by_key) < len("ab"):
        return
    for server in servers(evidence.rendered):
        config = server.files.get(server.config or "")
        if config is None:
            continue
        try:
            body = yamlio.load(config.text)
        except yamlio.YamlError:
            continue  # prometheus/config says so
        patterns = body.get("rule_files") if isinstance(body, Mapping) else None
        loaded = {
            (id(one.manifest), one.pointer)
            for pattern in (patterns if isinstance(patterns, list) else ())
            for one in server.matches(str(pattern)) or ()
        }
        chosen = [file for key, file in by_key.items() if key in loaded]
        if len(chosen) > 1:
            yield chosen


def _labels(file: RuleFile) -> Mapping[str, str]:
    labels = file.manifest.metadata.get("labels") if file.manifest is not None else None
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}


def _namespace(file: RuleFile) -> str | None:
    if file.manifest is None or file.rendered is None:
        return None
    return file.manifest.namespace or file.rendered.release.namespace


def _cluster(file: RuleFile) -> str:
    return cluster_of(file.rendered) if file.rendered is not None else ""


def _selects(prometheus: Manifest, namespace: str, file: RuleFile) -> bool:
    """Whether a Prometheus certainly loads a PrometheusRule (prometheus-operator: a null selector matches nothing)."""
    spec = prometheus.body.get("spec")
    if not isinstance(spec, Mapping):
        return False
    of_rules, of_namespaces = spec.get("ruleSelector"), spec.get("ruleNamespaceSelector")
    own = _namespace(file) == namespace
    in_namespace = (
        own
        if of_namespaces is None
        else _matches(of_namespaces, {"kubernetes.io/metadata.name": _namespace(file) or ""})
    )
    return in_namespace and of_rules is not None and _matches(of_rules, _labels(file))


def _matches(selector: Any, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; False for one that is not understood."""
    if not isinstance(selector, Mapping):
        return False
    wanted = selector.get("matchLabels") or {}
    if not isinstance(wanted, Mapping) or any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for one in selector.get("matchExpressions") or ():
        if not isinstance(one, Mapping):
            return False
        key, operator, values = str(one.get("key")), one.get("operator"), one.get("values") or ()
        held = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not held.get(str(operator), False):
            return False
    return True


# --- what the config requires -------------------------------------------------------------------------------------

_RUNBOOKS = ("runbook_url", "runbook")


def _required(file: RuleFile, evidence: Evidence) -> Iterator[Finding]:
    wanted = evidence.config.prometheus_require
    for rule in file.rules() if wanted else ():
        if not rule.is_alert:
            continue
        for name in wanted:
            what = _lacks(rule, name)
            if what is not None:
                yield finding(
                    evidence,
                    message=f"{rule} has no {what}",
                    help=f"write one: `[prometheus] require` of releasegate.toml asks for {name!r} on every alert",
                    change=f"{rule} lacks {name}",
                    file=file,
                    rule=rule,
                    inside="/alert",
                )


def _lacks(rule: Rule, name: str) -> str | None:
    """What an alert lacks of what is required of it; None where it has it."""
    annotations = rule.body.get("annotations")
    annotations = annotations if isinstance(annotations, Mapping) else {}
    if name == "for":
        return None if rule.body.get("for") is not None else "`for`"
    if name == "runbook":
        return None if any(annotations.get(one) for one in _RUNBOOKS) else "annotation runbook_url"
    if name == "severity":
        return None if rule.labels.get(name) else "label severity"
    return None if rule.labels.get(name) or annotations.get(name) else f"label or annotation {name}"


# --- findings -----------------------------------------------------------------------------------------------------


def _not_yaml(file: RuleFile, evidence: Evidence) -> Finding:
    error = file.error
    assert error is not None  # noqa: S101 -- the caller asked
    return finding(
        evidence,
        message=f"{file.name} is no YAML: {error.message}",
        help="mend it: Prometheus refuses the whole file, with all its alerts",
        change=f"{file.name}: {error.message}",
        file=file,
        line=error.line,
    )


def finding(
    evidence: Evidence,
    *,
    message: str,
    help: str,  # noqa: A002 -- the finding's own word
    change: str,
    file: RuleFile,
    rule: Rule | None = None,
    inside: str = "",
    line: int | None = None,
    advice: bool = False,
) -> Finding:
    """A finding about a rule file, or a rule in it, at the line where a person would edit that."""
    place: Place | None = None
    if file.origin == "file" and line is not None:
        place = Place(path=file.path or "", line=line)
    elif rule is not None:
        place = sources(evidence).place(rule, inside)
    if place is None and file.manifest is None:
        place = _place_of_file(file)
    pointer, value = file.pointer, None
    if rule is not None and file.origin == "object":
        pointer += rule.pointer + inside
        with_value = k8s.resolve({"groups": file.groups}, rule.pointer)
        value = with_value.get(inside[1:]) if inside.count("/") == 1 and isinstance(with_value, Mapping) else None
    return Finding(
        message=message,
        help=help,
        change=change,
        manifest=file.manifest,
        pointer=pointer if file.manifest is not None else None,
        value=value,
        place=place,
        advice=advice,
    )


def _place_of_file(file: RuleFile) -> Place | None:
    return Place(path=file.path) if file.path is not None else None


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def subjects_of(files: Iterable[RuleFile]) -> list[Rule | RuleFile]:
    """Every rule of the files; a text without any in its first document, or that cannot be read, counts as one."""
    found: list[Rule | RuleFile] = []
    for file in files:
        rules = file.rules()
        found += [file] if file.error is not None or (file.origin != "object" and not rules) else rules
    return found


# --- the program ---------------------------------------------------------------------------------------------------


def sources(evidence: Evidence) -> Sources:
    """The one of this run."""
    return evidence.shared.once("prometheus: sources", lambda: Sources(evidence.shared.files))


# --- promtool -----------------------------------------------------------------------------------------------------


def answers(texts: Iterable[str], evidence: Evidence) -> Mapping[str, promtool.RuleFile] | promtool.Unavailable:
    """What promtool says of each text; what it said of a text in another environment is not asked again."""
    known: dict[str, promtool.RuleFile] = evidence.shared.once("prometheus: answers", dict)
    new = [text for text in dict.fromkeys(texts) if text not in known]
    if not new:
        return known
    tool = evidence.shared.tool("promtool")
    if isinstance(tool, store.ToolMissing):
        return promtool.Unavailable(f"promtool is missing: {tool.reason}", tool.remedy)
    # A text it does not come back from, it does not come back from in the next environment either.
    refused: dict[tuple[str, ...], promtool.Unavailable] = evidence.shared.once("prometheus: no answers", dict)
    earlier = next((why for asked, why in refused.items() if set(asked) & set(new)), None)
    said = earlier or promtool.check_rules(tool, new)
    if isinstance(said, promtool.Unavailable):
        refused[tuple(new)] = said
        return said
    known.update(zip(new, said, strict=True))
    return known
