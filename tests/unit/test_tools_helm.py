from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from releasegate.model import ToolIdentity
from releasegate.process import Limits
from releasegate.tools import helm as helm_tool
from releasegate.tools.helm import LintOutput, Output, Pool, TemplateError, TemplateRequest, Unavailable
from releasegate.tools.store import Tool

Chart = Callable[..., str]


@pytest.fixture
def chart(tmp_path: Path) -> Chart:
    """Write a chart and return its folder: keys are paths, values are text."""

    def write(files: Mapping[str, str], *, name: str = "api") -> str:
        root = tmp_path / name
        files = {"Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 0.1.0\n", **files}
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return str(root)

    return write


def request(chart: str, **changes: object) -> TemplateRequest:
    values: dict[str, object] = {
        "chart": chart,
        "release_name": "api-prod",
        "namespace": "prod",
        "kube_version": "1.37",
        "api_versions": (),
        "values_files": (),
        "sets": (),
        "set_files": (),
    }
    return TemplateRequest(**{**values, **changes})  # type: ignore[arg-type]


def fake(tmp_path: Path, body: str, *, version: str = "4.3.1", name: str = "helm") -> Tool:
    """A helm written in Python."""
    path = tmp_path / f"fake-{name}"
    path.write_text(f"#!{sys.executable} -IS\n{body}")
    path.chmod(0o755)
    return Tool(ToolIdentity(name=name, version=version, origin="path", sha256="0" * 64, path=str(path)))


def left_running(marker: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and int(entry.name) != os.getpid() and str(marker) in command:
            found.append(command)
    return found


# --- the arguments ------------------------------------------------------------------------------------------------


def test_arguments_are_argos_in_argos_order() -> None:
    # argo-cd util/helm/cmd.go, Cmd.template; --skip-schema-validation is ours (threat row 14).
    arguments = helm_tool.argv(
        TemplateRequest(
            chart="/r/chart",
            release_name="api",
            namespace="prod",
            kube_version="1.37",
            api_versions=("a/v1", "b/v1"),
            values_files=("/r/values.yaml", "/private/inline.yaml"),
            sets=(("image.tag", "1.10", True), ("replicas", "2", False)),
            set_files=(("script", "/r/run.sh"),),
            include_crds=True,
            skip_tests=True,
        )
    )
    assert arguments == [
        "template", "/r/chart", "--name-template", "api", "--namespace", "prod", "--kube-version", "1.37",
        "--set", "replicas=2", "--set-string", "image.tag=1.10", "--set-file", "script=/r/run.sh",
        "--values", "/r/values.yaml", "--values", "/private/inline.yaml",
        "--api-versions", "a/v1", "--api-versions", "b/v1",
        "--include-crds", "--skip-schema-validation", "--skip-tests",
    ]  # fmt: skip


def test_what_is_empty_is_not_passed() -> None:
    arguments = helm_tool.argv(TemplateRequest("/c", "api", "", "", include_crds=False))
    assert arguments == ["template", "/c", "--name-template", "api", "--skip-schema-validation"]


@pytest.mark.parametrize(
    ("value", "passed"),
    # argo-cd util/helm/cmd.go cleanSetParameters, and its test's cases.
    [
        ("val1", "val1"),
        ("bar,baz", r"bar\,baz"),
        (r"bar\,baz", r"bar\,baz"),
        ("{a,b}", "{a,b}"),
        (",", r"\,"),
        ("", ""),
    ],
)
def test_commas_are_escaped_as_argo_does(value: str, passed: str) -> None:
    assert helm_tool.escaped(value) == passed


def test_a_parameter_given_twice_counts_once_the_last() -> None:
    arguments = helm_tool.argv(request("/c", sets=(("a", "1", False), ("b", "2", False), ("a", "3", False))))
    assert [argument for argument in arguments if "=" in argument] == ["a=3", "b=2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"chart": "redis"},
        {"chart": "oci://registry/redis"},
        {"values_files": ("http://127.0.0.1/values.yaml",)},
        {"values_files": ("-",)},
        {"set_files": (("a", "../../etc/passwd"),)},
    ],
)
def test_only_absolute_paths_reach_helm(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not an absolute path"):
        request(**{"chart": "/c", **changes})  # type: ignore[arg-type]


# --- helm template ------------------------------------------------------------------------------------------------

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  namespace: {{ .Release.Namespace }}
spec:
  replicas: {{ .Values.replicas }}
  image: {{ .Values.image | quote }}
  helm: {{ .Capabilities.HelmVersion.Version }}
  kubernetes: {{ .Capabilities.KubeVersion }}
  monitors: {{ .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor" }}
"""


def test_a_release_renders_with_all_that_was_asked_for(helm: Tool, chart: Chart, tmp_path: Path) -> None:
    root = chart({"templates/d.yaml": DEPLOYMENT, "values.yaml": "replicas: 1\nimage: a\n"})
    override = tmp_path / "prod.yaml"
    override.write_text("replicas: 3\nimage: b\n")
    result = helm_tool.template(
        helm,
        request(
            root,
            values_files=(str(override),),
            sets=(("image", "x,y", True),),
            api_versions=("monitoring.coreos.com/v1/ServiceMonitor",),
        ),
    )
    assert isinstance(result, Output)
    assert "name: api-prod\n  namespace: prod\n" in result.text
    assert 'replicas: 3\n  image: "x,y"\n' in result.text
    assert f"helm: v{helm.identity.version}\n  kubernetes: v1.37\n  monitors: true" in result.text
    assert result.text.startswith("---\n# Source: api/templates/d.yaml\n")
    assert result.seconds > 0


Where = tuple[str | None, int | None, int | None]


@pytest.mark.parametrize(
    ("files", "where", "message"),
    [
        ({"templates/x.yaml": "a: 1\nb: {{ .Values.x.y.z }}\n"}, ("templates/x.yaml", 2, 14), "nil pointer evaluating"),
        ({"templates/x.yaml": 'a: 1\nb: {{ fail "boom" }}\n'}, ("templates/x.yaml", 2, 7), "boom"),
        ({"templates/x.yaml": 'a: {{ required "need it" .Values.b }}\n'}, ("templates/x.yaml", 1, 7), "need it"),
        ({"templates/x.yaml": "a: 1\nb: {{ if }}\n"}, ("templates/x.yaml", 2, None), "missing value for if"),
        (
            {
                "templates/x.yaml": 'a: {{ include "h" . }}\n',
                "templates/_h.tpl": '{{ define "h" }}\n{{ .Values.a.b }}\n{{ end }}',
            },
            ("templates/_h.tpl", 2, 11),
            "nil pointer evaluating",
        ),
        ({"templates/x.yaml": 'a: {{ include "nope" . }}\n'}, ("templates/x.yaml", 1, 7), 'no template "nope"'),
        ({"templates/x.yaml": 'a: {{ tpl "{{ .Values.a.b.c }}" . }}\n'}, ("templates/x.yaml", 1, 7), "gotpl:1:10"),
        ({"templates/x.yaml": "a: 1\n b: [\n"}, ("templates/x.yaml", None, None), "YAML parse error"),
        ({"values.yaml": "a: [\nb: 1\n"}, ("values.yaml", None, None), "cannot load values.yaml"),
        ({"Chart.yaml": "name: [\n"}, ("Chart.yaml", None, None), "cannot load Chart.yaml"),
        (
            {
                "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
                "charts/sub/templates/s.yaml": "\n{{ .Values.a.b }}\n",
            },
            ("charts/sub/templates/s.yaml", 2, 11),
            "nil pointer evaluating",
        ),
        ({"charts/sub/Chart.yaml": "name: [\n"}, ("charts/sub/Chart.yaml", None, None), "error unpacking subchart sub"),
        (
            {
                "Chart.yaml": "apiVersion: v2\nname: api\nversion: 0.1.0\n"
                "dependencies: [{name: redis, version: 1.0.0, repository: 'https://charts.example'}]\n"
            },
            (None, None, None),
            "missing in charts/ directory: redis",
        ),
    ],
)
def test_a_chart_that_does_not_render_says_where(
    files: dict[str, str], where: Where, message: str, helm: Tool, chart: Chart
) -> None:
    result = helm_tool.template(helm, request(chart(files)))
    assert isinstance(result, TemplateError)
    assert message in result.message
    assert not result.message.startswith("Error")
    assert "--debug" not in result.message
    assert (result.path, result.line, result.column) == where


def test_a_values_file_that_is_not_yaml_is_named(helm: Tool, chart: Chart, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [\nb: 1\n")
    missing = tmp_path / "missing.yaml"
    for values in (bad, missing):
        result = helm_tool.template(helm, request(chart({}), values_files=(str(values),)))
        assert isinstance(result, TemplateError)
        assert result.path == str(values)


def test_text_that_is_not_utf8_is_the_charts_fault(helm: Tool, chart: Chart) -> None:
    root = chart({"crds/x.yaml": ""})
    (Path(root) / "crds/x.yaml").write_bytes(b"kind: CustomResourceDefinition\na: \xff\n")
    result = helm_tool.template(helm, request(root))
    assert result == TemplateError("the rendered text is not UTF-8 (byte 0xff)", "crds/x.yaml")


def test_a_file_parameter_whose_name_smuggles_in_another_file_is_refused(helm: Tool, chart: Chart) -> None:
    # Argo CD builds --set-file name=path from both; a name with '=' reads a file of its own choice.
    root = chart({"templates/x.yaml": "a: {{ .Values.x | quote }}\n"})
    result = helm_tool.template(helm, request(root, set_files=(("x=/etc/hostname,y", "/etc/hosts"),)))
    assert isinstance(result, TemplateError)
    assert "fileParameters" in result.message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import sys; print('half'); sys.exit(3)", "helm ended with exit code 3 and said nothing"),
        ("import sys; sys.stderr.write('garbage\\n'); sys.exit(1)", "helm ended with exit code 1: garbage"),
        (
            "import sys; sys.stderr.write('fatal error: runtime: out of memory\\n\\ngoroutine 1\\n'); sys.exit(2)",
            "helm ran out of its memory limit",
        ),
        ("import os; os.kill(os.getpid(), 9)", "helm was killed by SIGKILL"),
        ("while True: print('x' * 100_000)", "helm wrote more than 1000000 bytes"),
        (
            "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(1)",
            "helm did not end within 1 s",
        ),
    ],
)
def test_a_broken_helm_is_unavailable_never_an_output(body: str, reason: str, tmp_path: Path) -> None:
    result = helm_tool.template(fake(tmp_path, body), request("/c"), limits=Limits(seconds=1, output_bytes=1_000_000))
    assert isinstance(result, Unavailable)
    assert result.reason == reason
    assert result.remedy
    assert left_running(tmp_path) == []


def test_a_helm_that_vanished_is_unavailable_with_the_command_that_mends_it(tmp_path: Path) -> None:
    tool = fake(tmp_path, "")
    tool.path.unlink()
    result = helm_tool.template(tool, request("/c"))
    assert isinstance(result, Unavailable)
    assert result.remedy == "releasegate tools install helm"


def test_helm_gets_no_home_no_plugins_and_no_working_directory_in_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELM_PLUGINS", str(tmp_path / "evil"))
    monkeypatch.setenv("HELM_DEBUG", "true")
    monkeypatch.chdir(tmp_path)
    body = "import json, os; print(json.dumps({'cwd': os.getcwd(), **os.environ}))"
    result = helm_tool.template(fake(tmp_path, body), request("/c"))
    assert isinstance(result, Output)
    seen = json.loads(result.text)
    assert "HELM_DEBUG" not in seen
    for name in ("cwd", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_PLUGINS", "KUBECONFIG", "HOME"):
        assert not Path(seen[name]).is_relative_to(tmp_path)
        assert not Path(seen[name]).exists(), "private and removed afterwards"


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A loopback web server and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_values_schema_is_not_fetched(helm: Tool, chart: Chart, listener: tuple[str, list[str]]) -> None:
    # Measured: helm loads http:// and file:// references of values.schema.json, exit code 0.
    url, asked = listener
    root = chart({"values.schema.json": f'{{"$ref": "{url}/schema.json"}}', "templates/x.yaml": "kind: X\n"})
    assert isinstance(helm_tool.template(helm, request(root)), Output)
    assert asked == []


# --- the pool -----------------------------------------------------------------------------------------------------


def test_a_pool_without_worker_renders_with_the_program(helm: Tool, chart: Chart) -> None:
    root = chart({"templates/x.yaml": "kind: {{ .Release.Name }}\n"})
    with Pool(helm, None, 2) as pool:
        futures = [pool.submit(request(root, release_name=f"r{n}")) for n in range(5)]
        results = [future.result(timeout=60) for future in futures]
    assert [result.text.splitlines()[2] for result in results if isinstance(result, Output)] == [
        f"kind: r{n}" for n in range(5)
    ]
    assert pool.worker_problem == "there is none"


def test_closing_a_pool_stops_what_runs_and_cancels_what_waits(tmp_path: Path) -> None:
    tool = fake(tmp_path, "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)")
    pool = Pool(tool, None, 1)
    running, waiting = pool.submit(request("/c")), pool.submit(request("/c"))
    while not running.running():
        time.sleep(0.01)
    time.sleep(0.2)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5
    stopped = running.result(timeout=1)
    assert isinstance(stopped, Unavailable)
    assert "interrupted" in stopped.reason
    assert waiting.cancelled()
    assert left_running(tmp_path) == []
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(request("/c"))


SUBCHART = "apiVersion: v2\nname: sub\nversion: 1.0.0\n"

# --- helm lint ----------------------------------------------------------------------------------------------------


def test_lint_messages_come_back_with_severity_and_path(helm: Tool, chart: Chart) -> None:
    root = chart({"templates/x.yaml": "apiVersion: v1\nkind: ConfigMap\n", "charts/sub/Chart.yaml": SUBCHART})
    result = helm_tool.lint(helm, request(root))
    assert isinstance(result, LintOutput)
    found = {(severity, path) for severity, path, _ in result.messages}
    assert ("info", "Chart.yaml") in found
    assert ("warning", "templates/x.yaml") in found
    assert ("error", "", "chart metadata is missing these dependencies: sub") in result.messages


def test_lint_of_a_chart_that_is_none_is_an_error(helm: Tool, tmp_path: Path) -> None:
    result = helm_tool.lint(helm, request(str(tmp_path / "none")))
    assert isinstance(result, LintOutput)
    assert [severity for severity, _, _ in result.messages] == ["error"]


def test_lint_with_values_that_are_not_yaml_is_an_error_there(helm: Tool, chart: Chart, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [\n")
    result = helm_tool.lint(helm, request(chart({}), values_files=(str(bad),)))
    assert isinstance(result, LintOutput)
    assert [(severity, path) for severity, path, _ in result.messages] == [("error", str(bad))]


def test_lint_by_something_that_is_not_helm_is_unavailable(tmp_path: Path) -> None:
    for body in ("print('hello')", "import sys; sys.exit(1)", "import sys; sys.exit(9)"):
        assert isinstance(helm_tool.lint(fake(tmp_path, body), request("/c")), Unavailable)
