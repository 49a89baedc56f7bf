"""What the templates of a chart may read of its values, and what the chart declares: an over-approximation from text.

No template language is run here. What this calls unread is only a suspicion, which a render without the key confirms;
what it calls read may still be dead. Every doubt is a read: then no finding rests on it.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from releasegate import yamlio
from releasegate.discover.files import Files, Unreadable

Path_ = tuple[str, ...]
MAX_ARCHIVE_BYTES = 64 << 20

_ACTION = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_COMMENT = re.compile(r"\s*/\*.*?\*/\s*", re.DOTALL)
_VALUES = re.compile(r"\.Values((?:\.\w+)*)")
_FIELD = re.compile(r"(?<![\w)])\.(\w+)|(?<=\))\.(\w+)|\$\w*\.(\w[\w.]*)")
_WORDS = re.compile(r"\w+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|`([^`]*)`')
_BARE_DOT = re.compile(r"(?<![\w.$)\"])\.(?![\w])")
_VARIABLE = re.compile(r"(\$\w+)\s*(?:,\s*(\$\w+)\s*)?:?=")
_INCLUDE = re.compile(r'\b(?:include|template)\s+"([^"]+)"')
_DEFINE = re.compile(r'\s*(?:define|block)\s+"([^"]+)"')
_KEYWORD = re.compile(r"\s*(?:else\s+)?(\w+)")
_OPENING = {"if", "range", "with", "define", "block"}
# Functions that take a map as a whole: every key below is read (helm.sh/docs/chart_template_guide/function_list,
# dictionary and type conversion functions).
_WHOLE = re.compile(
    r"(?<![.\w$])(?:to(?:Pretty|Raw|Yaml|Json|Toml)\w*|mustTo\w+|range|tpl|keys|values|omit|pick|merge\w*|mustMerge\w*"
    r"|deepCopy|mustDeepCopy|index|get|dig|pluck|chunk|list|len|join|first|last|without|concat)(?!\w)"
)
_DECISION = re.compile(r"\s*(?:else\s+)?if\b")
_BARE_ROOT = re.compile(r"\$(?![\w.])")
_INCLUDE_ANY = re.compile(r"\b(?:include|template)\s+[($]")
_WHOLE_ROOT = re.compile(  # `index .Values "a"` names what it reads; these take all values
    r"(?<![.\w$])(?:to(?:Pretty|Raw|Yaml|Json|Toml)\w*|range|tpl|merge\w*|mustMerge\w*|deepCopy|omit|pick|dict)(?!\w)"
)
MAX_ROUNDS = 50


@dataclass(slots=True)
class Reads:
    """What the templates of a chart and its subcharts say.

    `paths` are what stands behind `.Values`; `whole` those of them that are taken as a whole, so that any key below is
    read. `names` are all words that may be a key: fields, words in quotes.
    """

    paths: set[Path_] = field(default_factory=set)
    whole: set[Path_] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    _ancestors: set[Path_] | None = None

    def add(self, other: Reads) -> None:
        """Take in what another text says."""
        self.paths |= other.paths
        self.whole |= other.whole
        self.names |= other.names
        self._ancestors = None

    def read(self, path: Path_) -> bool:
        """Whether a template may read the value at this path, or something below it."""
        above = [path[:length] for length in range(len(path))]
        if path in self._with_ancestors() or any(one in self.whole for one in (*above, path)):
            return True
        return path[-1] in self.names and any(one in self.paths for one in above)

    def _with_ancestors(self) -> set[Path_]:
        if self._ancestors is None:
            self._ancestors = {path[:length] for path in self.paths for length in range(1, len(path) + 1)}
        return self._ancestors

    def below(self, parent: Path_) -> set[str]:
        """Return the keys that templates name right below a path."""
        size = len(parent)
        return {path[size] for path in self.paths if len(path) > size and path[:size] == parent}


@dataclass(slots=True)
class Chart:
    """A chart as its values are read: `declared` is its values.yaml, `schema` its values.schema.json.

    `children` are the subcharts by the key their values stand under; a subchart that cannot be read is `opaque`.
    """

    declared: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] = field(default_factory=dict)
    children: dict[str, Chart] = field(default_factory=dict)
    reads: Reads = field(default_factory=Reads)
    opaque: bool = False

    def knows(self, path: Path_) -> bool:
        """Whether the chart declares this key or a template may read it."""
        if self.opaque or not path:
            return True
        if _declares(self.declared, path) or _described(self.schema, path) or self.reads.read(path):
            return True
        child = self.children.get(path[0])
        return child is not None and child.knows(path[1:])

    def keys(self, parent: Path_) -> set[str]:
        """Return the keys that are known right below a path: what a misspelled one may have meant."""
        found = self.reads.below(parent)
        value: Any = self.declared
        for token in parent:
            value = value.get(token) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            found |= set(value)
        if not parent:
            found |= set(self.children)
        elif parent[0] in self.children:
            found |= self.children[parent[0]].keys(parent[1:])
        return found

    def paths(self, prefix: Path_ = ()) -> Iterator[Path_]:
        """Yield every path that is declared or named by a template."""
        yield from (prefix + path for path in self.reads.paths if path)
        yield from _leaves(self.declared, prefix)
        for name, child in self.children.items():
            yield from _leaves(child.declared, (*prefix, name))


def _declares(value: Any, path: Path_) -> bool:
    for token in path:
        if not isinstance(value, Mapping) or token not in value:
            return False
        value = value[token]
    return True


def _leaves(value: Any, prefix: Path_) -> Iterator[Path_]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*prefix, str(key))
            yield from _leaves(inner, (*prefix, str(key)))


def _described(schema: Any, path: Path_) -> bool:
    for token in path:
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        if not isinstance(properties, Mapping) or token not in properties:
            # A reference may describe it; a chart that says so declares it.
            return isinstance(schema, Mapping) and "$ref" in schema
        schema = properties[token]
    return True


# --- a chart folder ---------------------------------------------------------------------------------------------------


def of_chart(files: Files, folder: str) -> Chart:
    """Read the chart in a folder of the tree, its vendored subcharts included."""
    texts: dict[str, str] = {}
    broken = False
    prefix = "" if folder == "." else f"{folder}/"
    for path in files.below(folder):
        inside = path[len(prefix) :]
        if path.endswith(".tgz"):
            if posixpath.dirname(inside).endswith("charts"):
                unpacked = _archive(files, path)
                broken |= unpacked is None
                for name, text in (unpacked or {}).items():
                    texts[f"{posixpath.dirname(inside)}/{name}"] = text
            continue
        try:
            texts[inside] = files.text(path)
        except Unreadable:
            continue  # no text: no template reads values in it
    made = _chart(texts, "")
    made.opaque |= broken
    return made


def _archive(files: Files, path: str) -> dict[str, str] | None:
    """The texts of a vendored archive, None where it cannot be read."""
    root = Path(files.tree.root).resolve()
    real = (root / path).resolve()
    found: dict[str, str] = {}
    try:
        if not real.is_relative_to(root) or not real.is_file() or real.stat().st_size > MAX_ARCHIVE_BYTES:
            return None
        budget = MAX_ARCHIVE_BYTES
        with tarfile.open(fileobj=io.BytesIO(real.read_bytes()), mode="r:gz") as tar:
            for member in tar:
                budget -= member.size
                if budget < 0:
                    return None
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None:
                    found[posixpath.normpath(member.name)] = file.read().decode(errors="replace")
    except (OSError, tarfile.TarError, EOFError):
        return None
    return found


def _chart(texts: Mapping[str, str], folder: str) -> Chart:
    """The chart whose files are below `folder` ("" or "charts/x/") of these texts; its reads are those of the whole tree."""
    about = _mapping(texts.get(f"{folder}Chart.yaml"))
    chart = Chart(
        declared=_mapping(texts.get(f"{folder}values.yaml")), schema=_json(texts.get(f"{folder}values.schema.json"))
    )
    dependencies = (
        about.get("dependencies") or _mapping(texts.get(f"{folder}requirements.yaml")).get("dependencies") or []
    )
    for entry in dependencies if isinstance(dependencies, list) else []:
        if isinstance(entry, Mapping):
            _read_dependency(entry, chart.reads)
    names = {path[len(folder) + 7 :].partition("/")[0] for path in texts if path.startswith(f"{folder}charts/")}
    for name in sorted(names):
        if f"{folder}charts/{name}/Chart.yaml" in texts:
            child = _chart(texts, f"{folder}charts/{name}/")
            told = _mapping(texts[f"{folder}charts/{name}/Chart.yaml"]).get("name", name)
            aliases = [
                one.get("alias") or told for one in dependencies if isinstance(one, Mapping) and one.get("name") == told
            ]
            for alias in aliases or [told]:
                chart.children[str(alias)] = child
    # A subchart's helpers run with the values of whoever includes them, and the parent's with those of a subchart:
    # each level may read what any text of the tree says.
    chart.reads.add(
        reads_of([text for path, text in texts.items() if path.startswith(folder) and _may_be_template(path)])
    )
    if not folder:
        _share(chart, chart.reads)
    return chart


def _share(chart: Chart, reads: Reads) -> None:
    for child in chart.children.values():
        child.reads.add(reads)
        _share(child, reads)


def _may_be_template(path: str) -> bool:
    """Templates, and files that a template may load and run with `tpl`; values too, which `tpl` runs as well."""
    return posixpath.basename(path) not in (
        "Chart.yaml",
        "Chart.lock",
        "README.md",
        "values.schema.json",
        ".helmignore",
    )


def _read_dependency(entry: Mapping[str, Any], reads: Reads) -> None:
    """`condition` and `tags` read values (helm.sh/docs/topics/charts); so does import-values, by any name."""
    for one in str(entry.get("condition") or "").split(","):
        if one.strip():
            reads.paths.add(tuple(one.strip().split(".")))
    if entry.get("tags"):
        reads.whole.add(("tags",))


def _mapping(text: str | None) -> Mapping[str, Any]:
    try:
        value = yamlio.load(text) if text else {}
    except yamlio.YamlError:
        return {}
    return value if isinstance(value, Mapping) else {}


def _json(text: str | None) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}


# --- templates ----------------------------------------------------------------------------------------------------------


def values_in(text: str) -> set[Path_]:
    """Return what a values text reads itself, where a template runs it with `tpl`."""
    return {_path(found) for action in _actions(text) for found in _VALUES.finditer(action)}


def _actions(text: str) -> Iterator[str]:
    for found in _ACTION.finditer(text):
        if not _COMMENT.fullmatch(found[1]):
            yield found[1]


def _path(found: re.Match[str]) -> Path_:
    return tuple(part for part in found[1].split(".") if part)


@dataclass(slots=True)
class _Taken:
    """What a piece of a template takes as a whole: its dot, or fields of it."""

    dot: bool = False
    fields: set[str] = field(default_factory=set)

    def add(self, other: _Taken) -> None:
        self.dot |= other.dot
        self.fields |= other.fields


_NOTHING = _Taken()


def reads_of(texts: list[str]) -> Reads:
    """Return what these templates say of the values, helpers followed."""
    reads = Reads()
    parsed = [list(_actions(text)) for text in texts if "{{" in text]
    helpers = _helpers(parsed)
    for actions in parsed:
        everything = " ".join(actions)
        for index, action in enumerate(actions):
            for found in _QUOTED.finditer(action):
                reads.names.add(found[1] or found[2] or "")
                reads.names.update(_WORDS.findall(found[1] or found[2] or ""))
            for found in _FIELD.finditer(action):
                reads.names.update(_WORDS.findall(found[1] or found[2] or found[3] or ""))
            paths = {_path(found) for found in _VALUES.finditer(action)}
            if paths:
                reads.paths |= paths
                taken = _taken(actions, index, everything, helpers)
                reads.whole |= {path for path in paths if taken.dot and (path or _WHOLE_ROOT.search(action))}
                reads.whole |= {(*path, name) for path in paths for name in taken.fields}
    return reads


def _taken(actions: list[str], index: int, everything: str, helpers: Mapping[str, _Taken]) -> _Taken:
    """What the action takes of what it gets: all of it, or some fields, here or where it hands it on."""
    action = actions[index]
    if _WHOLE.search(action) or _INCLUDE_ANY.search(action):
        return _Taken(dot=True)
    if _DECISION.match(action):
        return _NOTHING
    included = _INCLUDE.findall(action)
    if included:
        taken = _Taken()
        for name in included:
            taken.add(helpers.get(name, _NOTHING))
        return _Taken(dot=True) if re.search(r"\b(?:dict|list)\b", action) and (taken.dot or taken.fields) else taken
    if _word(action) == "with":
        return _of_dot(list(_block(actions, index)), helpers)
    assigned = _VARIABLE.match(action.strip())
    if assigned is not None:
        name = re.escape(assigned[1])
        return _Taken(dot=re.search(rf"{name}(?![\w.])(?!\s*:?=)", everything) is not None)
    return _NOTHING


def _word(action: str) -> str:
    keyword = _KEYWORD.match(action)
    return keyword[1] if keyword else ""


def _block(actions: list[str], index: int) -> Iterator[str]:
    """The actions between an opening one and its end."""
    depth = 1
    for action in actions[index + 1 :]:
        if not action.strip().startswith("else"):
            word = _word(action)
            if word in _OPENING:
                depth += 1
            elif word == "end":
                depth -= 1
                if not depth:
                    return
        yield action


def _of_dot(body: list[str], helpers: Mapping[str, _Taken]) -> _Taken:
    """What a block takes of its dot. Inside `with` and `range` the dot is another."""
    taken = _Taken()
    everything = " ".join(body)
    index = 0
    while index < len(body):
        action = body[index]
        word = _word(action)
        if _BARE_ROOT.search(action):
            taken.dot = True
        fields = {found[1] or found[2] for found in _FIELD.finditer(action) if found[1] or found[2]}
        here = _taken(body, index, everything, helpers)
        if here.dot or here.fields:
            taken.fields |= fields
        if _BARE_DOT.search(action) and not _DECISION.match(action):
            taken.add(here if _INCLUDE.search(action) or word == "with" else _Taken(dot=True))
        inner = list(_block(body, index)) if word in ("with", "range") else []
        index += 1 + len(inner)
    return taken


def _helpers(parsed: list[list[str]]) -> dict[str, _Taken]:
    """What each `define`d template takes of its argument; those that include others until nothing changes."""
    bodies: dict[str, list[str]] = {}
    for actions in parsed:
        for index, action in enumerate(actions):
            found = _DEFINE.match(action)
            if found is not None:
                bodies.setdefault(found[1], []).extend(_block(actions, index))
    helpers: dict[str, _Taken] = {name: _Taken() for name in bodies}
    for _ in range(MAX_ROUNDS):
        before = [(one.dot, len(one.fields)) for one in helpers.values()]
        for name, body in bodies.items():
            helpers[name].add(_of_dot(body, helpers))
        if before == [(one.dot, len(one.fields)) for one in helpers.values()]:
            return helpers
    return {name: _Taken(dot=True) for name in bodies}
