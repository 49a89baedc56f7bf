"""App-of-apps: charts that make Applications are rendered and followed, level by level, without end or loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from releasegate import config, yamlio
from releasegate.discover import MAX_DEPTH, discover
from releasegate.model import (
    Environment,
    HelmSource,
    Manifest,
    Release,
    Rendered,
    Repo,
    Tree,
    Unrendered,
    UnsupportedSource,
)

URL = "https://github.com/acme/config"
MAKES = "apiVersion: argoproj.io/v1alpha1\nkind: Application\n"


def chart(name: str) -> str:
    return f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n"


def build(root: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(root=str(root), files=tuple(sorted(files)), remotes=(URL,))


def child(name: str, path: str, **helm: Any) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": "argocd"},
        "spec": {"source": {"repoURL": URL, "path": path, "helm": helm} if helm else {"repoURL": URL, "path": path}},
    }


Answer = Sequence[dict[str, Any]] | Unrendered | str


class Fake:
    """A render that answers by release id at the time of asking, and remembers what it was asked."""

    def __init__(self, answers: Callable[[Release], Sequence[dict[str, Any]] | str]) -> None:
        self.answers = answers
        self.calls: list[list[str]] = []

    def __call__(
        self, releases: Sequence[Release], environments: Mapping[str, Environment]
    ) -> list[Rendered | Unrendered]:
        self.calls.append([release.id for release in releases])
        assert {release.environment for release in releases} <= set(environments)
        return [self.answer(release) for release in releases]

    def answer(self, release: Release) -> Rendered | Unrendered:
        answer = self.answers(release)
        if isinstance(answer, str):
            return Unrendered(release=release, reason=answer, remedy="", broken=answer != "no helm")
        manifests = [Manifest(body=body, text=yamlio.dump(body), template="root/templates/a.yaml") for body in answer]
        return Rendered(release=release, manifests=tuple(manifests))


def run(tree: Tree, fake: Fake, toml: str = "") -> Repo:
    return discover(tree, config.parse(toml), fake, kubernetes="1.37")


def ids(repo: Repo) -> list[str]:
    return [release.id for release in repo.releases]


ROOT = {
    "root/Chart.yaml": chart("root"),
    "root/values.yaml": "a: 1\n",
    "root/values-dev.yaml": "env: dev\n",
    "root/values-prod.yaml": "env: prod\n",
    "root/templates/apps.yaml": f"{{{{ range .Values.apps }}}}\n{MAKES}{{{{ end }}}}\n",
    "api/Chart.yaml": chart("api"),
    "api/values.yaml": "a: 1\n",
}


def test_a_root_with_values_per_environment_is_followed_in_each(tmp_path: Path) -> None:
    fake = Fake(lambda release: [child("api", "api", values="b: 1\n")] if release.name == "root" else [])
    repo = run(build(tmp_path, ROOT), fake)
    assert ids(repo) == ["dev/api", "dev/root", "prod/api", "prod/root"]
    assert fake.calls == [["dev/root", "prod/root"]]
    api = repo.releases[2]
    assert api.application is not None
    assert (api.application.parent, api.application.template, api.application.place) == (
        "prod/root",
        "root/templates/a.yaml",
        None,
    )
    source = api.sources[0]
    assert isinstance(source, HelmSource)
    assert source.inline is not None
    assert (source.inline.text, source.inline.place) == ("b: 1\n", None)
    assert repo.undeployed == ()
    assert repo.not_understood == ()


def test_each_level_is_one_call_of_render(tmp_path: Path) -> None:
    files = {
        **ROOT,
        "mid/Chart.yaml": chart("mid"),
        "mid/templates/a.yaml": MAKES,
        "low/Chart.yaml": chart("low"),
        "low/templates/a.yaml": MAKES,
    }
    tree: dict[str, list[dict[str, Any]]] = {
        "root": [child("mid-a", "mid"), child("mid-b", "mid")],
        "mid-a": [child("low", "low")],
        "mid-b": [],
        "low": [child("api", "api")],
    }
    fake = Fake(lambda release: tree[release.name])
    repo = run(build(tmp_path, files), fake)
    assert fake.calls == [
        ["dev/root", "prod/root"],
        ["dev/mid-a", "dev/mid-b", "prod/mid-a", "prod/mid-b"],
        ["dev/low", "prod/low"],
    ]
    assert [one for one in ids(repo) if one.startswith("prod/")] == [
        "prod/api", "prod/low", "prod/mid-a", "prod/mid-b", "prod/root",
    ]  # fmt: skip
    parents = {one.id: one.application.parent for one in repo.releases if one.application}
    assert parents["prod/api"] == "prod/low"
    assert parents["prod/low"] == "prod/mid-a"


def test_an_inline_value_can_make_a_chart_a_parent(tmp_path: Path) -> None:
    """`extraObjects` that hold an Application: the chart's own files do not mention it."""
    objects = yamlio.dump({"extraObjects": [child("web", "api")]})
    fake = Fake(
        lambda release: {"root": [child("api", "api", values=objects)], "api": [child("web", "api")]}.get(
            release.name, []
        )
    )
    assert [one for one in ids(run(build(tmp_path, ROOT), fake)) if "prod" in one] == [
        "prod/api",
        "prod/root",
        "prod/web",
    ]


def test_a_name_in_ids_may_lose_its_environment_and_parents_are_named_by_it(tmp_path: Path) -> None:
    files = {**ROOT, "mid/Chart.yaml": chart("mid"), "mid/templates/a.yaml": MAKES}
    fake = Fake(
        lambda release: (
            [child(f"mid-{release.environment}", "mid")] if release.name == "root" else [child("api", "api")]
        )
    )
    parents = {one.id: one.application.parent for one in run(build(tmp_path, files), fake).releases if one.application}
    assert parents["prod/api"] == "prod/mid"


def test_a_root_that_does_not_render_is_still_a_release_in_each_environment(tmp_path: Path) -> None:
    repo = run(build(tmp_path, ROOT), Fake(lambda _release: "template error"))
    assert ids(repo) == ["default/api", "dev/root", "prod/root"]


def test_an_application_that_holds_itself_ends(tmp_path: Path) -> None:
    text = yamlio.dump(child("root-prod", "root", valueFiles=["values-prod.yaml"]))
    files = {**ROOT, "argocd.yaml": text}
    again = child("root-prod", "root", valueFiles=["values-prod.yaml"])
    fake = Fake(lambda _release: [again, child("api", "api")])
    assert ids(run(build(tmp_path, files), fake)) == ["prod/api", "prod/root"]
    assert fake.calls == [["prod/root-prod"]]


def test_parents_that_never_end_are_a_row(tmp_path: Path) -> None:
    depth = {"count": 0}

    def deeper(_release: Release) -> list[dict[str, Any]]:
        depth["count"] += 1
        return [child("again", "root", values=f"n: {depth['count']}\nkind: Application\n")]

    fake = Fake(deeper)
    repo = run(build(tmp_path, {**ROOT, "argocd.yaml": yamlio.dump(child("root-prod", "root"))}), fake)
    (row,) = repo.not_understood
    assert "without end" in row.reason
    assert row.blocking
    assert len(fake.calls) == MAX_DEPTH + 1


def test_remote_children_are_releases_with_their_reason(tmp_path: Path) -> None:
    remote = child("redis", "x")
    remote["spec"]["source"] = {"repoURL": "https://charts.example", "chart": "redis", "targetRevision": "18.0.1"}
    repo = run(build(tmp_path, ROOT), Fake(lambda _release: [remote]))
    source = next(release for release in repo.releases if release.id == "prod/redis").sources[0]
    assert isinstance(source, UnsupportedSource)
    assert "redis 18.0.1" in source.reason


def test_a_child_that_is_not_understood_is_a_row_in_its_parents_environment(tmp_path: Path) -> None:
    broken = child("web", "api", fileParameters=["a"])
    rows = run(build(tmp_path, ROOT), Fake(lambda _release: [broken])).not_understood
    assert [(row.name, row.environment, row.blocking) for row in rows] == [("web", "dev", True), ("web", "prod", True)]


def test_an_application_set_in_a_render_is_evaluated(tmp_path: Path) -> None:
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": "all", "namespace": "argocd"},
        "spec": {
            "generators": [{"list": {"elements": [{"name": "api"}, {"name": "web"}]}}, {"clusters": {}}],
            "template": {"metadata": {"name": "{{name}}"}, "spec": {"source": {"repoURL": URL, "path": "api"}}},
        },
    }
    repo = run(build(tmp_path, ROOT), Fake(lambda release: [body] if release.environment == "prod" else []))
    assert [one for one in ids(repo) if "prod" in one] == ["prod/api", "prod/root", "prod/web"]
    (row,) = repo.not_understood
    assert ("clusters" in row.reason, row.environment) == (True, "prod")
    application = next(one for one in repo.releases if one.id == "prod/web").application
    assert application is not None
    assert application.parent == "prod/root"


# --- roots that nothing deploys -----------------------------------------------------------------------------------

PLAIN = {
    "apps/Chart.yaml": chart("apps"),
    "apps/values.yaml": "list: [a]\n",
    "apps/templates/a.yaml": f"{{{{ .Values.list }}}}\n{MAKES}",
    "api/Chart.yaml": chart("api"),
    "web/Chart.yaml": chart("web"),
    "web/values-production.yaml": "a: 1\n",
}


def test_a_root_without_environments_is_followed_in_default(tmp_path: Path) -> None:
    """argoproj/argocd-example-apps: `apps` makes one Application per folder."""
    fake = Fake(lambda _release: [child("example.api", "api"), child("example.web", "web")])
    repo = run(build(tmp_path, PLAIN), fake)
    assert ids(repo) == ["default/apps", "default/example.api", "default/example.web"]
    assert repo.undeployed == ("apps",)
    assert repo.unreferenced_values == ("web/values-production.yaml",)


def test_children_of_a_root_in_default_may_name_their_own_environment(tmp_path: Path) -> None:
    fake = Fake(
        lambda _release: [child("web-prod", "web", valueFiles=["values-production.yaml"]), child("api-dev", "api")]
    )
    assert ids(run(build(tmp_path, PLAIN), fake)) == ["default/apps", "dev/api", "production/web-prod"]


@pytest.mark.parametrize(
    ("values", "answer", "reason"),
    [
        ("cluster:\nother: 1\n", [child("api", "api")], "its values leave cluster unset"),
        (
            "a: 1\n",
            "execution error: set cluster",
            "does not render with its own values (execution error: set cluster)",
        ),
        ("a: 1\n", [child("api", "api", valueFiles=["values-.yaml"])], "names api/values-.yaml, which is not here"),
        ("a: 1\n", [child("inner", "inner", values="{}")], "inner then leaves id unset"),
    ],
)
def test_a_root_that_needs_an_input_git_does_not_have_is_listed_and_not_followed(
    tmp_path: Path, values: str, answer: Sequence[dict[str, Any]] | str, reason: str
) -> None:
    files = {
        "apps/Chart.yaml": chart("apps"),
        "apps/values.yaml": values,
        "apps/templates/a.yaml": f"{{{{ .Values.cluster }}}}\n{MAKES}",
        "api/Chart.yaml": chart("api"),
        "inner/Chart.yaml": chart("inner"),
        "inner/values.yaml": "id:\n",
        "inner/templates/a.yaml": f"{{{{ .Values.id }}}}\n{MAKES}",
    }
    repo = run(
        build(tmp_path, files), Fake(lambda release: answer if release.name == "apps" else [child("api", "api")])
    )
    row = next(row for row in repo.not_understood if row.what == "chart apps")
    assert reason in row.reason
    assert "[environments.NAME.inputs]" in row.remedy
    assert not row.blocking
    assert ids(repo) == ["default/api"]


def test_inputs_make_such_a_root_one_of_their_environment(tmp_path: Path) -> None:
    files = {
        "apps/Chart.yaml": chart("apps"),
        "apps/values.yaml": "cluster:\n",
        "apps/templates/a.yaml": f"{{{{ .Values.cluster }}}}\n{MAKES}",
        "apps-lab/Chart.yaml": chart("apps-lab"),
        "apps-lab/templates/a.yaml": MAKES,
        "api/Chart.yaml": chart("api"),
    }
    toml = "[environments.prod.inputs]\ncluster.name = 'eu'\n[environments.lab.inputs]\na = 1\n"
    repo = run(build(tmp_path, files), Fake(lambda _release: [child("api", "api")]), toml)
    assert ids(repo) == ["lab/api", "lab/apps", "prod/api", "prod/apps"]
    source = repo.releases[3].sources[0]
    assert isinstance(source, HelmSource)
    assert source.inline is not None
    assert yamlio.load(source.inline.text) == {"cluster": {"name": "eu"}}
    assert repo.environment("prod").inputs == {"cluster.name": "eu"}


def test_what_a_named_environment_deploys_is_not_judged_again_in_default(tmp_path: Path) -> None:
    files = {**ROOT, "boot/Chart.yaml": chart("boot"), "boot/templates/a.yaml": MAKES, "web/Chart.yaml": chart("web")}
    tree = {"root": [child("api", "api")], "boot": [child("api", "api"), child("web", "web")]}
    repo = run(build(tmp_path, files), Fake(lambda release: tree[release.name]))
    assert ids(repo) == ["default/boot", "default/web", "dev/api", "dev/root", "prod/api", "prod/root"]
    (row,) = repo.not_understood
    assert (row.name, row.blocking) == ("api", False)


def test_a_root_that_another_root_deploys_is_its_child(tmp_path: Path) -> None:
    files = {
        **ROOT,
        "inner/Chart.yaml": chart("inner"),
        "inner/templates/a.yaml": MAKES,
        "inner/values-dev.yaml": "a: 1\n",
    }
    tree = {"root": [child("inside", "inner")], "inside": [], "inner": []}
    repo = run(build(tmp_path, files), Fake(lambda release: tree[release.name]))
    assert ids(repo) == ["default/api", "dev/inside", "dev/root", "prod/inside", "prod/root"]
    assert repo.unreferenced_values == ("inner/values-dev.yaml",)


def test_two_roots_that_deploy_each_other_are_both_kept(tmp_path: Path) -> None:
    files = {
        f"{name}/{file}": text
        for name in ("one", "two")
        for file, text in {"Chart.yaml": chart(name), "templates/a.yaml": MAKES, "values-prod.yaml": "a: 1\n"}.items()
    }
    other = {"one": "two", "two": "one"}
    fake = Fake(
        lambda release: [child(f"from-{release.name}", other.get(release.name, "one"))] if release.name in other else []
    )
    assert ids(run(build(tmp_path, files), fake)) == ["prod/from-one", "prod/from-two", "prod/one", "prod/two"]


def test_without_helm_roots_are_releases_and_nothing_is_called_an_input(tmp_path: Path) -> None:
    repo = run(build(tmp_path, {**ROOT, **PLAIN}), Fake(lambda _release: "no helm"))
    assert {"dev/root", "prod/root", "default/apps"} <= set(ids(repo))
    assert repo.not_understood == ()


def test_a_chart_that_only_speaks_of_argo_is_not_rendered(tmp_path: Path) -> None:
    """A chart of Workflows mentions argoproj.io too; rendering all of those at collection costs seconds."""
    files = {
        "api/Chart.yaml": chart("api"),
        "api/templates/a.yaml": "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n",
    }
    fake = Fake(lambda _release: [])
    run(build(tmp_path, files), fake)
    assert fake.calls == []


def test_an_application_of_another_group_is_no_root(tmp_path: Path) -> None:
    """app.k8s.io/v1beta1 has a kind Application too; such a chart is judged like any other."""
    files = {
        "api/Chart.yaml": chart("api"),
        "api/values.yaml": "x:\n",
        "api/templates/a.yaml": "apiVersion: app.k8s.io/v1beta1\nkind: Application\nx: {{ .Values.x }}\n",
    }
    fake = Fake(lambda _release: [])
    assert ids(run(build(tmp_path, files), fake)) == ["default/api"]
    assert fake.calls == []


def test_a_chart_at_the_root_is_no_parent_of_the_applications_beside_it(tmp_path: Path) -> None:
    files = {"Chart.yaml": chart("api"), "values.yaml": "x:\n", "argocd/prod/api.yaml": yamlio.dump(child("api", "."))}
    fake = Fake(lambda _release: [])
    assert ids(run(build(tmp_path, files), fake)) == ["prod/api"]
    assert fake.calls == []


def test_a_computed_kind_is_rendered(tmp_path: Path) -> None:
    template = "apiVersion: argoproj.io/v1alpha1\nkind: {{ .Values.kind }}\n"
    files = {"root/Chart.yaml": chart("root"), "root/values-prod.yaml": "a: 1\n", "root/templates/a.yaml": template}
    fake = Fake(lambda _release: [])
    run(build(tmp_path, files), fake)
    assert fake.calls == [["prod/root"]]
