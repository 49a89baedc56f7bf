"""`releasegate schemas list|show|add`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from releasegate.model import Manifest
from releasegate.schemas import LocationError, MissingSchema, Schemas, add


def crd(kind: str, **spec: Any) -> dict[str, Any]:
    properties = {
        "size": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    }
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.lower()}s.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"kind": kind}, "versions": [version], **spec},
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "crds.yaml").write_text(yaml.safe_dump_all([crd("Widget"), crd("Gadget")]))
    (folder / "template.yaml").write_text("{{ if .Values.crds }}\na: b\n{{ end }}\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def known(root: Path) -> Schemas:
    return Schemas.load("1.37", locations=[add.LAYOUT], root=root)


def judged(root: Path, spec: Any, kind: str = "Widget") -> list[str]:
    body = {"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    found = known(root).problems(Manifest(body=body, text=""))
    assert not isinstance(found, MissingSchema), found
    return [one.pointer for one in found]


def test_an_added_schema_judges_as_the_crd_does(root: Path, source: Path) -> None:
    add.add(add.Repo(root), ["Widget"], str(source))
    assert judged(root, {"size": 1}) == []
    assert judged(root, {"size": 0}) == ["/spec/size"]
    assert judged(root, {"sise": 1}) == ["/spec/sise"]
    assert judged(root, {"parts": [{"name": "a"}, {"name": "a"}]}) == ["/spec/parts/1"]
    assert known(root).namespaced("example.com/v1", "Widget") is False


def test_only_what_was_asked_for_is_written_and_the_config_line_is_told(root: Path, source: Path) -> None:
    said = add.add(add.Repo(root), ["example.com/v1/Widget"], str(source)).said
    assert [str(path.relative_to(root)) for path in root.rglob("*.json")] == ["schemas/example.com/widget_v1.json"]
    assert any(line.startswith("wrote schemas/example.com/widget_v1.json") for line in said)
    assert said[-1] == f'locations = ["{add.LAYOUT}"]'


def test_without_kinds_all_are_written_and_a_file_that_is_no_yaml_is_told(root: Path, source: Path) -> None:
    said = add.add(add.Repo(root), [], str(source)).said
    assert len(list(root.rglob("*.json"))) == 2
    assert any("passed over template.yaml" in line for line in said)


def test_a_kind_that_is_not_there_is_told_with_those_that_are_and_nothing_is_written(root: Path, source: Path) -> None:
    with pytest.raises(add.NotFound, match=r"no schema of Rollout; there are: Gadget, Widget"):
        add.add(add.Repo(root), ["Widget", "Rollout"], str(source))
    assert list(root.iterdir()) == []


def test_a_source_that_is_no_folder_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(add.NotFound, match="no such folder"):
        add.add(add.Repo(root), [], str(tmp_path / "absent"))


def test_a_catalogue_of_json_schemas_is_read_by_its_paths(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "catalogue" / "example.com"
    folder.mkdir(parents=True)
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
    (folder / "widget_v1.json").write_text(json.dumps(schema))
    add.add(add.Repo(root), ["Widget"], str(folder.parent))
    assert judged(root, {"a": 1}) == ["/spec/a"]


def test_builtin_groups_and_unusable_schemas_are_passed_over_with_the_reason(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml.safe_dump(crd("Deployment", group="apps")))
    (folder / "x").mkdir()
    (folder / "x" / "b.json").write_text("{")
    with pytest.raises(add.NotFound) as caught:
        add.add(add.Repo(root), [], str(folder))
    assert "apps/v1 Deployment in a.yaml: not a group" in str(caught.value) or "built in" in str(caught.value)
    assert "x/b.json" in str(caught.value)


def test_a_schema_is_never_written_outside_the_repo(root: Path, source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "schemas").symlink_to(outside)
    with pytest.raises(LocationError, match="symbolic link"):
        add.add(add.Repo(root), ["Widget"], str(source))
    assert list(outside.iterdir()) == []


def test_the_schema_of_a_kind_does_not_judge_another_spelling(root: Path, source: Path) -> None:
    add.add(add.Repo(root), ["Widget"], str(source))
    assert not known(root).known("example.com/v1", "widget")


def test_the_listing_names_shipped_kinds_and_files(root: Path, source: Path) -> None:
    add.add(add.Repo(root), ["Widget"], str(source))
    lines = list(add.listing(root, [add.LAYOUT]))
    assert "  argoproj.io/v1alpha1 Application" in lines
    assert "  schemas/example.com/widget_v1.json" in lines


@pytest.mark.parametrize("name", ["config", "Deployment", "apps/v1/Deployment", "PrometheusRule"])
def test_a_schema_can_be_shown(name: str) -> None:
    assert json.loads(add.show(name))


def test_what_cannot_be_shown_is_told() -> None:
    with pytest.raises(LookupError, match="no schema 'Rollout'"):
        add.show("Rollout")


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_files_go_where_the_config_looks_for_them(root: Path, source: Path) -> None:
    template = "k8s/{{ .ResourceKind }}-{{.Group}}-{{.ResourceAPIVersion}}.json"
    done = add.add(add.Repo(root, locations=["crds.yaml", template]), ["Widget"], str(source))
    assert files(root) == ["k8s/widget-example.com-v1.json"]
    assert not any("releasegate.toml" in line for line in done.said)
    found = Schemas.load("1.37", locations=[template], root=root)
    assert found.known("example.com/v1", "Widget")


def test_a_config_that_names_files_only_is_told_the_whole_line(root: Path, source: Path) -> None:
    done = add.add(add.Repo(root, locations=["crds.yaml"]), ["Widget"], str(source))
    assert done.said[-1] == f'locations = ["crds.yaml", "{add.LAYOUT}"]'


def test_a_location_with_the_kubernetes_version_gets_a_file_for_each(root: Path, source: Path) -> None:
    template = "{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}.json"
    add.add(add.Repo(root, locations=[template], versions=["1.36", "1.37"]), ["Widget"], str(source))
    assert files(root) == ["v1.36.0/widget.json", "v1.37.0/widget.json"]


def test_two_kinds_that_would_share_a_file_are_refused(root: Path, source: Path) -> None:
    with pytest.raises(add.NotFound, match=r"the same file v1\.json"):
        add.add(add.Repo(root, locations=["{{.ResourceAPIVersion}}.json"]), [], str(source))
    assert files(root) == []


def test_nothing_is_written_when_one_file_cannot_be(root: Path, source: Path) -> None:
    (root / "schemas/example.com/widget_v1.json").mkdir(parents=True)  # a folder is in the way
    with pytest.raises(add.NotObtained, match="cannot be written"):
        add.add(add.Repo(root), ["Widget"], str(source))
    assert files(root) == []


def test_missing_takes_what_lacks_a_schema_and_tells_the_rest(root: Path, source: Path) -> None:
    repo = add.Repo(root, lacking=lambda: [("example.com/v1", "Widget"), ("other.com/v1", "Thing")])
    done = add.add(repo, [], str(source), missing=True)
    assert files(root) == ["schemas/example.com/widget_v1.json"]
    assert done.failed == (f"other.com/v1/Thing: {source} has no schema of it",)
    assert add.add(add.Repo(root), [], str(source), missing=True).said == (
        "no kind that the releases render lacks a schema",
    )


@pytest.mark.parametrize(
    ("kinds", "options", "said"),
    [
        (["Widget"], {"missing": True}, "not both"),
        (["Widget"], {"context": "prod"}, "--context is for --from cluster"),
    ],
)
def test_wrong_use_is_told(root: Path, source: Path, kinds: list[str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(add.NotFound, match=said):
        add.add(add.Repo(root), kinds, str(source), **options)
