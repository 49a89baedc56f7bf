"""schema/served: deprecated is advice, gone is red, and what the environment declares is there."""

from __future__ import annotations

from releasegate import yamlio
from releasegate.config import Config
from releasegate.model import Environment, Finding, Manifest, Repo, Tree
from releasegate.rules import Evidence, Shared, catalogue
from releasegate.schemas import Schemas

RULE = next(one for one in catalogue() if one.id == "schema/served")


def judged(api_version: str, kind: str, *, version: str = "1.37", declared: tuple[str, ...] = ()) -> list[Finding]:
    environment = Environment(name="prod", protected=True, kubernetes=version, why="test", api_versions=declared)
    repo = Repo(tree=Tree(root="/", files=()), environments=(environment,), releases=())
    evidence = Evidence(
        repo=repo,
        config=Config(),
        environment=environment,
        release=None,
        renders=(),
        shared=Shared(repo.tree),
        schemas=Schemas.load(version),
    )
    found = list(RULE.check(Manifest(body={"apiVersion": api_version, "kind": kind}, text=""), evidence))
    assert all(isinstance(one, Finding) for one in found)
    return [one for one in found if isinstance(one, Finding)]


def test_the_bad_example_of_the_page_is_bad_and_the_good_one_good() -> None:
    bad, good = RULE.doc.split("Bad:", 1)[1].split("Good:", 1)
    for text, count in ((bad, 1), (good, 0)):
        (document,) = yamlio.documents(text)
        assert len(judged(document.value["apiVersion"], document.value["kind"])) == count


def test_a_removed_version_names_the_replacement_and_both_versions() -> None:
    (found,) = judged("batch/v1beta1", "CronJob")
    assert found.message == (
        "batch/v1beta1 CronJob is not served since Kubernetes 1.25 (here: 1.37); use batch/v1, served since 1.21"
    )
    assert found.help == "write apiVersion: batch/v1"
    assert (found.pointer, found.value, found.advice) == ("/apiVersion", "batch/v1beta1", False)


def test_a_deprecated_version_is_advice() -> None:
    (found,) = judged("v1", "Endpoints")
    assert found.advice
    assert found.help == "use discovery.k8s.io/v1 EndpointSlice"


def test_a_version_of_a_later_kubernetes_is_refused() -> None:
    assert len(judged("storagemigration.k8s.io/v1", "StorageVersionMigration", version="1.34")) == 1
    assert judged("storagemigration.k8s.io/v1", "StorageVersionMigration") == []


def test_what_the_environment_declares_is_served() -> None:
    assert len(judged("apps/v9", "Thing")) == 1
    assert judged("apps/v9", "Thing", declared=("apps/v9",)) == []
    assert judged("apps/v9", "Thing", declared=("apps/v9/Thing",)) == []


def test_custom_kinds_and_documents_without_kind_are_left_to_schema_valid() -> None:
    assert judged("example.com/v1", "Widget") == []
    assert judged("", "") == []


def test_two_objects_of_one_kind_are_mended_by_the_same_change() -> None:
    assert judged("batch/v1beta1", "CronJob")[0].change == judged("batch/v1beta1", "CronJob")[0].change
    assert judged("batch/v1beta1", "CronJob")[0].change != judged("policy/v1beta1", "PodDisruptionBudget")[0].change
