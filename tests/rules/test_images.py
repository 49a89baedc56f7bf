"""images/digest-only and images/no-mutable-tag: which images are refused, and what the finding says."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import pytest

from releasegate import yamlio
from releasegate.config import Config
from releasegate.k8s import ImageRef
from releasegate.model import Environment, Finding, Kind, Manifest, Release, Rendered, Repo, Scope, Tree
from releasegate.rules import Evidence, Rule, Shared, catalogue

RULES = {rule.id: rule for rule in catalogue()}
DIGEST_ONLY, NO_MUTABLE_TAG = RULES["images/digest-only"], RULES["images/no-mutable-tag"]
DIGEST = "sha256:" + "0a" * 32


def judged(rule: Rule, *texts: str, **config: Any) -> tuple[int, list[Finding]]:
    """Return the number of subjects and the findings for a release that renders these documents."""
    environment = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
    release = Release(name="api", environment="prod", helm_release="api", namespace="prod", sources=())
    manifests = tuple(
        Manifest(body=one.value, text=one.text, template="helm/api/templates/a.yaml")
        for text in texts
        for one in yamlio.documents(text)
    )
    evidence = Evidence(
        repo=Repo(tree=Tree(root="/nowhere", files=()), environments=(environment,), releases=(release,)),
        config=Config(**config),
        environment=environment,
        release=release,
        renders=(Rendered(release=release, manifests=manifests),),
        shared=Shared(Tree(root="/nowhere", files=())),
    )
    subjects = rule.subjects(evidence)
    found = [one for subject in subjects for one in rule.check(subject, evidence)]
    assert all(isinstance(one, Finding) for one in found)
    return len(subjects), [one for one in found if isinstance(one, Finding)]


def pod(image: str) -> str:
    return (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: api}\nspec:\n  containers:\n"
        f"  - name: app\n    image: {yamlio.dump(image)}"
    )


def example(rule: Rule, name: str) -> str:
    doc = inspect.cleandoc(rule.doc)
    text = doc.split(f"\n{name}:\n", 1)[1]
    return textwrap.dedent(text.split("\n\nGood:", 1)[0])


@pytest.mark.parametrize("rule", [DIGEST_ONLY, NO_MUTABLE_TAG], ids=lambda rule: rule.id)
def test_the_bad_example_of_the_page_is_refused_and_the_good_one_passes(rule: Rule) -> None:
    subjects, found = judged(rule, example(rule, "Bad"))
    assert (subjects, len(found)) == (1, 1)
    assert judged(rule, example(rule, "Good")) == (1, [])


@pytest.mark.parametrize("rule", [DIGEST_ONLY, NO_MUTABLE_TAG], ids=lambda rule: rule.id)
def test_image_rules_are_policies_of_a_release_and_count_images(rule: Rule) -> None:
    assert (rule.kind, rule.scope) == (Kind.POLICY, Scope.RELEASE)
    nothing = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    assert judged(rule, nothing) == (0, [])
    assert judged(rule, nothing, pod(f"a@{DIGEST}"), pod(f"b@{DIGEST}"))[0] == 2


# --- digest-only --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [f"app@{DIGEST}", f"reg:5000/team/app:latest@{DIGEST}", f"a.b/c:1.2@{DIGEST}"])
def test_a_digest_passes_with_and_without_a_tag(image: str) -> None:
    assert judged(DIGEST_ONLY, pod(image)) == (1, [])


@pytest.mark.parametrize(
    ("image", "said", "change"),
    [
        ("reg:5000/app", "reg:5000/app is not pinned by digest", "pin reg:5000/app"),
        ("app:1.2.3", "app:1.2.3 is not pinned by digest", "pin app"),
        ("app:sha256-abc", "not pinned", "pin app"),
        ("app@sha512:" + "0a" * 64, "by sha512, not by sha256", "pin app"),
        ("app:", "the tag is empty", "mend 'app:'"),
        ("app@", "the digest is empty", "mend 'app@'"),
        ("app@latest", "sha256: is missing", "mend 'app@latest'"),
        (f"app:1 # {DIGEST}", "white space", f"mend 'app:1 # {DIGEST}'"),
        (f"app@{DIGEST}0", "65 are there", f"mend 'app@{DIGEST}0'"),
        (f"app@{DIGEST}\n", "white space", f"mend 'app@{DIGEST}\\n'"),
        ("<no value>:<no value>", "<no value>", "mend '<no value>:<no value>'"),
        ("app:{{ .Values.tag }}", "not rendered", "mend 'app:{{ .Values.tag }}'"),
        ("", "it is empty", "mend ''"),
    ],
)
def test_anything_else_is_refused_and_named(image: str, said: str, change: str) -> None:
    _, (finding,) = judged(DIGEST_ONLY, pod(image))
    assert said in finding.message
    assert finding.message.startswith("container app of Pod api: ")
    assert "@sha256:<64 hexadecimal digits>" in finding.help
    assert (finding.change, finding.pointer, finding.value) == (change, "/spec/containers/0/image", image)
    assert finding.manifest is not None
    assert finding.place is None
    assert not finding.advice


def test_one_image_in_many_places_is_one_change() -> None:
    _, found = judged(DIGEST_ONLY, pod("app:1"), pod("app:1"), pod("app:2"))
    assert [one.change for one in found] == ["pin app"] * 3


def test_init_containers_volumes_and_configured_fields_are_judged() -> None:
    body = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec:\n  template:\n    spec:\n"
        f"      containers: [{{name: a, image: 'a@{DIGEST}'}}]\n"
        "      initContainers: [{name: b, image: b}]\n"
        "      ephemeralContainers: [{name: c, image: c}]\n"
        "      volumes: [{name: d, image: {reference: d}}]\n"
    )
    farm = "apiVersion: x.example/v1\nkind: Farm\nmetadata: {name: f}\nspec: {tools: [{image: e}]}\n"
    subjects, found = judged(DIGEST_ONLY, body, farm, images_fields={"Farm": ("/spec/tools/*/image",)})
    assert subjects == 5
    assert [one.message.split(":")[0] for one in found] == [
        "init container b of Deployment api",
        "ephemeral container c of Deployment api",
        "image volume d of Deployment api",
        "field /spec/tools/0/image of Farm f",
    ]


# --- no-mutable-tag -----------------------------------------------------------------------------------------------

FLOATING = [
    "latest",
    "Latest",
    "LATEST",
    "stable",
    "main",
    "master",
    "edge",
    "nightly",
    "dev",
    "develop",
    "head",
    "canary",
    "staging",
    "prod",
    "rc",
    "lts",
    "mainline",
    "alpine",
    "bookworm-slim",
    "stable-slim",
    "latest-alpine",
    "main-amd64",
    "1-stable",
    "v2.3-nightly",
    "dev_latest",
]
FIXED = [
    "1.2.3",
    "v1.2.3",
    "1.2.3-alpine",
    "1.2.3-beta",
    "1.2.3-rc",
    "2024.01.15",
    "20240115",
    "main-3f2a1b9",
    "dev-20240101",
    "stable-20250101-slim",
    "3f2a1b9",
    "release-104",
    "v104",
    "v737",
    "482",
    "pr-1234",
    "1.2.3-dev",
    "0.1.0-SNAPSHOT-2",
    "r1234",
    "1.27.3-perl",
    "2023-10",
    "build-7f",
    "latestgreen",
    "mainframe",
]
MAJOR_MINOR = [
    "1",
    "v1",
    "12",
    "1.2",
    "v1.27",
    "22.04",
    "1.27-alpine",
    "1.27-alpine3.20",
    "3.12-slim-bookworm",
    "17-jre",
]


@pytest.mark.parametrize("tag", FLOATING)
def test_a_tag_that_is_pushed_again_is_refused(tag: str) -> None:
    for own in ((), ("registry.example/*",)):
        _, (finding,) = judged(NO_MUTABLE_TAG, pod(f"registry.example/team/app:{tag}"), images_own=own)
        assert "moved to each new build" in finding.message
        assert finding.change == "give registry.example/team/app a fixed tag"
        assert not finding.advice


@pytest.mark.parametrize("tag", FIXED)
def test_a_version_a_commit_or_a_date_passes(tag: str) -> None:
    assert judged(NO_MUTABLE_TAG, pod(f"app:{tag}"), images_own=("app",)) == (1, [])


@pytest.mark.parametrize("tag", MAJOR_MINOR)
def test_a_bare_major_or_minor_is_advice_unless_the_image_is_ours(tag: str) -> None:
    image = f"registry.example/team/app:{tag}"
    _, (finding,) = judged(NO_MUTABLE_TAG, pod(image), images_own=("registry.other/*",))
    assert finding.advice
    assert "patch release" in finding.message
    assert judged(NO_MUTABLE_TAG, pod(image), images_own=("registry.example/*",)) == (1, [])


@pytest.mark.parametrize("image", ["app", "reg:5000/app", "localhost/app"])
def test_no_tag_is_latest_and_a_port_is_no_tag(image: str) -> None:
    _, (finding,) = judged(NO_MUTABLE_TAG, pod(image), images_own=("*",))
    assert "`latest`" in finding.message
    assert not finding.advice


@pytest.mark.parametrize("tag", ["latest", "1", "main"])
def test_a_tag_beside_a_digest_never_floats(tag: str) -> None:
    assert judged(NO_MUTABLE_TAG, pod(f"app:{tag}@{DIGEST}")) == (1, [])


@pytest.mark.parametrize("image", ["app:", "app:<no value>", "app:{{ .Values.tag }}", "app@", "App:1", ""])
def test_what_a_template_left_over_is_refused(image: str) -> None:
    _, (finding,) = judged(NO_MUTABLE_TAG, pod(image))
    assert "names no image" in finding.message
    assert not finding.advice
    with pytest.raises(ValueError, match=r"."):
        ImageRef.parse(image)


def test_a_digest_that_is_none_is_told_by_digest_only_alone() -> None:
    assert judged(NO_MUTABLE_TAG, pod("app:1.4.2@")) == (1, [])
    _, (finding,) = judged(DIGEST_ONLY, pod("app:1.4.2@"))
    assert "names no image" in finding.message


def test_a_number_as_image_is_shown_as_kubernetes_reads_it() -> None:
    """`image: 1.10` without quotes: sigs.k8s.io/yaml hands the API server a number."""
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: api}\nspec: {containers: [{name: app, image: 1.10}]}\n"
    _, (finding,) = judged(NO_MUTABLE_TAG, text)
    assert finding.value == "1.1"
