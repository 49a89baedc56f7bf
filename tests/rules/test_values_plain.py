"""render/values-plain: the traps, where they are written, and that helm really falls into them."""

from __future__ import annotations

import inspect
import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from releasegate.config import Config
from releasegate.model import (
    Application,
    Environment,
    Finding,
    HelmSource,
    InlineValues,
    Kind,
    Place,
    Release,
    Repo,
    Scope,
    Tree,
    Unjudged,
    ValuesFile,
)
from releasegate.rules import Evidence, Shared, catalogue
from releasegate.rules.render import values_plain
from releasegate.tools.store import Tool

RULE = next(rule for rule in catalogue() if rule.id == "render/values-plain")
OVERLAY = "helm/api/values-prod.yaml"
DEFAULTS = "helm/api/values.yaml"


def judged(
    root: Path, files: dict[str, str | bytes], application: Application | None = None, **source: Any
) -> tuple[int, list[Finding | Unjudged]]:
    """Write the files and judge a release of chart helm/api with every values-*.yaml among them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    overlays = tuple(ValuesFile(path=name) for name in files if "/values-" in name)
    release = Release(
        name="api",
        environment="prod",
        helm_release="api",
        namespace="prod",
        application=application,
        sources=(HelmSource(chart="helm/api", values_files=overlays, **source),),
    )
    environment = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
    evidence = Evidence(
        repo=Repo(tree=Tree(root=str(root), files=tuple(files)), environments=(environment,), releases=(release,)),
        config=Config(),
        environment=environment,
        release=release,
        renders=(),
        shared=Shared(Tree(root=str(root), files=tuple(files))),
    )
    subjects = RULE.subjects(evidence)
    return len(subjects), [one for subject in subjects for one in RULE.check(subject, evidence)]


def only(root: Path, text: str | bytes, name: str = OVERLAY) -> Finding:
    _, (finding,) = judged(root, {name: text})
    assert isinstance(finding, Finding)
    return finding


def example(name: str) -> str:
    text = inspect.cleandoc(RULE.doc).split(f"\n{name}:\n", 1)[1]
    return textwrap.dedent(text.split("\n\nGood:", 1)[0])


def test_the_bad_example_of_the_page_is_refused_and_the_good_one_passes(tmp_path: Path) -> None:
    subjects, found = judged(tmp_path, {OVERLAY: example("Bad")})
    assert (subjects, len(found)) == (1, 2)
    assert judged(tmp_path, {OVERLAY: example("Good")}) == (1, [])


def test_the_rule_is_a_fact_that_judges_releases_that_do_not_render() -> None:
    assert (RULE.kind, RULE.scope, RULE.needs_render) == (Kind.FACT, Scope.RELEASE, False)


def test_subjects_are_the_texts_helm_is_given(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {DEFAULTS: "a: 1\n", OVERLAY: "a: 2\n", "helm/api/values-x.yaml": ""}
    inline = InlineValues(text="a: 3\n", key="values", place=Place(path="argocd/api.yaml", line=9))
    assert judged(tmp_path, files, inline=inline) == (4, [])
    assert judged(tmp_path, {OVERLAY: "a: 1\n"}, revision="0" * 40) == (0, [])


# --- what is refused, and where -------------------------------------------------------------------------------------


def test_a_duplicate_key_is_found_where_it_is_written(tmp_path: Path) -> None:
    finding = only(
        tmp_path, "# values\nimage:\n  repository: a\n  pullPolicy: x\nreplicas: 1\nimage:\n  repository: b\n"
    )
    assert finding.place == Place(path=OVERLAY, line=6, column=1)
    assert finding.message == "the key 'image' stands here and on line 2: helm takes this one and drops the other"
    assert finding.manifest is None
    assert finding.change == "remove one image"


def test_a_duplicate_key_in_a_later_document_names_lines_of_the_file(tmp_path: Path) -> None:
    _, found = judged(tmp_path, {OVERLAY: "a: 1\n---\nb: {c: 1, c: 2}\n"})
    assert [(one.place, one.message[:30]) for one in found if isinstance(one, Finding)] == [
        (Place(path=OVERLAY, line=3), "a second document begins here:"),
        (Place(path=OVERLAY, line=3), "the key 'c' stands here and on"),
    ]
    assert "on line 3" in found[1].message if isinstance(found[1], Finding) else False


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("image:\n  tag: 1.10\n", 'a number: helm writes "1.1"'),
        ("image:\n  tag: 1234567\n", 'a number: helm writes "1.234567e+06"'),
        ("image:\n  tag: 0123456\n", 'a number: helm writes "42798"'),
        ("image:\n  tag: 12e5\n", 'a number: helm writes "1.2e+06"'),
        ("image:\n  tag: 1.27\n", 'a number: helm writes it back as it is, but 1.10 becomes "1.1"'),
        ("image:\n  tag: on\n", 'the boolean true: helm writes "true"'),
        ("image:\n  tag: 2026-01-02\n", "a date by most programs"),
        ("image:\n  digest: 0x10\n", 'a number: helm writes "16"'),
        ("imageTag: 1.0\n", 'a number: helm writes "1"'),
        ("image_tag: 1.0\n", 'a number: helm writes "1"'),
        ("image-tag: 1.0\n", 'a number: helm writes "1"'),
        ("appImageTag: 1.0\n", 'a number: helm writes "1"'),
        ("gitSha: 12345678\n", 'a number: helm writes "1.2345678e+07"'),
        ("GIT_SHA: 1e10\n", 'a number: helm writes "1e+10"'),
        ("commit: 1234567\n", 'a number: helm writes "1.234567e+06"'),
        ("image: {repository: a, version: 1.10}\n", 'a number: helm writes "1.1"'),
        ("sidecar: {repository: a, version: 1.10}\n", 'a number: helm writes "1.1"'),
        ("services:\n- name: a\n  tag: 1_0\n", 'a number: helm writes "10"'),
    ],
)
def test_a_tag_that_is_no_text_to_kubernetes_is_refused(tmp_path: Path, text: str, reading: str) -> None:
    finding = only(tmp_path, text)
    assert f"is read as {reading}" in finding.message
    assert finding.place is not None
    raw = str(finding.value)
    line = text.split("\n")[(finding.place.line or 0) - 1]
    assert line[(finding.place.column or 0) - 1 :].startswith(raw)
    assert finding.help.endswith(f'"{raw}"')
    assert not finding.advice
    fixed = text.replace(raw, f'"{raw}"')
    assert judged(tmp_path, {OVERLAY: fixed}) == (1, [])


@pytest.mark.parametrize(
    "text",
    [
        'image: {tag: "1.10"}\n', "image: {tag: v1.10}\n", "image: {tag: 1.10.2}\n", "tag: !!str 1.10\n", "tag: 3f2a1b9\n",
        "commit: true\n", "skipTag: true\n", "version: 1.10\n", "chart: {version: 2}\n", "tags: [1.10]\n", "stage: 1\n",
        "commitTimeout: 30\n", "tagging: 1\n", "digestInterval: 60\n", "image: 1.10\n", "tag: {a: 1}\n", "tag: <<\n",
    ],
)  # fmt: skip
def test_what_is_text_or_names_no_build_passes(tmp_path: Path, text: str) -> None:
    assert judged(tmp_path, {OVERLAY: text}) == (1, [])


@pytest.mark.parametrize("text", ["tag: null\n", "tag:\n", "tag: ~\n"])
def test_an_empty_tag_is_advice_in_an_overlay_and_nothing_in_the_chart(tmp_path: Path, text: str) -> None:
    """`a.b: null` in an overlay deletes the chart's default; `tag:` in a chart says "give me one"."""
    finding = only(tmp_path, text)
    assert finding.advice
    assert "null" in finding.message
    assert judged(tmp_path, {DEFAULTS: text, OVERLAY: "a: 1\n"}) == (2, [])


def test_the_same_trap_in_two_environments_is_one_change(tmp_path: Path) -> None:
    _, found = judged(tmp_path, {DEFAULTS: "tag: 1.1\n"})
    _, again = judged(tmp_path, {DEFAULTS: "tag: 1.1\n"})
    assert found == again


def test_an_aliased_tag_is_found_once_at_its_anchor(tmp_path: Path) -> None:
    finding = only(tmp_path, "x: &x {tag: 1.10}\na: *x\nb:\n  <<: *x\n  c: 1\n")
    assert finding.place == Place(path=OVERLAY, line=1, column=13)


def test_a_merge_key_that_overrides_is_refused(tmp_path: Path) -> None:
    finding = only(tmp_path, "x: &x {k: 1}\na:\n  k: 2\n  <<: *x\n")
    assert finding.place == Place(path=OVERLAY, line=4, column=3)
    assert "overrides 'k'" in finding.message
    assert judged(tmp_path, {OVERLAY: "x: &x {k: 1}\na:\n  <<: *x\n  k: 2\n"}) == (1, [])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\n---\nb: 2\n", 3, "helm 4 merges it over the first"),
        ("# first\n---\na: 1\n--- # second\nb: 2\n", 4, "helm 4 merges it over the first"),
        ("a: 1\n...\n# more\nb: 2\n", 3, "helm reads nothing behind `...`"),
        ("a: 1\nb: [\n", 2, "not YAML: "),
        ("a: {{ .Values.x }}\n", 1, "not YAML: "),
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
        ("  a: 1\nb: 2\n", 2, "silently ignore everything from here on"),
        ("a: .inf\n", 1, "JSON has no inf"),
        ("# x\n- a\n- b\n", 1, "values have to be a mapping, this is a list"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8: byte 0xff"),
        ("a: 1\nb: \x00\n", 2, "U+0000"),
        ("a: &a [" + "x," * 2000 + "]\n" + "".join(f"k{n}: *a\n" for n in range(100)), 1, "expand to more than"),
        ("a: " + "[" * 300, 1, "nested more than 64 levels"),
    ],
)
def test_what_helm_refuses_or_reads_otherwise_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, said: str
) -> None:
    finding = only(tmp_path, text)
    assert said in finding.message
    assert finding.place is not None
    assert (finding.place.path, finding.place.line) == (OVERLAY, line)


@pytest.mark.parametrize(
    "text", ["a: 1\n---\n", "---\na: 1\n", "---\n# x\n---\na: 1\n...\n", "", "# x\n", "a: 1\n---\nnull\n"]
)
def test_one_document_between_markers_is_one_document(tmp_path: Path, text: str) -> None:
    assert judged(tmp_path, {OVERLAY: text}) == (1, [])


def test_a_values_file_outside_the_tree_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "values-x.yaml").write_text("tag: 1.10\n")
    root = tmp_path / "repo"
    (root / "helm" / "api").mkdir(parents=True)
    (root / "helm" / "api" / "values-link.yaml").symlink_to(tmp_path / "secret" / "values-x.yaml")
    source = (ValuesFile(path="../secret/values-x.yaml"), ValuesFile(path="helm/api/values-link.yaml"))
    release = Release(
        name="api", environment="prod", helm_release="api", namespace="prod",
        sources=(HelmSource(chart="helm/api", values_files=source),),
    )  # fmt: skip
    evidence = Evidence(
        repo=Repo(tree=Tree(root=str(root), files=()), environments=(), releases=(release,)),
        config=Config(), environment=None, release=release, renders=(),
        shared=Shared(Tree(root=str(root), files=())),
    )  # fmt: skip
    assert RULE.subjects(evidence) == []


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    assert only(tmp_path, "tag: 1.10\n").value == "1.10"
    assert judged(tmp_path, {OVERLAY: 'tag: "1.10"\n'}) == (1, [])


def test_a_huge_file_is_not_judged_and_never_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values_plain, "MAX_BYTES", 5)
    _, (gap,) = judged(tmp_path, {OVERLAY: "abc: 1\n"})
    assert isinstance(gap, Unjudged)
    assert gap.place == Place(path=OVERLAY)


# --- inside an Application ------------------------------------------------------------------------------------------


def application(**fields: Any) -> Application:
    return Application(name="api", namespace="argocd", project="default", destination={}, **fields)


APPLICATION = """\
spec:
  source:
    helm:
      values: |
        image:
          tag: 1.10
        a: 1
        a: 2
"""


def test_inline_values_are_found_in_the_applications_file(tmp_path: Path) -> None:
    text = "image:\n  tag: 1.10\na: 1\na: 2\n"
    inline = InlineValues(text=text, key="values", place=Place(path="argocd/api.yaml", line=5))
    owner = application(place=Place(path="argocd/api.yaml", line=1))
    subjects, found = judged(tmp_path, {"argocd/api.yaml": APPLICATION}, application=owner, inline=inline)
    assert subjects == 1
    assert [(one.place, one.message) for one in found if isinstance(one, Finding)] == [
        (
            Place(path="argocd/api.yaml", line=6, column=16),
            'values of Application api: tag: 1.10 is read as a number: helm writes "1.1"',
        ),
        (
            Place(path="argocd/api.yaml", line=8, column=9),
            "values of Application api: the key 'a' stands here and on line 7: helm takes this one and drops the other",
        ),
    ]


def test_inline_values_that_a_parent_rendered_name_its_template_and_no_line(tmp_path: Path) -> None:
    """An app-of-apps template that writes its defaults and then each app's own values: one edit mends all keys."""
    inline = InlineValues(text="workers: {replicaCount: 3}\nr: 1\nr: 2\nworkers: {enabled: true}\n", key="values")
    owner = application(place=None, parent="prod/apps", template="charts/apps/templates/apps.yaml")
    _, found = judged(tmp_path, {}, application=owner, inline=inline)
    assert {(one.place, one.change) for one in found if isinstance(one, Finding)} == {
        (Place(path="charts/apps/templates/apps.yaml"), "write each key once")
    }
    assert [one.message for one in found if isinstance(one, Finding)] == [
        f"values of Application api: the key '{key}' stands here and on a line above: helm takes this one and drops the other"
        for key in ("r", "workers")
    ]


# --- helm falls into these traps ------------------------------------------------------------------------------------


def rendered(helm: Tool, root: Path, values: str) -> str:
    """Return `{{ }}` of .Values.tag, .Values.a and .Values.b as helm writes them for this values file."""
    (root / "templates").mkdir(parents=True, exist_ok=True)
    (root / "Chart.yaml").write_text("apiVersion: v2\nname: oracle\nversion: 0.0.0\n")
    (root / "values.yaml").write_text("a: chart\ntag: chart\n")
    template = 'written: {{ printf "%v|%v|%v" .Values.tag .Values.a .Values.b | toJson }}\n'
    (root / "templates" / "a.yaml").write_text(template)
    (root / "given.yaml").write_text(values)
    done = subprocess.run(
        [str(helm.path), "template", "x", str(root), "-f", str(root / "given.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("written: ")]
    return str(json.loads(lines[0].removeprefix("written: "))) if lines else done.stderr


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ("tag: 1.10\n", "1.1|chart|<nil>"),
        ("tag: 1234567\n", "1.234567e+06|chart|<nil>"),
        ("tag: 0123456\n", "42798|chart|<nil>"),
        ("tag: on\n", "true|chart|<nil>"),
        ("tag: 2026-01-02\n", "2026-01-02|chart|<nil>"),
        ("tag: null\n", "<nil>|chart|<nil>"),
        ("a: 1\na: 2\n", "chart|2|<nil>"),
        ("a: 1\n---\nb: 2\n", "chart|1|2"),
        ("a: 1\n...\nb: 2\n", "chart|1|<nil>"),
        ("  a: 1\nb: 2\n", "chart|1|<nil>"),
        ("x: &x {tag: merged}\ntag: own\n<<: *x\n", "merged|chart|<nil>"),
    ],
)
def test_helm_does_what_the_messages_say(helm: Tool, tmp_path: Path, values: str, written: str) -> None:
    assert rendered(helm, tmp_path, values) == written


def test_numbers_are_written_as_helm_writes_them(helm: Tool, tmp_path: Path) -> None:
    numbers = [0.0, -0.5, 1.1, 100000.0, 999999.0, 1e6, 1234567.0, 4294967296123.0, 1e20, 1e21, 1e-4, 1.5e-5, 123456.75]
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: oracle\nversion: 0.0.0\n")
    (tmp_path / "values.yaml").write_text(f"numbers: {numbers}\n")
    (tmp_path / "templates" / "a.yaml").write_text("written: {{ .Values.numbers }}\n")
    done = subprocess.run(
        [str(helm.path), "template", "x", str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("written: ")]
    assert line.removeprefix("written: [").removesuffix("]").split() == [values_plain.go_v(one) for one in numbers]


@settings(phases=[Phase.explicit, Phase.generate])
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_written_as_go_does_is_the_same_number(number: float) -> None:
    assert float(values_plain.go_v(number)) == number
