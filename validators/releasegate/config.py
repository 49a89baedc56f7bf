"""`releasegate.toml` -> Config. Every error names the file, the line and what was expected.

Layer 1. The shape is `data/config.schema.json` (shipped, so that editors complete it); what a JSON Schema cannot say
(dates, names of environments, ambiguous globs) is checked here. Which rule ids exist is only known above this layer:
call `Config.check_rules` once the catalogue is loaded.
"""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import hashlib
import json
import math
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import jsonschema_rs

from releasegate.model import ENVIRONMENT_NAME, REPO_NODE, Environment, Kind, Level
from releasegate.tools import argocd

FILE = "releasegate.toml"
WAIVER_DAYS = 366
MAX_BYTES = 1_000_000
LONGEST_VALUE = 60  # characters of a wrong value that a message repeats
# On in protected environments without being configured: the guardrail this tool is for (design, facts and opinions).
GUARDRAILS = frozenset({"images/digest-only", "images/no-mutable-tag"})
# kubeconform's variables of -schema-location (pkg/registry/registry.go, schemaPath).
LOCATION_VARIABLES = frozenset(
    {"NormalizedKubernetesVersion", "StrictSuffix", "ResourceKind", "ResourceAPIVersion", "Group", "KindSuffix"}
)
UNWAIVABLE = ("gate/", "expect/")

KeyPath = tuple[str | int, ...]


class ConfigError(Exception):
    """The config cannot be used: exit 4. `str()` gives one `path:line: message` per problem, in line order."""

    def __init__(self, path: str, line: int | None, message: str, more: tuple[ConfigError, ...] = ()) -> None:
        """Keep the first problem as `path`, `line`, `message`; the others of the same file as `more`."""
        self.path = path
        self.line = line
        self.message = message
        self.more = more
        super().__init__(path, line, message)

    def __str__(self) -> str:
        """Return one line per problem, `path:line: message`."""
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return "\n".join([f"{where}: {self.message}", *(str(error) for error in self.more)])


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """`[environments.NAME]`. None where a key is not written: then its default holds, or it is not judged.

    `applications` and `values` are path globs that assign Applications and values files to this environment.
    `inputs`: dotted helm keys -> JSON values that a parent outside git passes to root charts.
    """

    name: str
    line: int | None = None
    protected: bool | None = None
    kubernetes: str | None = None
    applications: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    owners: tuple[str, ...] | None = None
    sync: str | None = None
    required: tuple[str, ...] = ()
    rules: Mapping[str, Level] = field(default_factory=dict)
    api_versions: tuple[str, ...] = ()
    smoke: tuple[tuple[str, ...], ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """`[[waivers]]`: findings of one rule that are accepted until `expires` (the last day it counts).

    `environment`, `release`, `kind`, `name` are globs, None matches all.
    """

    rule: str
    reason: str
    owner: str
    expires: dt.date
    environment: str | None = None
    release: str | None = None
    kind: str | None = None
    name: str | None = None
    not_evaluated: bool = False
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """`[promotion]`: where a service's tag and digest are written. None where not written."""

    file: str | None = None
    tag: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`[[clusters]]`: a cluster Argo CD knows, for the clusters generator: what its Secret says."""

    name: str
    server: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    project: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """`[[producers]]`: the controller of `kind` makes a `makes` named by what `pointer` holds."""

    kind: str
    pointer: str
    makes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The version of a program that a config asks for, and `why` in words for a person."""

    version: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of releasegate.toml, or the defaults where it does not exist (`exists` is False).

    `sha256` is that of the file's bytes, of no bytes when absent. `kubernetes` is "1.37", its patch dropped.
    `rules` maps ids and globs to levels. `images_fields` maps a kind to JSON pointers.
    """

    exists: bool = False
    path: str = FILE
    sha256: str = hashlib.sha256(b"").hexdigest()
    kubernetes: str | None = None
    argocd: str | None = None
    helm_lint: bool = False
    repo: tuple[str, ...] = ()
    expect: tuple[str, ...] = ()
    rules: Mapping[str, Level] = field(default_factory=dict)
    environments: Mapping[str, EnvironmentConfig] = field(default_factory=dict)
    gate_owners: tuple[str, ...] = ()
    code_owner_review: bool = False
    schema_locations: tuple[str, ...] = ()
    images_own: tuple[str, ...] = ()
    images_fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    references_external: tuple[str, ...] = ()
    promotion: Promotion = Promotion()
    tools: Mapping[str, str] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    producers: tuple[Producer, ...] = ()
    prometheus_require: tuple[str, ...] = ()
    lines: Mapping[KeyPath, int] = field(default_factory=dict, repr=False, compare=False)

    def pin(self, tool: str) -> Pin | None:
        """Say which version of a program this config asks for: [tools] names it, or argocd bundles that Helm."""
        if tool in self.tools:
            return Pin(version=self.tools[tool], why=f"[tools] {tool} = {self.tools[tool]}{self._at('tools', tool)}")
        if tool == "helm" and self.argocd is not None:
            version = argocd.helm_of(self.argocd)
            return Pin(version=version, why=f"Argo CD {self.argocd} bundles Helm {version}{self._at('argocd')}")
        return None

    def _at(self, *where: str) -> str:
        line = self.lines.get(where)
        return "" if line is None else f" ({self.path}:{line})"

    def level(self, rule_id: str, kind: Kind, environment: Environment | None) -> Level:
        """Say how much the rule counts in `environment` (None: repo-wide, where only `[rules]` speaks).

        Facts are always ON. Of a policy's entries the environment's beat `[rules]`; within one table an exact id
        beats a glob and a longer glob a shorter. Without an entry: ADVISE, or ON for the image guardrails in a
        protected environment. ConfigError when two globs of equal length match.
        """
        if kind is Kind.FACT:
            return Level.ON
        if environment is not None:
            configured = self.environments.get(environment.name)
            if configured is not None:
                level = self._entry(configured.rules, rule_id, ("environments", environment.name, "rules"))
                if level is not None:
                    return level
        level = self._entry(self.rules, rule_id, ("rules",))
        if level is not None:
            return level
        guarded = rule_id in GUARDRAILS and environment is not None and environment.protected
        return Level.ON if guarded else Level.ADVISE

    def check_rules(self, rules: Iterable[tuple[str, Kind]]) -> None:
        """Compare every rule named in the config with those that exist; ConfigError for what cannot take effect.

        `rules` are (id, kind) of the whole catalogue. Refused: an id or glob that is no rule, a level for a fact,
        two globs of equal length that match one rule, `required` and waivers of rules that do not exist.
        """
        kinds = dict(rules)
        problems: list[tuple[int | None, str]] = []
        tables: list[tuple[KeyPath, Mapping[str, Level]]] = [(("rules",), self.rules)]
        tables += [(("environments", name, "rules"), each.rules) for name, each in self.environments.items()]
        for where, table in tables:
            problems += self._check_table(where, table, kinds)
        named: list[tuple[KeyPath, str]] = [
            (("environments", name, "required", index), rule_id)
            for name, each in self.environments.items()
            for index, rule_id in enumerate(each.required)
        ]
        named += [(("waivers", index, "rule"), waiver.rule) for index, waiver in enumerate(self.waivers)]
        problems += [
            (self.lines.get(where), f"{rule_id!r} is no rule{_suggest(rule_id, kinds)}")
            for where, rule_id in named
            if rule_id not in kinds
        ]
        _raise(self.path, problems)

    def _check_table(
        self, where: KeyPath, table: Mapping[str, Level], kinds: Mapping[str, Kind]
    ) -> Iterator[tuple[int | None, str]]:
        for pattern in table:
            line = self.lines.get((*where, pattern))
            reached = [rule_id for rule_id in kinds if matches(pattern, rule_id)]
            if not reached:
                yield line, f"{pattern!r} matches no rule{_suggest(pattern, kinds)}"
            elif all(kinds[rule_id] is Kind.FACT for rule_id in reached):
                what = f"{pattern!r} is a fact" if pattern in kinds else f"{pattern!r} matches only facts"
                yield line, f"{what}, which has no level: accept its findings with [[waivers]]"
        try:
            for rule_id in kinds:
                self._entry(table, rule_id, where)
        except ConfigError as error:
            yield error.line, error.message

    def _entry(self, table: Mapping[str, Level], rule_id: str, where: KeyPath) -> Level | None:
        if rule_id in table:
            return table[rule_id]
        globs = [pattern for pattern in table if matches(pattern, rule_id)]
        if not globs:
            return None
        longest = max(map(len, globs))
        best = [pattern for pattern in globs if len(pattern) == longest]
        if len(best) > 1:
            one, other = (f'"{pattern}"' for pattern in best[:2])
            line = self.lines.get((*where, best[1]))
            message = (
                f"{one} and {other} both match {rule_id} and are equally long: write the id itself, or a longer glob"
            )
            raise ConfigError(self.path, line, message)
        return table[best[0]]


def load(root: Path, *, today: dt.date | None = None) -> Config:
    """Read `releasegate.toml` of `root`; the defaults when there is none.

    ConfigError when it cannot be read, leaves the root through a link, is no TOML, or says something unknown.
    """
    path = root / FILE
    if not path.exists() and not path.is_symlink():
        return Config()
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve(strict=True)):
            raise ConfigError(FILE, None, "is a link that leaves the repo: put the file itself there")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(FILE, None, f"cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(FILE, None, f"is larger than {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(FILE, line, "is not UTF-8: save it as UTF-8") from error
    return parse(text, FILE, today=today)


MAX_DOTS = 200  # in a line: a key of thousands of parts takes the parser minutes


def parse(text: str, path: str = FILE, *, today: dt.date | None = None) -> Config:
    """Parse the text of a releasegate.toml. `path` is for messages. ConfigError holds all problems found.

    `today` bounds the expiry of waivers (default: today in UTC).
    """
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > MAX_DOTS:
            raise ConfigError(path, number, "nested too deeply to be meant")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _raise_syntax(path, text, str(error))
    except (RecursionError, ValueError) as error:  # deep nesting; a number of 5,000 digits
        raise ConfigError(path, None, f"cannot be read as TOML: {error}") from error
    lines = key_lines(text)
    problems: list[tuple[int | None, str]] = []
    document = _plain(data, (), lines, problems)
    problems += _shape_problems(document, lines)
    _raise(path, problems)
    problems += _meaning_problems(document, lines, today or dt.datetime.now(tz=dt.UTC).date())
    _raise(path, problems)
    return _build(document, path, hashlib.sha256(text.encode("utf-8")).hexdigest(), lines)


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in pattern)
    return re.compile("".join(parts).replace(".*.*", ".*"), re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """Whether the glob covers the whole name: `*` is any run of characters (`/` too), `?` is one."""
    return _glob(pattern).fullmatch(name) is not None


# --- errors -------------------------------------------------------------------------------------------------------


def _raise(path: str, problems: list[tuple[int | None, str]]) -> None:
    """Raise the problems, first line first, as one error; do nothing without problems."""
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: (problem[0] or 0, problem[1]))
    errors = [ConfigError(path, line, message) for line, message in ordered]
    if errors:
        first = errors[0]
        raise ConfigError(path, first.line, first.message, tuple(errors[1:]))


def _raise_syntax(path: str, text: str, message: str) -> NoReturn:
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = None
    if found:
        message = message[: found.start()]
        line = int(found[1]) if found[1] else text.count("\n", 0, len(text.rstrip())) + 1
    raise ConfigError(path, line, f"is not TOML: {message}")


def _suggest(name: str, known: Iterable[str]) -> str:
    options = list(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(options))}" if options else ""


# --- the shape: JSON Schema ---------------------------------------------------------------------------------------


@functools.cache
def schema() -> Mapping[str, Any]:
    """Return the JSON Schema of releasegate.toml, as shipped."""
    text = resources.files("releasegate").joinpath("data", "config.schema.json").read_text("utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


@functools.cache
def _validator() -> Any:
    return jsonschema_rs.validator_for(dict(schema()), validate_formats=True)


def _plain(value: Any, where: KeyPath, lines: Mapping[KeyPath, int], problems: list[tuple[int | None, str]]) -> Any:
    """TOML's values as JSON's: dates become ISO text; numbers that JSON lacks are problems."""
    if isinstance(value, Mapping):
        return {key: _plain(each, (*where, key), lines, problems) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, (*where, index), lines, problems) for index, each in enumerate(value)]
    if isinstance(value, dt.date | dt.time):  # datetime is a date
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        problems.append((lines.get(where), f"{_dotted(where)} is {value}, which helm values cannot hold"))
    return value


def _dotted(where: Iterable[str | int]) -> str:
    """`environments.prod.rules."images/*"` or `waivers[0].rule`."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _shape_problems(document: Any, lines: Mapping[KeyPath, int]) -> Iterator[tuple[int | None, str]]:
    for error in _validator().iter_errors(document):
        where: KeyPath = tuple(error.instance_path)
        node, example = _schema_node(error.evaluation_path)
        kind = error.kind
        if kind.name == "additionalProperties":
            for key in kind.unexpected:
                yield lines.get((*where, key)), _unknown_key(where, key, node)
        elif kind.name == "required":
            yield _line(where, lines), f"{_dotted(where)} lacks {kind.property!r}, which is required"
        else:
            yield _line(where, lines), f"{_dotted(where)} {_complaint(error, example)}"


def _line(where: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where)


def _schema_node(path: Iterable[str | int]) -> tuple[Any, Any]:
    """Return the schema that holds the failing keyword, and the nearest example on the way to it."""
    node: Any = schema()
    holder, example = node, None
    for part in path:
        holder = node
        if isinstance(node, Mapping) and node.get("examples"):
            example = node["examples"][0]
        if part == "$ref":
            for step in node["$ref"].removeprefix("#/").split("/"):
                holder = schema() if step == "$defs" else holder[step]
                holder = holder["$defs"] if step == "$defs" else holder
            node = holder
        else:
            node = node[part]
    return holder, example


def _complaint(error: Any, example: Any) -> str:
    kind, value = error.kind, error.instance
    got = json.dumps(value, ensure_ascii=False, default=str)
    got = got if len(got) <= LONGEST_VALUE else got[: LONGEST_VALUE - 3] + "..."
    wanted = f"; write for example {json.dumps(example, ensure_ascii=False)}" if example is not None else ""
    if kind.name == "type":
        return f"is {_type(value)} {got}, expected {' or '.join(map(_article, kind.types))}{wanted}"
    if kind.name == "enum":
        close = difflib.get_close_matches(str(value), kind.options, n=1)
        hint = f"; did you mean {json.dumps(close[0])}?" if close else ""
        return f"is {got}, expected one of {', '.join(map(json.dumps, kind.options))}{hint}"
    if kind.name == "format":
        return f"is {got}, expected a date; write for example 2027-01-31"
    if kind.name in {"pattern", "minLength"}:
        return f"is {got}, which has not the expected form{wanted}"
    if kind.name == "minItems":
        return f"is empty{wanted}"
    if kind.name == "uniqueItems":
        return f"names something twice: {got}"
    return str(error.message)


def _article(name: str) -> str:
    return {"array": "an array", "object": "a table", "boolean": "true or false"}.get(name, f"a {name}")


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "the boolean"
    if isinstance(value, int | float):
        return "the number"
    names = {str: "the string", list: "the array", dict: "the table"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "the value")


def _unknown_key(where: KeyPath, key: str, node: Mapping[str, Any]) -> str:
    known = list(node.get("properties", {}))
    table = f"[{_dotted(where)}]" if where else "the top level"
    elsewhere = [] if difflib.get_close_matches(key, known, n=1, cutoff=0.8) else _tables_with(key)
    if elsewhere:
        return f"unknown key {key!r} at {table}; it belongs in {' or '.join(elsewhere)}"
    return f"unknown key {key!r} at {table}{_suggest(key, known)}"


def _tables_with(key: str) -> list[str]:
    """Which tables hold that key, so that a key written one table too high is told where it goes."""
    tables = {f"[{name}]": node for name, node in schema()["properties"].items() if "properties" in node}
    tables["the top level (above the first table)"] = schema()
    tables["[environments.NAME]"] = schema()["$defs"]["environment"]
    tables["[[waivers]]"] = schema()["$defs"]["waiver"]
    return [table for table, node in tables.items() if key in node["properties"]]


# --- what a schema cannot say -------------------------------------------------------------------------------------


def _meaning_problems(
    document: Mapping[str, Any], lines: Mapping[KeyPath, int], today: dt.date
) -> Iterator[tuple[int | None, str]]:
    for name, body in document.get("environments", {}).items():
        yield from _environment_problems(name, body, lines)
    for index, waiver in enumerate(document.get("waivers", [])):
        yield from _waiver_problems(index, waiver, lines, today)
    for index, location in enumerate(document.get("schemas", {}).get("locations", [])):
        complaint = _location_complaint(location)
        if complaint:
            yield lines.get(("schemas", "locations", index)), f"schemas.locations[{index}] {complaint}"
    if "argocd" in document:
        try:
            argocd.helm_of(document["argocd"])
        except ValueError as error:
            yield lines.get(("argocd",)), f'argocd = "{document["argocd"]}" {error}'
    seen: dict[str, int] = {}
    for index, cluster in enumerate(document.get("clusters", [])):
        if cluster["name"] in seen:
            yield lines.get(("clusters", index, "name")), f"clusters names {cluster['name']!r} twice"
        seen[cluster["name"]] = index


def _environment_problems(
    name: str, body: Mapping[str, Any], lines: Mapping[KeyPath, int]
) -> Iterator[tuple[int | None, str]]:
    line = lines.get(("environments", name))
    if name == REPO_NODE:
        yield line, f"an environment cannot be called {REPO_NODE!r}: case ids use it for repo-wide rules"
    elif ENVIRONMENT_NAME.fullmatch(name) is None:
        yield line, f"environment name {name!r} must match {ENVIRONMENT_NAME.pattern} (lower case)"
    for key in ("applications", "values"):
        for index, pattern in enumerate(body.get(key, [])):
            if pattern.startswith("/") or ".." in pattern.split("/"):
                where = ("environments", name, key, index)
                yield lines.get(where), f"{_dotted(where)} is {pattern!r}: write a path below the root"
    taken: set[str] = set()
    for key in sorted(_flat(body.get("inputs", {}))):
        if any(key.startswith(f"{other}.") for other in taken) or key in taken:
            yield lines.get(("environments", name, "inputs")), f"environments.{name}.inputs sets {key!r} twice"
        taken.add(key)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys of the leaves, with repetitions."""
    keys: list[str] = []
    for key, value in table.items():
        keys += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [f"{prefix}{key}"]
    return keys


def _waiver_problems(
    index: int, waiver: Mapping[str, Any], lines: Mapping[KeyPath, int], today: dt.date
) -> Iterator[tuple[int | None, str]]:
    rule = waiver["rule"]
    if rule.startswith(UNWAIVABLE):
        yield lines.get(("waivers", index, "rule")), f"{rule!r} cannot be waived: it judges the check itself"
    expires = dt.date.fromisoformat(waiver["expires"])
    last = today + dt.timedelta(days=WAIVER_DAYS)
    if expires > last:
        message = f"waiver expires {expires}, more than {WAIVER_DAYS} days ahead: write {last} or earlier"
        yield lines.get(("waivers", index, "expires")), message
    if waiver.get("not_evaluated") and not ({"release", "kind"} & waiver.keys()):
        message = "a waiver with not_evaluated = true needs a release or a kind"
        yield lines.get(("waivers", index, "not_evaluated")), message


def _location_complaint(location: str) -> str | None:
    if "://" in location:
        return f"is {location!r}: only paths below the root; `releasegate schemas add --from URL` copies them there"
    if location.startswith(("/", "~")) or ".." in location.split("/"):
        return f"is {location!r}: write a path below the root"
    for variable in re.findall(r"\{\{(.*?)\}\}", location):
        name = variable.strip().removeprefix(".")
        if name not in LOCATION_VARIABLES or not variable.strip().startswith("."):
            return f"uses {{{{{variable}}}}}{_suggest(name, LOCATION_VARIABLES)}"
    return None


# --- values -------------------------------------------------------------------------------------------------------


def _build(document: Mapping[str, Any], path: str, sha256: str, lines: Mapping[KeyPath, int]) -> Config:
    def part(name: str) -> Mapping[str, Any]:
        return document.get(name, {})  # type: ignore[no-any-return]

    fields: dict[str, tuple[str, ...]] = {}
    for text in part("images").get("fields", ()):
        kind, _, pointer = text.partition(":")
        fields[kind] = (*fields.get(kind, ()), pointer)
    return Config(
        exists=True,
        path=path,
        sha256=sha256,
        kubernetes=_minor(document.get("kubernetes")),
        argocd=document.get("argocd"),
        helm_lint=document.get("helm_lint", False),
        repo=tuple(document.get("repo", ())),
        expect=tuple(document.get("expect", ())),
        rules=_levels(part("rules")),
        environments={
            name: _environment(name, body, lines.get(("environments", name)))
            for name, body in part("environments").items()
        },
        gate_owners=tuple(part("gate").get("owners", ())),
        code_owner_review=part("gate").get("code_owner_review", False),
        schema_locations=tuple(part("schemas").get("locations", ())),
        images_own=tuple(part("images").get("own", ())),
        images_fields=fields,
        references_external=tuple(part("references").get("external", ())),
        promotion=Promotion(**part("promotion")),
        tools=dict(part("tools")),
        waivers=tuple(
            Waiver(
                **{**waiver, "expires": dt.date.fromisoformat(waiver["expires"])},
                line=lines.get(("waivers", index)),
            )
            for index, waiver in enumerate(document.get("waivers", ()))
        ),
        clusters=tuple(Cluster(**cluster) for cluster in document.get("clusters", ())),
        producers=tuple(Producer(**producer) for producer in document.get("producers", ())),
        prometheus_require=tuple(part("prometheus").get("require", ())),
        lines=lines,
    )


def _environment(name: str, body: Mapping[str, Any], line: int | None) -> EnvironmentConfig:
    return EnvironmentConfig(
        name=name,
        line=line,
        protected=body.get("protected"),
        kubernetes=_minor(body.get("kubernetes")),
        applications=tuple(body.get("applications", ())),
        values=tuple(body.get("values", ())),
        owners=tuple(body["owners"]) if "owners" in body else None,
        sync=body.get("sync"),
        required=tuple(body.get("required", ())),
        rules=_levels(body.get("rules", {})),
        api_versions=tuple(body.get("api_versions", ())),
        smoke=tuple(map(tuple, body.get("smoke", ()))),
        inputs=dict(_leaves(body.get("inputs", {}))),
    )


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _levels(table: Mapping[str, str]) -> Mapping[str, Level]:
    return {pattern: Level(level) for pattern, level in table.items()}


def _minor(version: str | None) -> str | None:
    return None if version is None else ".".join(version.split(".")[:2])


# --- lines --------------------------------------------------------------------------------------------------------


def key_lines(text: str) -> dict[KeyPath, int]:
    """Find the line (from 1) where each key, table and array element of a valid TOML text begins.

    tomllib gives values without positions. Keys are paths as in the parsed value: `("waivers", 0, "rule")`.
    """
    return _Lines(text).scan()


class _Lines:
    """Walks text that tomllib has accepted, so it need not check grammar, only step over values."""

    _BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
    _SPACE = re.compile(r"[ \t]*")
    _BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
    _SCALAR = re.compile(r"[^,\]}#\n]*")
    _BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
    _LITERAL = re.compile(r"'[^']*'")
    # A multi-line string may end in up to two quotes of its own before the three that close it.
    _MULTI_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL)
    _MULTI_LITERAL = re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.lines: dict[KeyPath, int] = {}
        self.last: dict[KeyPath, int] = {}  # array of tables -> index of its last element

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip(self._BLANK) is not None and self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _header(self) -> KeyPath:
        line = self._here()
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        *parents, name = self._keys()
        self.at += 2 if array else 1
        path: KeyPath = ()
        for key in parents:
            path = (*path, key)
            self.lines.setdefault(path, line)
            if path in self.last:
                path = (*path, self.last[path])
        path = (*path, name)
        self.lines.setdefault(path, line)
        if array:
            self.last[path] = self.last.get(path, -1) + 1
            path = (*path, self.last[path])
        self.lines[path] = line  # the table's own header, even where a subtable came first
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._here()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.at += 1  # the equals sign
        self._skip(self._SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(self._SPACE)
            if self.text[self.at] in "\"'":
                quoted = self._skip(self._BASIC if self.text[self.at] == '"' else self._LITERAL)
                keys.append(tomllib.loads(f"k={quoted}")["k"])
            else:
                keys.append(self._skip(self._BARE_KEY))
            self._skip(self._SPACE)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        for opening, pattern in (
            ('"""', self._MULTI_BASIC),
            ("'''", self._MULTI_LITERAL),
            ('"', self._BASIC),
            ("'", self._LITERAL),
        ):
            if self.text.startswith(opening, self.at):
                self._skip(pattern)
                return
        if self.text[self.at] not in "[{":
            self._skip(self._SCALAR)
            return
        closing = "]" if self.text[self.at] == "[" else "}"
        self.at += 1
        index = 0
        while True:
            self._skip(self._BLANK)
            if self.text[self.at] == ",":
                self.at += 1
            elif self.text[self.at] == closing:
                self.at += 1
                return
            elif closing == "}":
                self._pair(path)
            else:
                self.lines[*path, index] = self._here()
                self._value((*path, index))
                index += 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise AssertionError(f"tomllib accepted what this cannot read at offset {self.at}")
        self.at = found.end()
        return found[0]

    def _here(self) -> int:
        return bisect_right(self.starts, self.at)
