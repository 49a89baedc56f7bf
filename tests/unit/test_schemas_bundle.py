"""`make schemas`: from OpenAPI v3 documents to the bundles that ship."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from releasegate.schemas import Schemas, available, bundle
from releasegate.schemas.kubernetes import DATA, load

SHARED = Path(__file__).parents[3] / "shared" / "data" / "openapi"

META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
OPENAPI: dict[str, Any] = {
    "openapi": "3.0.0",
    "info": {"title": "Kubernetes", "version": "v1.37.2"},
    "paths": {
        "/apis/apps/v1/namespaces/{namespace}/widgets": {
            "post": {"x-kubernetes-group-version-kind": {"group": "apps", "version": "v1", "kind": "Widget"}}
        },
        "/apis/apps/v1/gadgets": {
            "post": {"x-kubernetes-group-version-kind": {"group": "apps", "version": "v1", "kind": "Gadget"}}
        },
        "/apis/apps/v1/namespaces/{namespace}/widgets/{name}/scale": {
            "post": {"x-kubernetes-group-version-kind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}
        },
    },
    "components": {
        "schemas": {
            "io.k8s.api.apps.v1.Widget": {
                "description": "A long text.",
                "type": "object",
                "properties": {
                    "metadata": {"allOf": [{"$ref": f"#/components/schemas/{META}"}], "default": {}},
                    "size": {"type": "string", "enum": ["S", "M"], "default": "S", "description": "x"},
                },
                "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Widget"}],
            },
            "io.k8s.api.apps.v1.Gadget": {
                "type": "object",
                "properties": {"description": {"type": "string"}},
                "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Gadget"}],
            },
            "io.k8s.api.autoscaling.v1.Scale": {
                "type": "object",
                "x-kubernetes-group-version-kind": [{"group": "autoscaling", "version": "v1", "kind": "Scale"}],
            },
            META: {"type": "object", "properties": {"name": {"type": "string"}}},
            "io.k8s.Unused": {"type": "object"},
        }
    },
}


def written(folder: Path, document: Any, name: str = "apps.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))
    return folder


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def test_a_folder_of_openapi_documents_as_kubernetes_publishes_them_makes_a_bundle(tmp_path: Path) -> None:
    (made,) = bundle.make([written(tmp_path / "v3", OPENAPI)], tmp_path / "out")
    assert made.name == "v1.37.json.gz"
    content = read(made)
    assert content["kinds"] == {
        "apps/v1": {"Gadget": ["io.k8s.api.apps.v1.Gadget", False], "Widget": ["io.k8s.api.apps.v1.Widget", True]}
    }
    assert set(content["definitions"]) == {"io.k8s.api.apps.v1.Gadget", "io.k8s.api.apps.v1.Widget", META}


def test_descriptions_go_and_a_field_called_description_stays(tmp_path: Path) -> None:
    (made,) = bundle.make([written(tmp_path / "v3", OPENAPI)], tmp_path / "out")
    definitions = read(made)["definitions"]
    assert "A long text." not in json.dumps(definitions)
    assert definitions["io.k8s.api.apps.v1.Gadget"]["properties"] == {"description": {"type": "string"}}
    assert definitions["io.k8s.api.apps.v1.Widget"]["properties"]["metadata"] == {"$ref": META}


def test_a_folder_and_an_archive_of_it_make_the_same_bytes_every_time(tmp_path: Path) -> None:
    folder = written(tmp_path / "v1.37", OPENAPI)
    with tarfile.open(tmp_path / "v1.37.tar.gz", "w:gz") as archive:
        archive.add(folder, "v1.37")
    (from_folder,) = bundle.make([folder], tmp_path / "a")
    (from_archive,) = bundle.make([tmp_path / "v1.37.tar.gz"], tmp_path / "b")
    (again,) = bundle.make([folder], tmp_path / "c")
    assert from_folder.read_bytes() == from_archive.read_bytes() == again.read_bytes()


def test_discovery_says_what_can_be_created_where_it_is_there(tmp_path: Path) -> None:
    folder = written(tmp_path / "v1.37", OPENAPI)
    entry = {"groupVersion": "apps/v1", "kind": "Gadget", "resource": "gadgets", "namespaced": True}
    written(folder, [entry], "discovery.json")
    (made,) = bundle.make([folder], tmp_path / "out")
    assert read(made)["kinds"] == {"apps/v1": {"Gadget": ["io.k8s.api.apps.v1.Gadget", True]}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "apps.json: not JSON"),
        ("{}", "no OpenAPI v3 document found"),
        (
            json.dumps({"components": {"schemas": {"a": {}}}}),
            "no Kubernetes version; put it into a folder named like v1.37",
        ),
    ],
)
def test_an_input_that_is_no_openapi_is_refused_by_name(tmp_path: Path, document: str, message: str) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "apps.json").write_text(document)
    if document == "{}":
        folder = folder.rename(tmp_path / "v1.37")
    with pytest.raises(bundle.OpenAPIError, match=message):
        bundle.make([folder], tmp_path / "out")


def test_two_documents_that_disagree_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "v1.37", OPENAPI)
    other = json.loads(json.dumps(OPENAPI))
    other["components"]["schemas"][META]["properties"]["name"]["type"] = "integer"
    written(folder, other, "other.json")
    with pytest.raises(bundle.OpenAPIError, match="ObjectMeta differs"):
        bundle.make([folder], tmp_path / "out")


def test_the_command_line_says_what_it_wrote_and_exits_4_on_a_wrong_input(tmp_path: Path) -> None:
    folder = written(tmp_path / "v1.37", OPENAPI)
    command = [sys.executable, "-W", "error", "-m", "releasegate.schemas.bundle"]
    done = subprocess.run(
        [*command, str(folder), "--into", str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert "v1.37.json.gz" in done.stdout
    wrong = subprocess.run([*command, str(tmp_path / "absent")], capture_output=True, text=True, check=False)
    assert wrong.returncode == 4
    assert "absent" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_the_shipped_bundles_are_what_make_schemas_makes(tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip("../shared is not beside the project")
    made = bundle.make([SHARED], tmp_path)
    assert [path.name for path in made] == [f"v{version}.json.gz" for version in available()]
    assert [path.name for path in made if path.read_bytes() != (DATA / path.name).read_bytes()] == []


def test_a_bundle_is_small() -> None:
    assert all((DATA / f"v{version}.json.gz").stat().st_size < 48 * 1024 for version in available())


def test_every_kind_of_every_bundle_compiles() -> None:
    for version in available():
        known = Schemas.load(version)
        kinds = load(version).kinds
        assert len(kinds) > 60
        assert [kind for kind in kinds if not known.known(*kind)] == []


def test_an_export_has_the_names_kubeconform_looks_for(tmp_path: Path) -> None:
    folder = bundle.export("1.37", tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert folder.name == "v1.37.0-standalone-strict"
    assert {"deployment-apps-v1.json", "service-v1.json", "ingress-networking-v1.json"} <= names
    assert len(names) == len(load("1.37").kinds)
