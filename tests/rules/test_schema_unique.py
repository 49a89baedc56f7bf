"""schema/unique: one identity, one owner."""

from __future__ import annotations

import textwrap
from typing import Any

from releasegate import yamlio
from releasegate.config import Config
from releasegate.model import Application, Environment, Finding, Manifest, Release, Rendered, Repo, Tree
from releasegate.rules import Evidence, Shared, catalogue
from releasegate.schemas import Schemas

RULE = next(one for one in catalogue() if one.id == "schema/unique")


def body(kind: str = "ConfigMap", name: str = "a", api_version: str = "v1", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **metadata}}


def rendered(
    name: str, *bodies: dict[str, Any], namespace: str = "shop", destination: dict[str, str] | None = None
) -> Rendered:
    application = None
    if destination is not None:
        application = Application(name=name, namespace="argocd", project="p", destination=destination, place=None)
    release = Release(
        name=name, environment="prod", helm_release=name, namespace=namespace, sources=(), application=application
    )
    manifests = tuple(
        Manifest(body=one, text="", template=f"helm/{name}/templates/{index}.yaml") for index, one in enumerate(bodies)
    )
    return Rendered(release=release, manifests=manifests)


def judged(*renders: Rendered, crds: tuple[Manifest, ...] = ()) -> list[Finding]:
    environment = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
    repo = Repo(tree=Tree(root="/", files=()), environments=(environment,), releases=())
    evidence = Evidence(
        repo=repo,
        config=Config(),
        environment=environment,
        release=None,
        renders=renders,
        shared=Shared(repo.tree),
        schemas=Schemas.load("1.37", crds=crds),
    )
    subjects = RULE.subjects(evidence)
    assert len(subjects) == sum(len(one.manifests) for one in renders)
    found = list(RULE.check(subjects, evidence))
    return [one for one in found if isinstance(one, Finding)]


def test_the_bad_example_of_the_page_is_bad_and_the_good_one_good() -> None:
    bad, good = RULE.doc.split("Bad:", 1)[1].split("Good:", 1)
    for text, count in ((bad, 1), (good, 0)):
        bodies = [document.value for document in yamlio.documents(textwrap.dedent(text))]
        assert len(bodies) == 2
        assert len(judged(rendered("api", *bodies))) == count


def test_two_objects_of_one_name_in_one_release_are_one_finding_that_names_both_templates() -> None:
    (found,) = judged(rendered("api", body(), body(name="b"), body()))
    assert found.message == (
        "ConfigMap a in namespace shop is rendered twice by prod/api: "
        "helm/api/templates/0.yaml and helm/api/templates/2.yaml"
    )
    assert found.manifest is not None
    assert found.manifest.template == "helm/api/templates/2.yaml"


def test_two_releases_that_own_one_object_are_both_named() -> None:
    (found,) = judged(rendered("api", body()), rendered("web", body()))
    assert "prod/api (helm/api/templates/0.yaml) and prod/web (helm/web/templates/0.yaml)" in found.message


def test_three_owners_are_two_findings_and_one_cause() -> None:
    found = judged(rendered("a", body()), rendered("b", body()), rendered("c", body()))
    assert len(found) == 2
    assert len({one.change for one in found}) == 1


def test_namespaces_tell_objects_apart_and_the_releases_own_counts() -> None:
    assert judged(rendered("api", body()), rendered("web", body(), namespace="web")) == []
    assert judged(rendered("api", body()), rendered("web", body(namespace="web"))) == []
    assert len(judged(rendered("api", body()), rendered("web", body(namespace="shop"), namespace="web"))) == 1


def test_a_cluster_scoped_object_has_no_namespace_whatever_is_written() -> None:
    role = body("ClusterRole", api_version="rbac.authorization.k8s.io/v1")
    written = body("ClusterRole", api_version="rbac.authorization.k8s.io/v1", namespace="web")
    assert len(judged(rendered("api", role), rendered("web", role, namespace="web"))) == 1
    assert len(judged(rendered("api", role), rendered("web", written, namespace="web"))) == 1


def test_the_scope_of_a_custom_kind_comes_from_its_crd() -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    }
    widget = body("Widget", api_version="example.com/v1")
    renders = (rendered("api", widget), rendered("web", widget, namespace="web"))
    assert judged(*renders) == []
    assert len(judged(*renders, crds=(Manifest(body=crd, text=""),))) == 1


def test_api_versions_and_former_groups_are_one_object() -> None:
    old = body("HorizontalPodAutoscaler", api_version="autoscaling/v1")
    new = body("HorizontalPodAutoscaler", api_version="autoscaling/v2")
    assert len(judged(rendered("api", old, new))) == 1
    before = body("Ingress", api_version="extensions/v1beta1")
    after = body("Ingress", api_version="networking.k8s.io/v1")
    assert len(judged(rendered("api", before, after))) == 1


def test_the_same_kind_in_another_group_is_another_object() -> None:
    assert judged(rendered("api", body("Service"), body("Service", api_version="serving.knative.dev/v1"))) == []


def test_clusters_tell_objects_apart_and_the_local_one_has_two_names() -> None:
    east, west = {"server": "https://east.example"}, {"server": "https://west.example"}
    assert judged(rendered("api", body(), destination=east), rendered("web", body(), destination=west)) == []
    local, named = {"server": "https://kubernetes.default.svc"}, {"name": "in-cluster"}
    assert len(judged(rendered("api", body(), destination=local), rendered("web", body(), destination=named))) == 1


def test_objects_named_by_the_server_are_never_equal() -> None:
    job: dict[str, Any] = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "migrate-"}}
    assert judged(rendered("api", job, job)) == []


def test_hooks_are_no_exception() -> None:
    hook = body("Job", api_version="batch/v1", annotations={"argocd.argoproj.io/hook": "PreSync"})
    assert len(judged(rendered("api", hook), rendered("web", hook))) == 1
