"""`releasegate schemas add --from URL` and `--from cluster`, against a server on loopback and a kubectl of our own."""

from __future__ import annotations

import http.server
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Said, git

from releasegate.schemas import online
from releasegate.schemas.locations import LocationError
from releasegate.schemas.online import NotObtained, UrlTemplate

Run = Callable[..., Said]
TEMPLATE = "/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
WIDGET = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
    },
}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {**WIDGET}}}],
    },
}
del CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["$schema"]  # type: ignore[index]
CUSTOM = """\
apiVersion: example.com/v1
kind: Widget
metadata: {name: a}
spec: {size: SIZE}
"""
GADGET = "apiVersion: other.example/v1beta1\nkind: Gadget\nmetadata: {name: b}\n"


class Site:
    """A server on loopback: what it answers for each path, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Mapping[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.headers.append(dict(self.headers))
                code, headers, body = site.answers.get(self.path, (404, {}, b"not here"))
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def says(self, path: str, body: Any, code: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[path] = (code, {name.replace("_", "-"): value for name, value in headers.items()}, content)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def repo(toy: Path) -> Path:
    """The toy repo with two custom resources of which nobody has a schema."""
    (toy / "helm/api/templates/custom.yaml").write_text(CUSTOM.replace("SIZE", "1"))
    (toy / "helm/api/templates/gadget.yaml").write_text(GADGET)
    git(toy, "add", "-A")
    return toy


def written(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in (root / "schemas").rglob("*") if path.is_file())


# --- a URL --------------------------------------------------------------------------------------------------------


def test_what_the_releases_lack_is_fetched_and_then_judges_them(repo: Path, site: Site, releasegate: Run) -> None:
    site.says("/s/example.com/widget_v1.json", WIDGET)
    site.says(
        "/s/other.example/gadget_v1beta1.json", {"type": "object", "properties": {"metadata": {"type": "object"}}}
    )
    said = releasegate("schemas", "add", "--missing", "--from", site.url + "/s" + TEMPLATE, "--root", str(repo))
    assert said.code == 0, said.err
    assert sorted(site.asked) == ["/s/example.com/widget_v1.json", "/s/other.example/gadget_v1beta1.json"]
    assert written(repo) == ["schemas/example.com/widget_v1.json", "schemas/other.example/gadget_v1beta1.json"]
    line = said.out.splitlines()[-1]
    config = repo / "releasegate.toml"
    config.write_text(config.read_text() + f"[schemas]\n{line}\n")
    # Both are there, so nothing is asked for again.
    again = releasegate("schemas", "add", "--missing", "--from", site.url + TEMPLATE, "--root", str(repo))
    assert (again.code, len(site.asked)) == (0, 2), again.err
    assert "lacks a schema" in again.out
    (repo / "helm/api/templates/custom.yaml").write_text(CUSTOM.replace("SIZE", "big"))
    judged = releasegate("check", str(repo), "--rule", "schema/valid")
    assert judged.code == 1, judged.out
    assert "size" in judged.out


def test_what_cannot_be_had_is_told_and_what_can_is_written(repo: Path, site: Site, releasegate: Run) -> None:
    site.says("/example.com/widget_v1.json", WIDGET)
    said = releasegate("schemas", "add", "--missing", "--from", site.url + TEMPLATE, "--root", str(repo))
    assert said.code == 2
    assert written(repo) == ["schemas/example.com/widget_v1.json"]
    assert f"other.example/v1beta1/Gadget: {site.url}/other.example/gadget_v1beta1.json: answers 404" in said.err


def test_a_kind_without_its_version_is_the_one_the_releases_write(repo: Path, site: Site, releasegate: Run) -> None:
    site.says("/example.com/widget_v1.json", WIDGET)
    said = releasegate("schemas", "add", "Widget", "--from", site.url + TEMPLATE, "--root", str(repo))
    assert said.code == 0, said.err
    assert written(repo) == ["schemas/example.com/widget_v1.json"]
    said = releasegate("schemas", "add", "Sprocket", "--from", site.url + TEMPLATE, "--root", str(repo))
    assert said.code == 4
    assert "write GROUP/VERSION/Sprocket" in said.err


def test_named_kinds_are_all_written_or_none(toy: Path, site: Site, releasegate: Run) -> None:
    site.says("/example.com/widget_v1.json", WIDGET)
    kinds = ["example.com/v1/Widget", "other.example/v1beta1/Gadget"]
    said = releasegate("schemas", "add", *kinds, "--from", site.url + TEMPLATE, "--root", str(toy))
    assert (said.code, written(toy)) == (2, [])
    assert "answers 404" in said.err
    assert said.err.rstrip().endswith("nothing was written")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, {}, b"x"), "answers 404 Not Found: it has no schema of this kind there"),
        ((500, {}, b"x"), "answers 500"),
        ((403, {}, b"x"), "answers 403"),
        ((200, {}, b"<!DOCTYPE html><html></html>"), "is a web page, no schema"),
        ((200, {"Content-Type": "application/json"}, b"\n  <HTML>"), "is a web page, no schema"),
        ((200, {}, b""), "is empty"),
        ((200, {}, b"{"), "is no JSON"),
        ((200, {}, b"[" * 100_000), "is no JSON"),
        ((200, {}, b"[1]"), "no JSON Schema: it holds no object"),
        ((200, {}, b'{"message": "rate limit"}'), "no JSON Schema"),
        ((200, {}, b'{"type": "objekt"}'), "cannot be used as a schema"),
        ((200, {}, b'{"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}'), "cannot be used"),
        ((200, {}, json.dumps({"type": "object", "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v2", "kind": "Widget"}]}).encode()), "is the schema of example.com/v2 Widget"),
        ((302, {"Location": "/example.com/widget_v1.json"}, b""), "redirects more than 5 times"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "or to what is not http"),
        ((302, {"Location": "ftp://x/y"}, b""), "which is not followed"),
        ((302, {}, b""), "to nowhere"),
        ((200, {"Content-Length": "500"}, b"{"), "broke off"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_one_message_and_nothing_is_written(
    toy: Path, site: Site, releasegate: Run, answer: tuple[int, dict[str, str], bytes], said: str
) -> None:
    site.answers["/example.com/widget_v1.json"] = answer
    done = releasegate("schemas", "add", "example.com/v1/Widget", "--from", site.url + TEMPLATE, "--root", str(toy))
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 2
    assert not (toy / "schemas").exists()


def test_a_redirect_to_another_place_is_followed(toy: Path, site: Site, releasegate: Run) -> None:
    site.says("/example.com/widget_v1.json", b"", 301, Location="/moved.json")
    site.says("/moved.json", WIDGET)
    done = releasegate("schemas", "add", "example.com/v1/Widget", "--from", site.url + TEMPLATE, "--root", str(toy))
    assert (done.code, written(toy)) == (0, ["schemas/example.com/widget_v1.json"]), done.err


def test_a_server_that_is_not_there_is_told(toy: Path, releasegate: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}{TEMPLATE}"
        done = releasegate("schemas", "add", "example.com/v1/Widget", "--from", url, "--root", str(toy))
    assert (done.code, "cannot be reached" in done.err) == (2, True), done.err


def test_a_file_of_crds_is_taken_whole(toy: Path, site: Site, releasegate: Run) -> None:
    site.says("/crds.yaml", json.dumps(CRD).encode())
    done = releasegate("schemas", "add", "--from", f"{site.url}/crds.yaml", "--root", str(toy))
    assert (done.code, written(toy)) == (0, ["schemas/example.com/widget_v1.json"]), done.err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://127.0.0.1/{{.ResourceKind}}.json", "write an http or https URL"),
        ("http:///{{.ResourceKind}}.json", "write an http or https URL"),
        ("https://user:secret@127.0.0.1/{{.ResourceKind}}.json", "with a password in it"),
        ("https://127.0.0.1/{{.Kind}}.json", "uses {{.Kind}}"),
        ("https://127.0.0.1:99999/{{.ResourceKind}}.json", "ort"),
        ("https://127.0.0.1" + TEMPLATE, "does not say which kinds it has"),
        ("nowhere", "no such folder"),
    ],
)
def test_a_source_that_cannot_be_meant_is_wrong_use(toy: Path, releasegate: Run, source: str, said: str) -> None:
    done = releasegate("schemas", "add", "--from", source, "--root", str(toy))
    assert done.code == 4, done.err
    assert said in done.err
    assert "secret" not in done.err


def test_the_answers_size_and_time_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "MAX_BYTES", 1000)
    site.says("/big.json", b" " * 1001)
    with pytest.raises(NotObtained, match="is larger than"):
        UrlTemplate.parse(f"{site.url}/big.json").file()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(NotObtained, match="no answer in time"):
            UrlTemplate.parse(f"http://127.0.0.1:{silent.getsockname()[1]}/a.json").file(seconds=0.3)
        assert time.monotonic() - began < 5


def test_a_server_that_drips_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as dripping:

        def drip() -> None:
            connection, _ = dripping.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                for _ in range(100):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(NotObtained, match="did not arrive within"):
            UrlTemplate.parse(f"http://127.0.0.1:{dripping.getsockname()[1]}/a.json").file(seconds=0.5)
        thread.join()


def test_a_folder_url_stands_for_kubeconforms_own_layout() -> None:
    template = UrlTemplate.parse("https://schemas.example/").template
    assert template.startswith("https://schemas.example/{{ .NormalizedKubernetesVersion }}-standalone")
    with pytest.raises(LocationError):
        UrlTemplate.parse("https://schemas.example/{{.Nothing}}")


def test_a_hostile_apiversion_does_not_change_which_url_is_asked(site: Site) -> None:
    template = UrlTemplate.parse(site.url + TEMPLATE)
    for api_version, kind in (
        ("../../x/v1", "Widget"),
        ("e.com/v1", "a/../b"),
        ("e.com/v1?x=", "W"),
        ("x\r\n/v1", "W"),
    ):
        with pytest.raises(NotObtained, match="no apiVersion and kind"):
            template.schema(api_version, kind, "1.37")
    assert site.asked == []


# --- a cluster ----------------------------------------------------------------------------------------------------

KUBECTL = """\
#!{python}
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "asked.json"), "w") as file:
    json.dump({{"argv": sys.argv[1:], "cwd": os.getcwd(), "kubeconfig": os.environ.get("KUBECONFIG"), "home": os.environ.get("HOME")}}, file)
{does}
"""


def kubectl(folder: Path, does: str, **env: str) -> dict[str, str]:
    """An environment whose kubectl does that."""
    folder.mkdir()
    program = folder / "kubectl"
    program.write_text(KUBECTL.format(python=sys.executable, does=does))
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **env}


LISTS = f"print(json.dumps({{'apiVersion': 'v1', 'kind': 'List', 'items': [json.loads({json.dumps(CRD)!r})]}}))"


def test_a_cluster_gives_its_crds_through_kubectl(repo: Path, tmp_path: Path, releasegate: Run) -> None:
    env = kubectl(tmp_path / "bin", LISTS, KUBECONFIG="mine/config")
    said = releasegate(
        "schemas",
        "add",
        "--missing",
        "--from",
        "cluster",
        "--context",
        "prod",
        "--root",
        str(repo),
        cwd=tmp_path,
        env=env,
    )
    assert written(repo) == ["schemas/example.com/widget_v1.json"]
    assert said.code == 2, "the cluster knows no Gadget"
    assert "other.example/v1beta1/Gadget: cluster has no schema of it" in said.err
    asked = json.loads((tmp_path / "bin/asked.json").read_text())
    assert asked["argv"] == ["get", "crd", "-o", "json", "--context", "prod"]
    assert asked["kubeconfig"] == str(tmp_path / "mine/config")
    assert asked["home"] == os.environ.get("HOME")
    assert not Path(asked["cwd"]).is_relative_to(tmp_path)


def test_a_kind_of_the_cluster_may_be_named(toy: Path, tmp_path: Path, releasegate: Run) -> None:
    env = kubectl(tmp_path / "bin", LISTS)
    said = releasegate("schemas", "add", "Widget", "--from", "cluster", "--root", str(toy), env=env)
    assert (said.code, written(toy)) == (0, ["schemas/example.com/widget_v1.json"]), said.err
    assert "from the cluster" in said.out
    said = releasegate("schemas", "add", "Gadget", "--from", "cluster", "--root", str(toy), env=env)
    assert (said.code, "there are: Widget" in said.err) == (4, True)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (
            "sys.stderr.write('error: context \"prod\" does not exist\\n'); sys.exit(1)",
            'ends with 1: error: context "prod"',
        ),
        ("sys.exit(3)", "ends with 3: and says nothing"),
        ("print('<html>')", "prints no JSON"),
        ("print('{}')", "lists no CustomResourceDefinition"),
        ("os.kill(os.getpid(), 9)", "kubectl get crd -o json"),
    ],
)
def test_what_kubectl_does_wrong_is_told(toy: Path, tmp_path: Path, releasegate: Run, does: str, said: str) -> None:
    done = releasegate("schemas", "add", "--from", "cluster", "--root", str(toy), env=kubectl(tmp_path / "bin", does))
    assert (done.code, said in done.err, "Traceback" in done.err) == (2, True, False), done.err
    assert not (toy / "schemas").exists()


def test_without_kubectl_it_is_told_what_to_do(toy: Path, tmp_path: Path, releasegate: Run) -> None:
    done = releasegate("schemas", "add", "--from", "cluster", "--root", str(toy), env={"PATH": str(tmp_path)})
    assert (done.code, "kubectl is not on PATH" in done.err) == (2, True), done.err


def test_a_kubectl_of_the_judged_repo_is_not_started(toy: Path, releasegate: Run) -> None:
    env = kubectl(toy / "bin", LISTS)
    done = releasegate("schemas", "add", "--from", "cluster", "--root", str(toy), env=env)
    assert (done.code, "is not started" in done.err) == (2, True), done.err
    assert not (toy / "bin/asked.json").exists()
