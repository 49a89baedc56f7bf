"""schema/valid: what it says about a subject, and about what it cannot judge."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from releasegate import yamlio
from releasegate.config import Config
from releasegate.model import Environment, Finding, Manifest, Repo, Tree, Unjudged
from releasegate.rules import Evidence, Shared, catalogue
from releasegate.schemas import Schemas

RULE = next(one for one in catalogue() if one.id == "schema/valid")


def evidence(version: str = "1.37") -> Evidence:
    environment = Environment(name="prod", protected=True, kubernetes=version, why="test")
    repo = Repo(tree=Tree(root="/", files=()), environments=(environment,), releases=())
    return Evidence(
        repo=repo,
        config=Config(),
        environment=environment,
        release=None,
        renders=(),
        shared=Shared(repo.tree),
        schemas=Schemas.load(version),
    )


def judged(text: str, **place: Any) -> list[Finding | Unjudged]:
    (document,) = yamlio.documents(text)
    manifest = Manifest(body=document.value, text=document.text, problems=document.problems, **place)
    return list(RULE.check(manifest, evidence()))


def examples() -> dict[str, str]:
    """The `Bad:` and `Good:` YAML of the rule's page."""
    bad, good = RULE.doc.split("Bad:", 1)[1].split("Good:", 1)
    return {"bad": bad, "good": good}


def test_the_bad_example_of_the_page_is_bad_and_the_good_one_good() -> None:
    assert [one.pointer for one in judged(examples()["bad"]) if isinstance(one, Finding)] == ["/spec/port"]
    assert judged(examples()["good"]) == []


def test_every_fault_is_a_finding_with_pointer_value_and_manifest() -> None:
    found = judged("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {typ: x, ports: [{port: http}]}}")
    assert {(one.pointer, one.value) for one in found if isinstance(one, Finding)} == {
        ("/spec/typ", "x"),
        ("/spec/ports/0/port", "http"),
    }
    assert all(isinstance(one, Finding) and one.manifest is not None and one.help and one.change for one in found)


def test_a_missing_schema_is_unjudged_and_grouped_by_kind() -> None:
    (found,) = judged("{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: a}}")
    assert isinstance(found, Unjudged)
    assert found.group == "no schemas of argoproj.io"
    assert "releasegate schemas add Rollout" in found.remedy


def test_a_document_without_kind_is_a_finding() -> None:
    (found,) = judged("{apiVersion: v1, metadata: {name: a}}")
    assert isinstance(found, Finding)
    assert found.message == "missing required field kind"


def test_a_key_written_twice_is_a_finding_at_its_line_though_the_last_one_is_valid() -> None:
    # kubeconform without -strict says Valid here: the invalid spec is overwritten by the second one.
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: nonsense}\nspec:\n  ports: [{port: 80}]\n"
    (found,) = judged(text, path="manifests/a.yaml", line=11)
    assert isinstance(found, Finding)
    assert str(found.place) == "manifests/a.yaml:15"
    assert "spec" in found.message


def test_a_key_written_twice_in_a_render_names_no_line_of_the_repo() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b, a: c}\n"
    (found,) = judged(text, template="charts/a/templates/a.yaml")
    assert isinstance(found, Finding)
    assert found.place is None


def test_what_only_loses_data_on_apply_is_advice() -> None:
    pod = (
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, env: [{name: A}, {name: A}]}]}}"
    )
    (found,) = judged(pod)
    assert isinstance(found, Finding)
    assert found.advice


@pytest.mark.parametrize("version", ["1.34", "1.37"])
def test_the_version_of_the_environment_decides(version: str) -> None:
    body = yaml.safe_load(
        "{apiVersion: resource.k8s.io/v1, kind: DeviceTaintRule, metadata: {name: a}, "
        "spec: {taint: {key: a, effect: NoSchedule}}}"
    )
    found = list(RULE.check(Manifest(body=body, text=""), evidence(version)))
    assert [type(one) for one in found] == ([Unjudged] if version == "1.34" else [])


def test_a_misspelled_field_that_has_to_be_there_is_one_mistake() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n    - name: a\n      ports: [{containerport: 80}]\n"
    (found,) = judged(text)
    assert isinstance(found, Finding)
    assert found.message == "unknown field containerport; did you mean containerPort?"


def test_what_is_no_object_at_all_is_told_once() -> None:
    (found,) = judged("replicas: 3\nimage: {tag: latest}\n")
    assert isinstance(found, Finding)
    assert "no Kubernetes object" in found.message
