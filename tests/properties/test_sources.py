"""The law of a right line: whoever edits the line that is named changes the value that was found fault with.

Trees of one to three Applications are made up, with the same few texts everywhere, so that a guess would be wrong often.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from releasegate import config, yamlio
from releasegate.discover import discover
from releasegate.discover.files import Files
from releasegate.model import Finding, Place, Rendered, Tree
from releasegate.render import Renderer
from releasegate.sources import Locator
from releasegate.tools import store

URL = "https://github.com/acme/config"
KEYS = ("a", "b", "c", "d")
TEXTS = ("v1", "latest", "7")
EDITED = "edited-by-hand"

texts = st.sampled_from(TEXTS)
values = st.one_of(texts, texts, texts, st.just(7), st.just(10), st.booleans(), st.just(""), st.just("v10"))
keys = st.sampled_from(KEYS)
references = keys.map(lambda key: f"{{{{ .Values.{key} }}}}")


def _expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """What charts do with values: put together, replace what is missing, choose."""
    return st.one_of(
        st.tuples(inner, inner).map(lambda two: f"{two[0]}:{two[1]}"),
        inner.map(lambda one: f"{one}-suffix"),
        inner.map(lambda one: f"registry/app:{one}"),
        st.tuples(keys, keys).map(lambda two: f"{{{{ .Values.{two[0]} | default .Values.{two[1]} }}}}"),
        st.tuples(keys, keys).map(lambda two: f"{{{{ coalesce .Values.{two[0]} .Values.{two[1]} }}}}"),
        st.tuples(keys, texts, inner, inner).map(
            lambda four: (
                f'{{{{ if eq (toString .Values.{four[0]}) "{four[1]}" }}}}{four[2]}{{{{ else }}}}{four[3]}{{{{ end }}}}'
            )
        ),
        st.tuples(keys, inner, inner).map(
            lambda three: f"{{{{ if .Values.{three[0]} }}}}{three[1]}{{{{ else }}}}{three[2]}{{{{ end }}}}"
        ),
        st.tuples(keys, texts).map(
            lambda two: (
                f'{{{{ if hasSuffix "{two[1]}" (toString .Values.{two[0]}) }}}}{two[1]}{{{{ else }}}}v1{{{{ end }}}}'
            )
        ),
        keys.map(lambda key: f'{{{{ .Values.{key} | toString | trimPrefix "v" }}}}'),
        keys.map(lambda key: f"{{{{ .Values.{key} | toString | upper }}}}"),
    )


expressions = st.recursive(st.one_of(references, references, texts), _expressions, max_leaves=4)


@dataclass(frozen=True)
class Level:
    """How an Application hands values to the chart below it."""

    way: str  # text, object, lines, parameters, files
    own: Mapping[str, Any]  # what the chart's own values.yaml says
    file: Mapping[str, Any]  # what values-prod.yaml says


levels = st.builds(
    Level,
    way=st.sampled_from(["text", "object", "lines", "parameters", "files"]),
    own=st.dictionaries(keys, values, max_size=4),
    file=st.dictionaries(keys, values, max_size=4),
)


@dataclass(frozen=True)
class Story:
    """A chain of Applications, the parents first, and what the last chart writes into a ConfigMap."""

    parents: list[Level]
    own: Mapping[str, Any]
    data: list[str]
    inline: Mapping[str, Any] = field(default_factory=dict)


stories = st.builds(
    Story,
    parents=st.lists(levels, max_size=2),
    own=st.fixed_dictionaries(dict.fromkeys(KEYS, values)),
    data=st.lists(expressions, min_size=1, max_size=4),
    inline=st.dictionaries(keys, values, max_size=3),
)


CHOSEN = '{{ if eq .Values.a "v1" }}{{ .Values.a }}{{ else }}{{ .Values.b }}{{ end }}'
TWO_LEVELS = Level("text", {}, dict.fromkeys(KEYS, "v1"))


def _application(name: str, path: str, helm: str) -> str:
    return (
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\n"
        f"metadata:\n  name: {name}\n  namespace: argocd\n"
        f"spec:\n  project: default\n  source:\n    repoURL: {URL}\n    path: {path}\n    helm:\n{helm}"
        "  destination:\n    server: https://kubernetes.default.svc\n    namespace: x\n"
    )


def _helm(level: Level) -> str:
    """The helm part of the Application that a parent's chart renders."""
    if level.way == "object":
        return "      valuesObject:\n        {{- toYaml .Values | nindent 8 }}\n"
    if level.way == "parameters":
        return "      parameters:\n" + "".join(
            f"        - {{name: {key}, value: {{{{ .Values.{key} | toString | quote }}}}}}\n" for key in KEYS
        )
    if level.way == "files":
        return '      values: |\n        {{- .Files.Get "data/shared" | fromYaml | toYaml | nindent 8 }}\n'
    lines = "".join(f"        {key}: {{{{ .Values.{key} | quote }}}}\n" for key in KEYS)
    return "      values: |\n" + (lines if level.way == "lines" else "        {{- toYaml .Values | nindent 8 }}\n")


def _write(root: Path, story: Story) -> None:
    def put(name: str, text: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    names = [f"level{number}" for number in range(len(story.parents))] + ["last"]
    for number, (name, level) in enumerate(zip(names, story.parents, strict=False)):
        put(f"{name}/Chart.yaml", f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n")
        put(f"{name}/values.yaml", yamlio.dump({**dict.fromkeys(KEYS, "v2"), **level.own}))
        put(f"{name}/values-prod.yaml", yamlio.dump(dict(level.file)))
        put(f"{name}/data/shared", yamlio.dump({**dict.fromkeys(KEYS, "v1"), **level.file}))
        put(f"{name}/templates/app.yaml", _application(f"app{number + 1}", names[number + 1], _helm(level)))
    put("last/Chart.yaml", "apiVersion: v2\nname: last\nversion: 1.0.0\nappVersion: v10\n")
    put("last/values.yaml", yamlio.dump(dict(story.own)))
    put("last/values-prod.yaml", "{}\n")
    data = "".join(f"  k{number}: '{text}'\n" for number, text in enumerate(story.data))
    put("last/templates/data.yaml", f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: data\ndata:\n{data}")
    inline = "".join(f"        {line}\n" for line in yamlio.dump(dict(story.inline)).splitlines())
    helm = f"      valueFiles: [values-prod.yaml]\n      values: |\n{inline}"
    put("argocd/app0.yaml", _application("app0", names[0], helm))


@dataclass
class Looked:
    """What the last chart renders, and where each value of it is said to be written."""

    data: Mapping[str, Any]
    places: Mapping[str, Place | None]


def _look(root: Path, helm: store.Tool, worker: store.Tool, *, locate: bool = True) -> Looked | None:
    files = tuple(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))
    tree = Tree(root=str(root), files=files, remotes=(URL,))
    with Renderer(tree, tool=helm, worker=worker, jobs=1) as renderer:
        repo = discover(tree, config.load(root), renderer.batch, kubernetes="1.37")
        environments = {one.name: one for one in repo.environments}
        answers = {one.id: renderer.result(one, environments[one.environment]) for one in repo.releases}
        made = [
            (answer, manifest)
            for answer in answers.values()
            if isinstance(answer, Rendered)
            for manifest in answer.manifests
            if manifest.kind == "ConfigMap"
        ]
        if len(made) != 1:
            return None  # a value broke the chain
        answer, manifest = made[0]
        data = manifest.body["data"]
        findings = [
            Finding(message="m", help="h", change="c", manifest=manifest, pointer=f"/data/{key}", value=data[key])
            for key in data
        ]
        if not locate:
            return Looked(data, {})
        locator = Locator(
            Files(tree),
            lambda release, texts, templates: renderer.begin_probe(
                release, environments[release.environment], texts, templates
            ),
            answers.get,
        )
        found = locator.locate(answer, findings)
        return Looked(data, {key: one.place for key, one in zip(data, found, strict=True)})


def _edit(root: Path, place: Place, value: str) -> Iterator[None]:
    """Write something else on that line, in each way that the line may be meant; take it back afterwards."""
    path = root / place.path
    before = path.read_text()
    lines = before.split("\n")
    assert place.line is not None
    head, separator, _ = lines[place.line - 1].partition(": ")
    assert separator, f"{place} holds no value: {lines[place.line - 1]!r}"
    lines[place.line - 1] = f"{head}: {value}"
    path.write_text("\n".join(lines))
    yield
    path.write_text(before)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(story=stories)
@example(story=Story([], dict.fromkeys(KEYS, "v1"), [CHOSEN]))  # a mark makes `eq` false: b comes through, a is right
@example(story=Story([TWO_LEVELS, TWO_LEVELS], dict.fromkeys(KEYS, "v2"), [CHOSEN, "{{ .Values.c }}"]))
def test_an_edit_of_the_line_that_is_named_changes_the_value(
    helm: store.Tool, helm_worker: store.Tool, story: Story
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root, story)
        looked = _look(root, helm, helm_worker)
        if looked is None:
            return
        for number, (key, place) in enumerate(looked.places.items()):
            assert place is not None
            named = place.line is not None and "/templates/" not in f"/{place.path}"
            event("a line of the values" if named else "no line of the values")
            if named:
                for _ in _edit(root, place, f'"{EDITED}"'):
                    after = _look(root, helm, helm_worker, locate=False)
                    assert after is None or after.data.get(key) != looked.data[key], (key, place)
            else:
                assert not _is_plain(story, number, looked.data[key]), f"{key} is nothing but a value, not {place}"


def _is_plain(story: Story, number: int, value: object) -> bool:
    """The value is handed on as it is by everybody, and is long enough to be looked for."""
    return re.fullmatch(r"{{ \.Values\.\w }}", story.data[number]) is not None and len(str(value)) > 1
