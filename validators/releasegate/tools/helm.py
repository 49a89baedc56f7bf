"""helm: Argo CD's arguments in, rendered text or helm's own complaint out.

One `helm template` per release (`template`), or many at once (`Pool`), there with long-lived workers that link the
same Helm module where one is built. helm gets no cluster, no plugins, no home, no working directory inside the tree.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import re
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from releasegate import process
from releasegate.tools import store

LIMITS = process.Limits(seconds=60, output_bytes=64 << 20, memory_bytes=4 << 30)
_WORKERS_MEMORY = 768 << 20  # where Go starts to collect harder, all workers of a pool together
_DEAD_PROXY = "http://127.0.0.1:9"  # the discard port: nothing listens there


@dataclass(frozen=True, slots=True)
class TemplateRequest:
    """What Argo CD passes to `helm template` for one source. All paths are absolute (ValueError otherwise).

    `sets` are (name, value, force_string), `set_files` (name, path), `values_files` in order, the last wins.
    """

    chart: str
    release_name: str
    namespace: str
    kube_version: str
    api_versions: tuple[str, ...] = ()
    values_files: tuple[str, ...] = ()
    sets: tuple[tuple[str, str, bool], ...] = ()
    set_files: tuple[tuple[str, str], ...] = ()
    include_crds: bool = True
    skip_tests: bool = False

    def __post_init__(self) -> None:
        """Refuse what helm would read as a repository reference, a URL or stdin."""
        for path in (self.chart, *self.values_files, *(path for _, path in self.set_files)):
            if not Path(path).is_absolute():
                raise ValueError(f"not an absolute path: {path!r}")


@dataclass(frozen=True, slots=True)
class Output:
    """What `helm template` printed, and how long it took."""

    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TemplateError:
    """helm refused to render: the repo is at fault.

    `message` is helm's, without "Error: " and "Use --debug…". `path` is the template as helm names it without the
    chart's own name ("templates/x.yaml", "charts/sub/templates/y.yaml"), "Chart.yaml", "values.yaml", or the absolute
    path of a values file; None when the message names none. `line` and `column` count from 1 and are those of a
    template; None for YAML errors, whose line helm gives for the rendered text, not for the file.
    """

    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It could not be tried: no helm, a deadline, a crash, a limit. `remedy` says what to do about it."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class LintOutput:
    """What `helm lint` says: (severity "info", "warning" or "error", path relative to the chart, text)."""

    messages: tuple[tuple[str, str, str], ...]


Result = Output | TemplateError | Unavailable


def argv(request: TemplateRequest) -> list[str]:
    """Return the arguments after `helm`, in Argo CD's order (argo-cd util/helm/cmd.go, Cmd.template).

    As there, a parameter named twice counts once (the last), and commas in values are escaped unless they already are
    or the value is a `{list}`. Added by us: --skip-schema-validation, because helm fetches `$ref`s of a
    values.schema.json from the network and the disk; releasegate validates values itself.
    """
    plain = {name: value for name, value, force_string in request.sets if not force_string}
    strings = {name: value for name, value, force_string in request.sets if force_string}
    arguments = ["template", request.chart, "--name-template", request.release_name]
    if request.namespace:
        arguments += ["--namespace", request.namespace]
    if request.kube_version:
        arguments += ["--kube-version", request.kube_version]
    arguments += _values_arguments(plain, strings, dict(request.set_files), request.values_files)
    for version in request.api_versions:
        arguments += ["--api-versions", version]
    if request.include_crds:
        arguments.append("--include-crds")
    arguments.append("--skip-schema-validation")
    if request.skip_tests:
        arguments.append("--skip-tests")
    return arguments


def _values_arguments(
    plain: Mapping[str, str], strings: Mapping[str, str], files: Mapping[str, str], values_files: tuple[str, ...]
) -> list[str]:
    arguments: list[str] = []
    for flag, parameters in (("--set", plain), ("--set-string", strings), ("--set-file", files)):
        for name, value in parameters.items():
            arguments += [flag, f"{name}={escaped(value)}"]
    for path in values_files:
        arguments += ["--values", path]
    return arguments


def escaped(value: str) -> str:
    """Escape the commas of a parameter's value as Argo CD does (cleanSetParameters), which knows no escaped backslash."""
    if value.startswith("{") and value.endswith("}"):
        return value
    return re.sub(r"(?<!\\),", r"\\,", value)


def _environment(folder: Path) -> dict[str, str]:
    """The variables helm reads: every home empty and private, no cluster, no way out."""
    return {
        "HELM_CACHE_HOME": str(folder / "cache"),
        "HELM_CONFIG_HOME": str(folder / "config"),
        "HELM_DATA_HOME": str(folder / "data"),
        "HELM_PLUGINS": str(folder / "plugins"),
        "KUBECONFIG": str(folder / "kubeconfig"),
        "HTTP_PROXY": _DEAD_PROXY,
        "HTTPS_PROXY": _DEAD_PROXY,
    }


def _refusal(request: TemplateRequest) -> TemplateError | None:
    """A request that would make helm read something else than it seems to say."""
    for name, _ in request.set_files:
        # `--set-file x=/etc/passwd,y=<path>`: Argo CD would pass it on.
        if "=" in name or "," in name:
            return TemplateError(f"fileParameters: the name {name!r} holds '=' or ',', so helm would read other files")
    return None


def template(
    tool: store.Tool,
    request: TemplateRequest,
    *,
    limits: process.Limits = LIMITS,
    cancel: process.Cancel | None = None,
) -> Result:
    """Render with one helm process; whatever helm does comes back as a value."""
    refusal = _refusal(request)
    if refusal is not None:
        return refusal
    said = _helm(tool, argv(request), limits, cancel)
    if not isinstance(said, process.Completed):
        return _unavailable(said, request)
    if said.returncode == 0:
        return _output(said.stdout, said.seconds)
    message = _error(said.stderr) if said.returncode == 1 else None
    if message is not None:
        return template_error(message, request.chart)
    return Unavailable(*_crashed(said))


def _helm(
    tool: store.Tool, arguments: list[str], limits: process.Limits, cancel: process.Cancel | None
) -> process.Completed | process.NotStarted | process.Stopped:
    with tempfile.TemporaryDirectory(prefix="releasegate-helm-", ignore_cleanup_errors=True) as folder:
        return process.run(
            [str(tool.path), *arguments],
            cwd=Path(folder),
            env=_environment(Path(folder)),
            limits=limits,
            cancel=cancel,
        )


def _output(stdout: bytes, seconds: float) -> Output | TemplateError | Unavailable:
    try:
        return Output(stdout.decode("utf-8"), seconds)
    except UnicodeDecodeError as error:
        if b"# Source: " not in stdout[: error.start]:
            return Unavailable("helm printed bytes that are no render", "releasegate tools install helm")
        before = stdout[: error.start].rpartition(b"# Source: ")[2].partition(b"\n")[0].decode(errors="replace")
        _, _, path = before.partition("/")
        return TemplateError(f"the rendered text is not UTF-8 (byte {error.object[error.start]:#x})", path or None)


def _unavailable(said: process.NotStarted | process.Stopped, request: TemplateRequest) -> Unavailable:
    if isinstance(said, process.NotStarted):
        return Unavailable(f"helm cannot be started: {said.reason}", "releasegate tools install helm")
    return Unavailable(f"helm {said.reason}", _REMEDY.format(name=request.release_name, chart=request.chart))


_REMEDY = "look for endless loops or huge output in the templates of {chart} (release {name})"


def _crashed(said: process.Completed) -> tuple[str, str]:
    lines = [line for line in said.stderr.decode(errors="replace").splitlines() if line.strip()]
    last = next((line for line in lines if line.startswith(("fatal error:", "panic:"))), lines[-1] if lines else "")
    detail = f": {last[:200]}" if last else " and said nothing"
    if "out of memory" in last or "cannot allocate memory" in last:
        return "helm ran out of its memory limit", "make the chart render less, or look for an endless loop in it"
    return f"helm ended with exit code {said.returncode}{detail}", "releasegate tools install helm"


def _error(stderr: bytes) -> str | None:
    """Return helm's error without the log lines before it; None when there is none."""
    text = stderr.decode("utf-8", errors="replace")
    match = re.search(r"^Error: ", text, re.MULTILINE)
    return text[match.end() :] if match else None


_DEBUG_HINT = re.compile(r"\s*Use --debug flag to render out invalid YAML\s*\Z")
# helm 4 prints a stack, one "<template>:<line>:<column>" per line; helm 3 and parse errors put it into the sentence.
_FRAME = re.compile(r"(?:^|\btemplate: )([^\s:(]+):(\d+):(\d+)(?::|$)", re.MULTILINE)
_INNER = re.compile(r"(?:template: |at \(|in \()([^\s:()]+)(?::(\d+))?(?::(\d+))?")
_YAML = re.compile(r"\b(?:YAML parse error on|error unmarshaling JSON in|unable to parse YAML in) ([^\s:]+):")
_VALUES = re.compile(r"^failed to parse (/.+?): ", re.MULTILINE)
_OPEN = re.compile(r"\bopen (/[^\n:]+): ")
_SUBCHART = re.compile(r"\berror unpacking subchart (\S+) in ")
_CHART_FILE = re.compile(r"\b(?:cannot load|failed to load|chart\.metadata in) (values\.yaml|Chart\.ya?ml)\b")


def template_error(message: str, chart: str) -> TemplateError:
    """Read helm's error: where it happened, as far as it says so. `chart` is the chart's folder."""
    message = _DEBUG_HINT.sub("", message).strip()
    # The innermost frame is the expression that failed; the frames before it only called it.
    for pattern in (_FRAME, _INNER):
        found = [match for match in pattern.finditer(message) if "/" in match[1]]
        if found:
            _, _, path = found[-1][1].partition("/")
            line = int(found[-1][2]) if found[-1][2] else None
            column = int(found[-1][3]) + 1 if found[-1][3] else None  # Go counts it from 0
            return TemplateError(message, path, line, column)
    if match := _YAML.search(message):
        return TemplateError(message, match[1].partition("/")[2] or None)
    if match := _CHART_FILE.search(message):
        below = "".join(f"charts/{name}/" for name in _SUBCHART.findall(message))
        return TemplateError(message, below + match[1])
    match = _VALUES.search(message) or _OPEN.search(message)
    return TemplateError(message.replace(f"{chart}/", ""), match[1] if match else None)


_Job = tuple[Future[Any], TemplateRequest, bool]  # the last: lint it


class Pool:
    """Renders in parallel: `jobs` threads, each with a worker process of its own, or with one helm per request.

    The worker is used only when it links the very Helm version that `tool` is. A request that kills it is tried once
    more with the helm program; one that hangs is Unavailable; either way the worker is started anew. Leaving the pool
    stops what still runs and cancels what has not begun.
    """

    def __init__(
        self, tool: store.Tool, worker: store.Tool | None, jobs: int, *, limits: process.Limits = LIMITS
    ) -> None:
        """Start the threads; processes start with the first request."""
        self.tool = tool
        self.limits = limits
        self.worker_problem = _worker_problem(tool, worker)
        self._worker = worker if self.worker_problem is None else None
        self._cancel = process.Cancel()
        self._closed = threading.Event()
        self._requests: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Daemons: an interrupt must not wait for a render.
        self._threads = [
            threading.Thread(target=self._work, name=f"helm-{n}", daemon=True) for n in range(max(jobs, 1))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: TemplateRequest) -> Future[Result]:
        """Queue a render; RuntimeError once the pool is closed."""
        future: Future[Result] = Future()
        self._put((future, request, False))
        return future

    def submit_lint(self, request: TemplateRequest) -> Future[LintOutput | Unavailable]:
        """Queue a `helm lint`; RuntimeError once the pool is closed."""
        future: Future[LintOutput | Unavailable] = Future()
        self._put((future, request, True))
        return future

    def _put(self, job: _Job) -> None:
        if self._closed.is_set():
            raise RuntimeError("the pool is closed")
        self._requests.put(job)

    def close(self) -> None:
        """Stop everything at once: kill what runs, cancel what waits."""
        self._closed.set()
        self._cancel.cancel()
        with contextlib.suppress(queue.Empty):
            while True:
                waiting = self._requests.get_nowait()
                if waiting is not None:
                    waiting[0].cancel()
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(timeout=15)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _work(self) -> None:
        with _Worker(self) as worker:
            while (item := self._requests.get()) is not None:
                future, request, linting = item
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(worker.lint(request) if linting else worker.render(request))
                except BaseException as error:  # noqa: BLE001 -- whoever waits for it must hear of it
                    future.set_exception(error)

    def program(self, request: TemplateRequest) -> Result:
        """Render with the helm program, under this pool's limits."""
        return template(self.tool, request, limits=self.limits, cancel=self._cancel)

    def program_lint(self, request: TemplateRequest) -> LintOutput | Unavailable:
        """Lint with the helm program, under this pool's limits."""
        return lint(self.tool, request, limits=self.limits, cancel=self._cancel)

    def serve(self) -> contextlib.AbstractContextManager[process.Channel] | None:
        """Start a worker process; None when there is none to use."""
        if self._worker is None or self._closed.is_set():
            return None
        return _serving(self._worker, self.limits, self._cancel, len(self._threads))

    def give_up_worker(self, problem: str) -> None:
        """Use the helm program from now on, and remember why."""
        self._worker, self.worker_problem = None, problem


def _worker_problem(tool: store.Tool, worker: store.Tool | None) -> str | None:
    if worker is None:
        return "there is none"
    linked = worker.identity.version.partition("+")[0]
    return None if linked == tool.identity.version else f"it links helm {linked}, the tool is {tool.identity.version}"


@contextlib.contextmanager
def _serving(worker: store.Tool, limits: process.Limits, cancel: process.Cancel, jobs: int) -> Any:
    with (
        tempfile.TemporaryDirectory(prefix="releasegate-helm-", ignore_cleanup_errors=True) as folder,
        process.serve(
            [str(worker.path)],
            cwd=Path(folder),
            # base64 makes an answer a third longer than what was rendered.
            limits=process.Limits(output_bytes=limits.output_bytes * 4 // 3 + 4096, memory_bytes=limits.memory_bytes),
            # One processor each, as the pool is as wide as the machine; little collection, within a common budget.
            env={
                **_environment(Path(folder)),
                "GOMAXPROCS": "1",
                "GOGC": "800",
                "GOMEMLIMIT": f"{max(_WORKERS_MEMORY // jobs, 64 << 20)}",
            },
            cancel=cancel,
        ) as channel,
    ):
        yield channel


class _Worker:
    """The worker process of one thread of a pool: started on first use, started anew after it broke."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.channel: process.Channel | None = None
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stack.close()

    def render(self, request: TemplateRequest) -> Result:
        """Render with the worker, or with the program where the worker cannot be used."""
        refusal = _refusal(request)
        if refusal is not None:
            return refusal
        began = time.monotonic()
        answer = self._ask(_worker_request(request))
        if answer is None:
            return self.pool.program(request)
        if isinstance(answer, process.Stopped):
            return _unavailable(answer, request)
        return _read_render(answer, time.monotonic() - began, request)

    def lint(self, request: TemplateRequest) -> LintOutput | Unavailable:
        """Lint with the worker, or with the program where the worker cannot be used."""
        if _refusal(request) is not None:
            return self.pool.program_lint(request)
        answer = self._ask({**_worker_request(request), "lint": True})
        if answer is None:
            return self.pool.program_lint(request)
        if isinstance(answer, process.Stopped):
            return _unavailable(answer, request)
        read = _read_answer(answer)
        if read is None:
            return Unavailable(*_UNREADABLE)
        return _lint_result(read[0].decode("utf-8", errors="replace"), read[1] or None, request)

    def _ask(self, request: Mapping[str, Any]) -> bytes | process.Stopped | None:
        """Ask the worker: its answer, Stopped when it hung, None when the program has to do it."""
        channel = self._started()
        if channel is None:
            return None
        answer = channel.ask(json.dumps(request).encode(), self.pool.limits.seconds)
        if isinstance(answer, bytes):
            return answer
        self._drop()
        return answer if answer.reason.startswith("did not answer") else None

    def _started(self) -> process.Channel | None:
        if self.channel is None:
            serving = self.pool.serve()
            if serving is None:
                return None
            channel = self.stack.enter_context(serving)
            hello = channel.ask(b'{"hello":true}', 30)
            problem = _hello_problem(hello, self.pool.tool.identity.version)
            if problem is not None:
                self._drop()
                self.pool.give_up_worker(problem)
                return None
            self.channel = channel
        return self.channel

    def _drop(self) -> None:
        self.channel = None
        self.stack.close()


def _worker_request(request: TemplateRequest) -> dict[str, Any]:
    return {
        "chart": request.chart,
        "name": request.release_name,
        "namespace": request.namespace,
        "kubeVersion": request.kube_version,
        "apiVersions": request.api_versions,
        "values": request.values_files,
        "set": [f"{name}={escaped(value)}" for name, value in _last(request, strings=False).items()],
        "setString": [f"{name}={escaped(value)}" for name, value in _last(request, strings=True).items()],
        "setFile": [f"{name}={escaped(path)}" for name, path in dict(request.set_files).items()],
        "includeCRDs": request.include_crds,
        "skipTests": request.skip_tests,
    }


def _last(request: TemplateRequest, *, strings: bool) -> dict[str, str]:
    return {name: value for name, value, force_string in request.sets if force_string is strings}


def _hello_problem(answer: bytes | process.Stopped, version: str) -> str | None:
    if isinstance(answer, process.Stopped):
        return f"it {answer.reason}"
    try:
        linked = json.loads(answer)["helm"].removeprefix("v")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it does not speak our protocol"
    return None if linked == version else f"it links helm {linked}, the tool is {version}"


_UNREADABLE = ("the render worker answered something unreadable", "releasegate tools install")


def _read_answer(answer: bytes) -> tuple[bytes, str] | None:
    """Return (output, error) of an answer, None when it is none."""
    try:
        read = json.loads(answer)
        error = base64.b64decode(read["error"] or "", validate=True)
        return base64.b64decode(read["output"] or "", validate=True), error.decode("utf-8", errors="replace")
    except (ValueError, KeyError, TypeError):
        return None


def _read_render(answer: bytes, seconds: float, request: TemplateRequest) -> Result:
    read = _read_answer(answer)
    if read is None:
        return Unavailable(*_UNREADABLE)
    output, error = read
    return template_error(error, request.chart) if error else _output(output, seconds)


_LINT = re.compile(r"^\[(INFO|WARNING|ERROR|UNKNOWN)\] ([^:\n]*): ?", re.MULTILINE)


def lint(
    tool: store.Tool,
    request: TemplateRequest,
    *,
    limits: process.Limits = LIMITS,
    cancel: process.Cancel | None = None,
) -> LintOutput | Unavailable:
    """Run `helm lint` with the request's values (release name, API versions and CRDs mean nothing to it)."""
    refusal = _refusal(request)
    if refusal is not None:
        return LintOutput((("error", "", refusal.message),))
    arguments = ["lint", request.chart, "--skip-schema-validation"]
    if request.namespace:
        arguments += ["--namespace", request.namespace]
    if request.kube_version:
        arguments += ["--kube-version", request.kube_version]
    arguments += _values_arguments(
        _last(request, strings=False), _last(request, strings=True), dict(request.set_files), request.values_files
    )
    said = _helm(tool, arguments, limits, cancel)
    if not isinstance(said, process.Completed):
        return _unavailable(said, request)
    error = _error(said.stderr)
    if said.returncode not in {0, 1} or (said.returncode == 1 and error is None):
        return Unavailable(*_crashed(said))
    text = said.stdout.decode("utf-8", errors="replace")
    return _lint_result(text, error if said.returncode else None, request)


def _lint_result(text: str, error: str | None, request: TemplateRequest) -> LintOutput | Unavailable:
    """Read what lint printed; `error` is what it ended with."""
    messages = _lint_messages(text, request.chart)
    if messages:
        return LintOutput(messages)
    if error is not None:  # values that cannot be merged end it before it lints anything
        found = template_error(error, request.chart)
        return LintOutput((("error", found.path or "", found.message),))
    if "1 chart(s) linted, 0 chart(s) failed" in text:
        return LintOutput(())
    return Unavailable("helm lint said nothing that can be read", "releasegate tools install helm")


def _lint_messages(text: str, chart: str) -> tuple[tuple[str, str, str], ...]:
    """Read the `[SEVERITY] path: text` messages, whose text may have several lines, up to the blank line after them."""
    _, _, body = text.partition(f"==> Linting {chart}\n")
    body = re.sub(r"\n\d+ chart\(s\) linted, \d+ chart\(s\) failed\s*\Z", "", body)
    starts = list(_LINT.finditer(body))
    messages = [("error", "", line.removeprefix("Error ")) for line in body.splitlines() if line.startswith("Error ")]
    ends = [start.start() for start in starts[1:]] + [len(body)]
    for start, end in zip(starts, ends, strict=False):
        said = body[start.end() : end].strip()
        path = "" if start[2] == chart else start[2]
        messages.append((start[1].lower(), path, said.replace(f"{chart}/", "")))
    return tuple(messages)
