from __future__ import annotations

import contextlib
import json
import os
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from releasegate import process
from releasegate.model import ToolIdentity
from releasegate.process import Limits
from releasegate.tools import helm as helm_tool
from releasegate.tools import store
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
            (root / path).write_text(text, "utf-8", "surrogateescape")
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


def children() -> set[int]:
    """The processes this one has started and that still run."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z" and int(parent) == os.getpid():
                found.add(int(entry.parent.name))
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


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (
            (
                'template: api/templates/x.yaml:1:6: executing "api/templates/x.yaml" at <include "h" .>: error calling '
                'include: template: api/templates/_h.tpl:2:10: executing "h" at <.Values.a.b>: nil pointer evaluating'
            ),
            ("templates/_h.tpl", 2, 11),
        ),
        ("execution error at (api/templates/x.yaml:3:4): boom", ("templates/x.yaml", 3, 5)),
        (
            "parse error at (api/charts/sub/templates/x.yaml:7): unclosed action",
            ("charts/sub/templates/x.yaml", 7, None),
        ),
        (
            "YAML parse error on api/templates/x.yaml: error converting YAML to JSON: yaml: line 2: x",
            ("templates/x.yaml", None, None),
        ),
        ("values don't meet the specifications", (None, None, None)),
        ("", (None, None, None)),
    ],
)
def test_the_errors_of_helm_3_say_where_too(message: str, where: Where) -> None:
    error = helm_tool.template_error(message, "/r/api")
    assert (error.path, error.line, error.column) == where


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

# --- the worker ---------------------------------------------------------------------------------------------------

HOOK = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  annotations: {{"helm.sh/hook": {hook}, "helm.sh/hook-weight": "{weight}"}}
"""

EQUAL: dict[str, dict[str, str]] = {
    "nothing": {},
    "plain": {"templates/d.yaml": DEPLOYMENT, "values.yaml": "replicas: 1\nimage: a\n"},
    "sorting by kind, several documents, empty ones and comments": {
        "templates/b.yaml": "kind: Service\nmetadata: {name: b}\n---\n# only a comment\n---\n---\nkind: Namespace\n",
        "templates/a.yaml": "{{ if false }}kind: X{{ end }}",
        "templates/c.yaml": "\n\nkind: Deployment\n\n\n",
        "templates/NOTES.txt": "thank you for {{ .Release.Name }}",
    },
    "hooks, weights and tests": {
        "templates/h.yaml": "---\n".join(
            HOOK.format(name=hook, hook=hook, weight=weight)
            for hook, weight in [("pre-install", 5), ("post-install", -1), ("test", 0), ("pre-rollback", 1)]
        ),
        "templates/c.yaml": "kind: ConfigMap\n",
    },
    "custom resource definitions": {
        "crds/b.yaml": "kind: CustomResourceDefinition\nmetadata: {name: b}\n---\nkind: Second\n",
        "crds/a.yaml": "# comment\nkind: CustomResourceDefinition\nmetadata: {name: a}\n",
        "charts/sub/Chart.yaml": SUBCHART,
        "charts/sub/crds/c.yaml": "kind: CustomResourceDefinition\nmetadata: {name: c}\n",
        "templates/x.yaml": "kind: Widget\n",
    },
    "subcharts: conditions, aliases, globals, imports": {
        "Chart.yaml": "apiVersion: v2\nname: api\nversion: 0.1.0\ndependencies:\n"
        "- {name: sub, version: 1.0.0, condition: sub.enabled}\n"
        "- {name: sub, version: 1.0.0, alias: other, import-values: [data]}\n"
        "- {name: off, version: 1.0.0, tags: [never]}\n",
        "values.yaml": "global: {team: a}\nsub: {enabled: true, word: one}\nother: {word: two}\ntags: {never: false}\n",
        "charts/sub/Chart.yaml": SUBCHART,
        "charts/sub/values.yaml": "word: none\nexports: {data: {imported: 7}}\n",
        "charts/sub/templates/s.yaml": "kind: {{ .Chart.Name }}\nw: {{ .Values.word }}\ng: {{ .Values.global.team }}\n",
        "charts/off/Chart.yaml": "apiVersion: v2\nname: off\nversion: 1.0.0\n",
        "charts/off/templates/o.yaml": "kind: Off\n",
        "templates/x.yaml": "kind: X\nimported: {{ .Values.imported }}\n",
    },
    "files, lookup, capabilities, includes, tpl": {
        "files/a.txt": "héllo\n",
        "templates/_h.tpl": '{{ define "n" }}{{ .Release.Name | trunc 5 }}{{ end }}',
        "templates/x.yaml": 'kind: ConfigMap\nname: {{ include "n" . }}\n'
        'data: {{ .Files.Get "files/a.txt" | quote }}\nglob: {{ (.Files.Glob "files/*").AsConfig | quote }}\n'
        'found: {{ lookup "v1" "Secret" "a" "b" | toYaml }}\nhas: {{ .Capabilities.APIVersions.Has "a/v1" }}\n'
        'second: {{ .Capabilities.APIVersions.Has "c/v1" }}\nversion: {{ .Capabilities.HelmVersion | toYaml | quote }}\n'
        'kube: {{ .Capabilities.KubeVersion | toYaml | quote }}\nname: {{ tpl "{{ .Release.Namespace }}" . }}\n'
        'host: {{ getHostByName "localhost" }}\ninstall: {{ .Release.IsInstall }} {{ .Release.Service }}\n'
        "chart: {{ .Chart | toYaml | quote }}\nbase: {{ .Template.BasePath }} {{ .Template.Name }}\n",
    },
    "numbers, dates and nulls of values": {
        "values.yaml": "a: 1.10\nb: 0123456\nc: 12345678901234567890\nd: 2024-01-02\ne: {x: 1, y: 2}\nf: 1e3\ng: yes\n",
        "templates/x.yaml": "kind: X\nall: {{ .Values | toJson }}\n{{ range $k, $v := .Values }}{{ $k }}: {{ $v }}\n{{ end }}",
    },
    "bytes that are no UTF-8": {"crds/x.yaml": "kind: CustomResourceDefinition\na: \udcff\n"},
    "ignored files": {
        ".helmignore": "templates/no*\n",
        "templates/no.yaml": "{{ fail `no` }}",
        "templates/y.yaml": "kind: Y\n",
    },
    "a Kubernetes version that is not allowed": {
        "Chart.yaml": "apiVersion: v2\nname: api\nversion: 0.1.0\nkubeVersion: '<1.20'\n"
    },
    "a library": {"Chart.yaml": "apiVersion: v2\nname: api\nversion: 0.1.0\ntype: library\n"},
    "the next chart format": {"Chart.yaml": "apiVersion: v3\nname: api\nversion: 0.1.0\n"},
    "a missing dependency": {
        "Chart.yaml": "apiVersion: v2\nname: api\nversion: 0.1.0\ndependencies: [{name: redis, version: 1.0.0}]\n"
    },
    "nil pointer": {"templates/x.yaml": "a: {{ .Values.x.y.z }}\n"},
    "fail": {"templates/x.yaml": 'a: {{ fail "no\\n::error::such" }}\n'},
    "required": {"templates/x.yaml": 'a: {{ required "give a" .Values.a }}\n'},
    "a parse error": {"templates/x.yaml": "a: {{ if }}\n"},
    "output that is not YAML": {"templates/x.yaml": "a: b: c\n"},
    "an unknown include": {"templates/x.yaml": 'a: {{ include "nope" . }}\n'},
    "endless recursion": {"templates/x.yaml": '{{ define "r" }}{{ include "r" . }}{{ end }}{{ include "r" . }}'},
    "a broken Chart.yaml": {"Chart.yaml": "name: [\n"},
    "a broken values.yaml": {"values.yaml": "a: [\n"},
    "a schema that the values break": {
        "values.schema.json": '{"required": ["nope"]}',
        "templates/x.yaml": "kind: X\n",
    },
}


@pytest.fixture(scope="module")
def pools(helm: Tool, helm_worker: Tool) -> Iterator[tuple[Pool, Pool]]:
    """One pool of programs, one of workers; the workers live through all charts, as in a real run."""
    with Pool(helm, None, 2) as programs, Pool(helm, helm_worker, 1) as workers:
        assert workers.worker_problem is None
        yield programs, workers
        assert workers.worker_problem is None


def both(pools: tuple[Pool, Pool], asked: TemplateRequest) -> tuple[object, object]:
    """What the program and the worker make of a request, without the seconds."""
    results = [pool.submit(asked).result(timeout=60) for pool in pools]
    first, second = (replace(result, seconds=0) if isinstance(result, Output) else result for result in results)
    return first, second


@pytest.mark.parametrize("files", EQUAL.values(), ids=EQUAL)
def test_the_worker_says_exactly_what_the_program_says(
    files: dict[str, str], pools: tuple[Pool, Pool], chart: Chart, tmp_path: Path
) -> None:
    root = chart(files)
    values = tmp_path / "values.yaml"
    values.write_text("replicas: 2\nsub: {word: three}\nnothing: null\n")
    requests = [
        request(root),
        request(root, release_name="x" * 60, include_crds=False),
        request(root, skip_tests=True, api_versions=("a/v1,b/v1", "c/v1"), namespace="", kube_version=""),
        request(
            root,
            values_files=(str(values),),
            sets=(
                ("image", "a,b", False),
                ("list", "{a,b}", False),
                ("other.word", "1.10", True),
                ("e.x", "null", False),
            ),
            set_files=(("script", str(values)),),
        ),
    ]
    for asked in requests:
        program, worker = both(pools, asked)
        assert worker == program
        linted, linted_by_worker = (pool.submit_lint(asked).result(timeout=60) for pool in pools)
        assert isinstance(linted, LintOutput)
        assert linted_by_worker == linted


@pytest.mark.parametrize(
    "changes",
    [
        {"kube_version": "nonsense"},
        {"kube_version": "1.37.2"},
        {"api_versions": ('a"b',)},
        {"release_name": "{{ lower `API` }}"},
        {"release_name": "{{"},
        {"release_name": "Not_Allowed"},
        {"sets": (("a[0", "1", False),)},
        {"sets": (("a.b=1,c", "2", False),)},
        {"values_files": ("/nowhere/values.yaml",)},
        {"set_files": (("a", "/nowhere/file"),)},
        {"chart": "/nowhere/chart"},
    ],
    ids=str,
)
def test_the_worker_refuses_what_the_program_refuses(
    changes: dict[str, object], pools: tuple[Pool, Pool], chart: Chart
) -> None:
    root = chart({"templates/x.yaml": "kind: {{ .Release.Name }}\nall: {{ .Values | toJson }}\n"})
    asked = request(**{"chart": root, **changes})  # type: ignore[arg-type]
    program, worker = both(pools, asked)
    assert worker == program
    linted, linted_by_worker = (pool.submit_lint(asked).result(timeout=60) for pool in pools)
    assert linted_by_worker == linted


def test_a_packaged_subchart_and_a_link_out_of_the_chart_are_read_alike(
    pools: tuple[Pool, Pool], chart: Chart, tmp_path: Path
) -> None:
    sub = chart({"templates/s.yaml": "kind: Sub\n"}, name="sub")
    root = Path(chart({"templates/x.yaml": "kind: X\nf: {{ .Files.Get `linked` }}\n"}))
    (root / "charts").mkdir()
    with tarfile.open(root / "charts/sub-0.1.0.tgz", "w:gz") as archive:
        archive.add(sub, "sub")
    (tmp_path / "outside").write_text("outside")
    (root / "linked").symlink_to(tmp_path / "outside")
    program, worker = both(pools, request(str(root)))
    assert isinstance(program, Output)
    assert "# Source: api/charts/sub/templates/s.yaml" in program.text
    assert worker == program


def test_the_worker_links_what_the_program_links(helm: Tool, helm_worker: Tool) -> None:
    # Another sprig or YAML library would be another renderer.
    program, worker = store.build_info(helm.path), store.build_info(helm_worker.path)
    assert program is not None
    assert worker is not None
    assert worker.dependencies["helm.sh/helm/v4"] == f"v{helm.identity.version}" == program.version
    shared = program.dependencies.keys() & worker.dependencies.keys()
    assert len(shared) > 50
    assert {name: worker.dependencies[name] for name in shared} == {name: program.dependencies[name] for name in shared}


def test_the_worker_writes_nothing_and_asks_nobody(
    helm: Tool, helm_worker: Tool, chart: Chart, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = listener
    root = chart(
        {
            "Chart.yaml": "apiVersion: v2\nname: api\nversion: 0.1.0\n"
            f"dependencies: [{{name: redis, version: 1.0.0, repository: '{url}'}}]\n",
            "values.schema.json": f'{{"$ref": "{url}/schema.json"}}',
        }
    )
    before = sorted(tmp_path.rglob("*"))
    with Pool(helm, helm_worker, 1) as pool:
        result = pool.submit(request(root)).result(timeout=60)
    assert isinstance(result, TemplateError)
    assert asked == []
    assert sorted(tmp_path.rglob("*")) == before


BOMB = "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"


def test_a_render_that_hangs_the_worker_is_killed_and_the_next_ones_go_on(
    helm: Tool, helm_worker: Tool, chart: Chart
) -> None:
    # Nested loops: helm ignores SIGTERM meanwhile.
    bomb = chart({"templates/x.yaml": BOMB}, name="bomb")
    good = chart({"templates/x.yaml": "kind: X\n"}, name="good")
    already = children()
    with Pool(helm, helm_worker, 1, limits=Limits(seconds=1)) as pool:
        futures = [pool.submit(request(path)) for path in (good, bomb, good)]
        before, hung, after = [future.result(timeout=30) for future in futures]
    assert isinstance(hung, Unavailable)
    assert hung.reason == "helm did not answer within 1 s"
    assert isinstance(before, Output)
    assert isinstance(after, Output)
    assert children() == already


def test_a_render_that_eats_all_memory_ends_the_worker_only(helm: Tool, helm_worker: Tool, chart: Chart) -> None:
    bomb = chart({"templates/x.yaml": "{{ until 1000000000 | len }}"}, name="bomb")
    good = chart({"templates/x.yaml": "kind: X\n"}, name="good")
    with Pool(helm, helm_worker, 1, limits=Limits(seconds=30, memory_bytes=2 << 30)) as pool:
        eaten, after = [pool.submit(request(path)).result(timeout=90) for path in (bomb, good)]
    assert isinstance(eaten, Unavailable)
    assert eaten.reason == "helm ran out of its memory limit"
    assert isinstance(after, Output)


BOMBS = {
    "an endless nested loop": (BOMB, "did not"),
    "a list of a billion": ("{{ until 1000000000 | len }}", "memory limit"),
    "endless output": (
        "{{ range until 100000 }}{{ range until 100000 }}{{ repeat 1000 `x` }}{{ end }}{{ end }}",
        ("memory limit", "did not", "wrote more"),
    ),
    "a string that doubles": (
        "{{ $s := `x` }}{{ range until 60 }}{{ $s = print $s $s }}{{ end }}",
        ("memory limit", "did not", "wrote more", "panic"),
    ),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("way", ["worker", "program"])
def test_a_chart_that_never_ends_ends_within_its_limits(
    bomb: tuple[str, str | tuple[str, ...]],
    way: str,
    helm: Tool,
    helm_worker: Tool,
    chart: Chart,
) -> None:
    text, reasons = bomb
    already = children()
    limits = Limits(seconds=3, output_bytes=16 << 20, memory_bytes=2 << 30)
    with Pool(helm, helm_worker if way == "worker" else None, 1, limits=limits) as pool:
        began = time.monotonic()
        result = pool.submit(request(chart({"templates/x.yaml": text}))).result(timeout=60)
        # A worker that died is followed by one try with the program.
        assert time.monotonic() - began < (2 if way == "worker" else 1) * limits.seconds + 5
    assert isinstance(result, Unavailable)
    assert any(reason in result.reason for reason in ((reasons,) if isinstance(reasons, str) else reasons)), result
    assert children() == already


def test_the_worker_ends_with_its_reader_also_in_the_middle_of_a_render(helm_worker: Tool, chart: Chart) -> None:
    bomb = chart({"templates/x.yaml": BOMB}, name="bomb")
    asked = json.dumps({"chart": bomb, "name": "x"}).encode() + b"\n"
    began = time.monotonic()
    said = process.run([str(helm_worker.path)], cwd=Path(bomb), stdin=asked, limits=Limits(seconds=20))
    assert isinstance(said, process.Completed)
    assert (said.returncode, said.stdout) == (0, b"")
    assert time.monotonic() - began < 10


def test_a_worker_of_another_helm_is_not_used(helm: Tool, tmp_path: Path, chart: Chart) -> None:
    other = fake(tmp_path, "", version="4.3.0+abc", name="releasegate-helm-worker")
    with Pool(helm, other, 1) as pool:
        assert pool.worker_problem == f"it links helm 4.3.0, the tool is {helm.identity.version}"
        assert isinstance(pool.submit(request(chart({}))).result(timeout=60), Output)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "it ended with exit code 0 instead of answering"),
        ("input()\nprint('garbage', flush=True); input()", "it does not speak our protocol"),
        ('input()\nprint(\'{"helm": "v3.0.0"}\', flush=True); input()', "it links helm 3.0.0"),
    ],
)
def test_a_worker_that_is_none_gives_way_to_the_program(
    body: str, problem: str, helm: Tool, tmp_path: Path, chart: Chart
) -> None:
    broken = fake(tmp_path, body, version=f"{helm.identity.version}+abc", name="releasegate-helm-worker")
    with Pool(helm, broken, 1) as pool:
        assert isinstance(pool.submit(request(chart({}))).result(timeout=60), Output)
        assert pool.worker_problem is not None
        assert problem in pool.worker_problem


@pytest.mark.parametrize("answer", ["garbage", "[]", '{"output": "!", "error": ""}', '{"output": 7}'])
def test_a_worker_answer_that_cannot_be_read_is_unavailable(
    answer: str, helm: Tool, tmp_path: Path, chart: Chart
) -> None:
    body = f"""import sys
for line in sys.stdin: print('{{"helm": "v{helm.identity.version}"}}' if 'hello' in line else {answer!r}, flush=True)"""
    lying = fake(tmp_path, body, version=f"{helm.identity.version}+abc", name="releasegate-helm-worker")
    with Pool(helm, lying, 1) as pool:
        assert isinstance(pool.submit(request(chart({}))).result(timeout=60), Unavailable)


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
