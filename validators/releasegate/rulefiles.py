"""Prometheus rule files: which there are in a render and in a tree, and on which line a rule is written.

A *rule file* is what one Prometheus loads as one file: the groups of a PrometheusRule or VMRule, a key of a ConfigMap,
a plain file of the repo. The same text in several environments is judged once.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from releasegate import k8s, yamlio
from releasegate.discover.files import Files, Unreadable
from releasegate.model import HelmSource, Manifest, Place, Rendered
from releasegate.prometheuses import texts

Origin = Literal["object", "text", "file"]
Dialect = Literal["prometheus", "victoriametrics"]

_KINDS: Mapping[tuple[str, str], Dialect] = {
    # https://prometheus-operator.dev/docs/api-reference/api/, https://docs.victoriametrics.com/operator/resources/vmrule/
    ("monitoring.coreos.com", "PrometheusRule"): "prometheus",
    ("operator.victoriametrics.com", "VMRule"): "victoriametrics",
}
# Fields of those who read the same format and more: the operators take them out, Thanos and Mimir know them.
_GROUP_EXTRAS: Mapping[Dialect, frozenset[str]] = {
    "prometheus": frozenset(
        {"partial_response_strategy", "source_tenants", "evaluation_delay", "align_evaluation_time_on_interval"}
    ),
    "victoriametrics": frozenset(
        {"type", "concurrency", "params", "headers", "notifier_headers", "tenant", "extra_filter_labels"}
        | {"eval_offset", "eval_delay", "eval_alignment", "debug", "update_entries_limit"}
    ),
}
_RULE_EXTRAS: Mapping[Dialect, frozenset[str]] = {
    "prometheus": frozenset(),
    "victoriametrics": frozenset({"debug", "update_entries_limit"}),
}
SUFFIXES = (".yaml", ".yml", ".rules", ".rule", ".json")
# Without these words no text has such keys, unless it writes letters as escapes or as base64.
_GROUPS = re.compile(r"\bgroups\b")
_NAMED = re.compile(r"\b(?:alert|record)\b")
_WRITTEN_OTHERWISE = re.compile(
    r"\\(?:(?:x|u00|U000000)[67][0-9A-Fa-f]|[\r\n\x85\u2028\u2029])|!\S{0,100}(?:binary|%)|^%TAG", re.MULTILINE
)
# Where a text is no YAML, what it was meant to be: keys of a block, a flow mapping, `? key` or `&anchor key`.
_KEY_STARTS = r"(?:^|(?<=[{,]))[ \t]*(?:[-?][ \t]+)*(?:&\S{1,100}[ \t]+)?"
_MEANT_GROUPS = re.compile(rf"{_KEY_STARTS}[\"']?groups[\"']?[ \t]*(?::|$)", re.MULTILINE)
_MEANT_RULE = re.compile(rf"{_KEY_STARTS}[\"']?(?:alert|record)[\"']?[ \t]*(?::|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RuleFile:
    """What one Prometheus loads as one file.

    `text` is what promtool gets. `groups` is the parsed list. `pointer` is where the list (of an "object") or the text
    stands in the manifest. `path` is the plain file's. `error` is set where the text is no YAML. `rest` is the line of
    a second document, which Prometheus never reads.
    """

    origin: Origin
    text: str
    groups: Sequence[Any]
    dialect: Dialect = "prometheus"
    manifest: Manifest | None = None
    rendered: Rendered | None = None
    pointer: str = ""
    path: str | None = None
    error: yamlio.YamlError | None = None
    rest: int | None = None
    documents: int = 1

    @property
    def name(self) -> str:
        """`PrometheusRule rules`, `rules.yml of ConfigMap prometheus`, `rules/api.yaml`."""
        if self.manifest is None:
            return self.path or ""
        named = f"{self.manifest.kind} {self.manifest.name}"
        return named if self.origin == "object" else f"{k8s.split(self.pointer)[-1]} of {named}"

    def rules(self) -> list[Rule]:
        """Every rule of it, in order."""
        return [
            Rule(file=self, group_index=number, index=index, group=group, body=body)
            for number, group in enumerate(self.groups)
            if isinstance(group, Mapping)
            for index, body in enumerate(_list(group.get("rules")))
        ]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rule:
    """One alerting or recording rule, by its place in its file."""

    file: RuleFile
    group_index: int
    index: int
    group: Mapping[str, Any]
    body: Any

    @property
    def pointer(self) -> str:
        """Where it is inside the rule file: /groups/0/rules/3."""
        return f"/groups/{self.group_index}/rules/{self.index}"

    @property
    def name(self) -> str:
        """Its alert or record, "" where it has neither."""
        return _name(self.body)

    @property
    def is_alert(self) -> bool:
        """Whether it alerts (promtool asks for `alert` first, too)."""
        return isinstance(self.body, Mapping) and bool(self.body.get("alert"))

    @property
    def labels(self) -> dict[str, str]:
        """Its labels over those of its group, as Prometheus puts them together (rules.FromMaps)."""
        own = self.body.get("labels") if isinstance(self.body, Mapping) else None
        return {**_strings(self.group.get("labels")), **_strings(own)}

    @property
    def identity(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What promtool's linter compares: the name and the labels."""
        return self.name, tuple(sorted(self.labels.items()))

    def __str__(self) -> str:
        """`alert ApiAbsent of group api`, for messages."""
        kind = "alert" if self.is_alert else "record"
        return f"{kind} {self.name}" if self.name else f"rule {self.index + 1} of group {self.group.get('name')}"


def _name(body: Any) -> str:
    if not isinstance(body, Mapping):
        return ""
    name = body.get("alert") or body.get("record")
    return name if isinstance(name, str) else ""


def _strings(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): _text(one) for key, one in value.items() if not isinstance(one, Mapping | list)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def holds_rules(value: Any) -> bool:
    """Whether a document is a rule file: groups, one of which has rules that alert or record.

    Grafana's provisioned alerts (`uid`, `title`, `condition`) and other lists of groups are none.
    """
    return isinstance(value, Mapping) and any(
        isinstance(rule, Mapping) and ("alert" in rule or "record" in rule)
        for group in _list(value.get("groups"))
        if isinstance(group, Mapping)
        for rule in _list(group.get("rules"))
    )


# --- in the render ------------------------------------------------------------------------------------------------


def rule_files(renders: Iterable[Rendered]) -> list[RuleFile]:
    """Every rule file in the renders: PrometheusRule, VMRule, and ConfigMap keys that hold groups of rules."""
    return [found for rendered in renders for manifest in rendered.manifests for found in _of(manifest, rendered)]


def _of(manifest: Manifest, rendered: Rendered | None) -> Iterator[RuleFile]:
    if manifest.kind == "ConfigMap":
        yield from _of_config_map(manifest, rendered)
        return
    dialect = _KINDS.get((k8s.group_of(manifest.api_version), manifest.kind))
    spec = manifest.body.get("spec")
    if dialect is None or not isinstance(spec, Mapping):
        return  # that spec is no mapping is schema/valid's to say
    groups = _list(spec.get("groups"))
    yield RuleFile(
        origin="object",
        text=yamlio.dump({"groups": [_without_extras(group, dialect) for group in groups]}),
        groups=groups,
        dialect=dialect,
        manifest=manifest,
        rendered=rendered,
        pointer="/spec",
    )


def _of_config_map(manifest: Manifest, rendered: Rendered | None) -> Iterator[RuleFile]:
    for pointer, text in texts(manifest):
        found = read(text, origin="text")
        if found is not None:
            yield _at(found, manifest, rendered, pointer)


def _at(found: RuleFile, manifest: Manifest, rendered: Rendered | None, pointer: str) -> RuleFile:
    return RuleFile(
        origin="text",
        text=found.text,
        groups=found.groups,
        manifest=manifest,
        rendered=rendered,
        pointer=pointer,
        error=found.error,
        rest=found.rest,
        documents=found.documents,
    )


def read(text: str, *, origin: Origin, path: str | None = None) -> RuleFile | None:
    """Read a text that may be a rule file; None when it is none. One that was meant to be one has its `error`."""
    if not _may_hold_rules(text):
        return None
    documents = yamlio.kept(text)
    if isinstance(documents, yamlio.YamlError):
        if _MEANT_GROUPS.search(text) is None or _MEANT_RULE.search(text) is None:
            return None
        return RuleFile(origin=origin, text=text, groups=(), path=path, error=documents)
    if not any(holds_rules(document.value) for document in documents):
        return None
    # Prometheus reads the first document, whatever that is: promtool says what it makes of it.
    first = documents[0].value
    groups = _list(first.get("groups")) if isinstance(first, Mapping) else ()
    return RuleFile(
        origin=origin,
        text=_for_prometheus(text, first, groups) if isinstance(first, Mapping) else text,
        groups=groups,
        path=path,
        rest=documents[1].line if len(documents) > 1 else None,
        documents=len(documents),
    )


def _may_hold_rules(text: str) -> bool:
    """Whether it is worth parsing: never False for a text that `holds_rules`, however its keys are written.

    Dashboards hold both words, and megabytes, and are JSON: their keys are read by the faster reader.
    """
    groups, named = _GROUPS.search(text) is not None, _NAMED.search(text) is not None
    if not (groups and named) and _WRITTEN_OTHERWISE.search(text) is None:
        return False
    if text.lstrip()[:1] == "{":
        try:
            return "groups" in json.loads(text)
        except (ValueError, RecursionError):
            return True
    return True


def _for_prometheus(text: str, document: Mapping[str, Any], groups: Sequence[Any]) -> str:
    """The text as it is; without the fields of Thanos and Mimir where it has some."""
    extras = _GROUP_EXTRAS["prometheus"]
    if not any(isinstance(group, Mapping) and extras & set(group) for group in groups) and "namespace" not in document:
        return text
    rest = {key: value for key, value in document.items() if key not in ("groups", "namespace")}
    return yamlio.dump({**rest, "groups": [_without_extras(group, "prometheus") for group in groups]})


def _without_extras(group: Any, dialect: Dialect) -> Any:
    if not isinstance(group, Mapping):
        return group
    made = {key: value for key, value in group.items() if key not in _GROUP_EXTRAS[dialect]}
    extras = _RULE_EXTRAS[dialect]
    if extras and isinstance(made.get("rules"), list):
        made["rules"] = [
            {key: value for key, value in rule.items() if key not in extras} if isinstance(rule, Mapping) else rule
            for rule in made["rules"]
        ]
    return made


# --- plain files --------------------------------------------------------------------------------------------------

# What only Helm understands. `if`, `range`, `with` and raw strings are Prometheus' own as well.
_ONLY_HELM = re.compile(
    r"\{\{[^}]{0,500}(?:\.(?:Values|Release|Chart|Capabilities|Files)\b|\binclude\b|[`\"][^`\"}]{0,200}\{\{)"
)
_OF_HELM = re.compile(
    rf"{_ONLY_HELM.pattern}|^[ \t]*\{{\{{-?[ \t]*(?:if|range|with)[ \t]",
    re.MULTILINE,
)
_LOADS = re.compile(r"\.Files\b")
_BORROWS = re.compile(r"^dependencies:|^type:[ \t]*library", re.MULTILINE)


def plain_files(files: Files) -> list[RuleFile]:
    """Every plain rule file of the tree; what is a template of Helm is read from the render instead."""
    found = []
    for path in files.tree.files:
        if not path.endswith(SUFFIXES) or "/templates/" in f"/{path}":
            continue
        try:
            text = files.text(path)
        except Unreadable:
            continue  # told by the rule that loads it
        made = read(text, origin="file", path=path)
        if made is not None and not (_is_template(made) and _may_be_filled_in(path, files)):
            found.append(made)
    return found


def _is_template(file: RuleFile) -> bool:
    """Whether Helm has to fill it in: by its values (comments say nothing), or by its lines where it is no YAML."""
    if file.error is not None:
        return _OF_HELM.search(file.text) is not None
    return any(_ONLY_HELM.search(text) for text in _strings_within(file.groups))


def _strings_within(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _strings_within(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings_within(item)


def _may_be_filled_in(path: str, files: Files) -> bool:
    """Whether it is in a chart that loads files, or that borrows templates which may."""
    parts = path.split("/")
    for depth in range(len(parts)):
        chart = "/".join(parts[:depth])
        about = f"{chart}/Chart.yaml".lstrip("/")
        if about in files and (
            loads_files(chart, files)
            or files.mentions(about, _BORROWS)
            or f"{chart}/requirements.yaml".lstrip("/") in files
        ):
            return True
    return False


def loads_files(chart: str, files: Files) -> bool:
    """Whether a template of the chart, or of a chart inside it, uses `.Files`."""
    below = files.below(chart or ".")
    return any("/templates/" in f"/{path}" and files.mentions(path, _LOADS) for path in below)


# --- where a rule is written --------------------------------------------------------------------------------------


def canonical(value: Any) -> str:
    """One text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


_AROUND = 6  # lines that tell equal lines apart


def _told_by(rendered: Rendered | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The charts and the values files of a release that are of the judged tree."""
    sources = [
        source
        for source in (rendered.release.sources if rendered is not None else ())
        if isinstance(source, HelmSource) and source.revision is None
    ]
    return (
        tuple(source.chart for source in sources),
        tuple(values.path for source in sources for values in source.values_files),
    )


@dataclass(slots=True)
class _Index:
    """The rules written in the texts of a chart: by what they say, and by name."""

    groups: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    rules: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    pointers: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))


class Sources:
    """Finds the line on which a person would edit a rule; each text is read and positioned once."""

    def __init__(self, files: Files) -> None:
        """Read nothing yet."""
        self._files = files
        self._positions: dict[str, yamlio.Positions | None] = {}
        self._indexes: dict[tuple[str, ...], _Index] = {}

    def place(self, rule: Rule, inside: str = "") -> Place | None:
        """Where the rule, or what is `inside` it ("/expr"), is written; None where that is not certain."""
        file = rule.file
        if file.origin == "file":
            return self._in(file.path, rule.pointer, inside)
        if file.manifest is None or (file.manifest.path is not None and file.origin == "object"):
            return None  # sources.py knows the position
        if file.manifest.path is not None:
            return self._by_line(file.manifest.path, rule, inside)
        charts, values = _told_by(file.rendered)
        found = self._written(self._index(charts, values), rule)
        if found is not None:
            return self._in(*found, inside)
        return self._by_line(file.manifest.template, rule, inside) if not self._named(charts, values, rule) else None

    def place_in_text(self, manifest: Manifest, rendered: Rendered | None, text: str, line: int) -> Place | None:
        """Where a line of a ConfigMap's text is written: the one line of its files that reads the same.

        Looked for in the manifest's own file, else its template and the plain and values files of its release; where
        several lines read the same, those around it tell them apart.
        """
        lines = text.split("\n")
        if not 1 <= line <= len(lines) or not lines[line - 1].strip():
            return None
        charts, values = _told_by(rendered)
        if manifest.path is not None:
            paths = [manifest.path]
        else:
            below = [path for chart in charts for path in self._files.below(chart) if "/templates/" not in path]
            paths = list(dict.fromkeys([*([manifest.template] if manifest.template else []), *values, *below]))
        # One line alone may read the same by accident.
        for around in range(1, _AROUND):
            found = self._matching(paths, lines, max(0, line - 1 - around), line - 1)
            if len(found) < len("ab"):
                return found[0] if found else None
        return None

    def _matching(self, paths: Sequence[str], lines: Sequence[str], start: int, at: int) -> list[Place]:
        """Each place whose lines read like lines[start..at], but for indentation."""
        wanted = [line.strip() for line in lines[start : at + 1]]
        found: list[Place] = []
        for path in paths:
            try:
                held = [line.strip() for line in self._files.text(path).split("\n")]
            except Unreadable:
                continue
            found += [
                Place(path=path, line=number + 1)
                for number in range(len(wanted) - 1, len(held))
                if held[number] == wanted[-1] and held[number - len(wanted) + 1 : number + 1] == wanted
            ]
        return found

    def _named(self, charts: tuple[str, ...], values: tuple[str, ...], rule: Rule) -> bool:
        return bool(self._index(charts, values).names.get(rule.name))

    def _in(self, path: str | None, pointer: str, inside: str) -> Place | None:
        positions = self._positions_of(path) if path is not None else None
        if path is None or positions is None:
            return None
        mark = positions.key(pointer + inside) or positions.value(pointer + inside) or positions.value(pointer)
        return None if mark is None else Place(path=path, line=mark.line, column=mark.column)

    def _positions_of(self, path: str) -> yamlio.Positions | None:
        if path not in self._positions:
            try:
                self._positions[path] = yamlio.positions(self._files.text(path))
            except (Unreadable, yamlio.YamlError):
                self._positions[path] = None
        return self._positions[path]

    def _index(self, charts: tuple[str, ...], values: tuple[str, ...]) -> _Index:
        key = (*charts, "", *values)
        if key not in self._indexes:
            made = self._indexes[key] = _Index()
            below = [path for chart in charts for path in self._files.below(chart)]
            for path in dict.fromkeys([*below, *values]):
                if path.endswith((*SUFFIXES, ".tpl")) and "/templates/" not in path:
                    self._add(made, path)
        return self._indexes[key]

    def _add(self, index: _Index, path: str) -> None:
        try:
            text = self._files.text(path)
            if "expr" not in text:
                return
            value = yamlio.load(text)
        except (Unreadable, yamlio.YamlError):
            return
        for pointer, group, rule in _rules_within(value, ""):
            name = _name(rule)
            index.rules[canonical(rule)].append((path, pointer))
            index.names[name].append((path, pointer))
            if group is not None:
                index.pointers[canonical([group.get("name"), _name(rule)])].append((path, pointer))
                place = f"{canonical(group)}{pointer.rpartition('/')[2]}"
                index.pointers[place].append((path, pointer))

    @staticmethod
    def _written(index: _Index, rule: Rule) -> tuple[str, str] | None:
        """The one place that says the same: the whole group, else the rule, else a rule of that name in that group."""
        for candidates in (
            index.pointers.get(f"{canonical(rule.group)}{rule.index}"),
            index.rules.get(canonical(rule.body)),
            index.pointers.get(canonical([rule.group.get("name"), rule.name])) if rule.name else None,
        ):
            if candidates:
                return candidates[0] if len(candidates) == 1 else None
        return None

    def _by_line(self, path: str | None, rule: Rule, inside: str) -> Place | None:
        """A rule written out in a template or inside a block of text: by the one line that names it."""
        if path is None or not rule.name:
            return None
        try:
            lines = self._files.text(path).split("\n")
        except Unreadable:
            return None
        kind = "alert" if rule.is_alert else "record"
        start = re.compile(rf"\s*(?:- )?\s*{kind}:\s*[\"']?{re.escape(rule.name)}[\"']?\s*(?:#.*)?$")
        starts = [number for number, line in enumerate(lines) if start.match(line)]
        if len(starts) != 1:
            return None
        key = k8s.split(inside)[-1] if inside else ""
        return Place(path=path, line=1 + _line_of_key(lines, starts[0], key))


def _line_of_key(lines: Sequence[str], start: int, key: str) -> int:
    """The line of a key of the rule that `start` names; `start` itself where the key is not found below it."""
    wanted = re.compile(rf"\s*(?:- )?\s*{re.escape(key)}:(?:\s|$)")
    for number in range(start, len(lines) if key else start):
        if number > start and re.match(r"\s*- ", lines[number]):
            break
        if wanted.match(lines[number]):
            return number
    return start


def _rules_within(value: Any, pointer: str, group: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Any, Any]]:
    """Yield (pointer, its group or None, rule) of every rule at any depth."""
    if isinstance(value, Mapping):
        if "expr" in value and ("alert" in value or "record" in value):
            yield pointer, group, value
            return
        for key, item in value.items():
            if isinstance(item, Mapping | list):
                yield from _rules_within(item, k8s.join(pointer, key), value if key == "rules" else None)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, Mapping | list):
                yield from _rules_within(item, f"{pointer}/{number}", group)
