"""The one place that starts processes.

Every child gets its own session and process group, a deadline that ends in SIGKILL of the whole group, a cap on what
it may write, limits on memory and CPU, a private HOME, and an environment that is an allow-list. Nothing else in
this package imports `subprocess` (a test reads the imports), because each of these has failed somewhere: helm
ignores SIGTERM while it renders, `subprocess.run(timeout=…)` leaves grandchildren running, and a tool's
environment can switch its checks off.

All functions are safe to call from several threads: no code of ours runs between fork and exec.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import pickle
import resource
import secrets
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

_CHUNK = 1 << 16
_STDERR_KEPT = 1 << 16  # of a long-lived worker: the end of what it complained about
_DRAIN_SECONDS = 1.0  # how long a pipe may stay open once the program itself has ended
_SWEEPS = 5  # one that forks while it is looked for is found by the next sweep
_POLL_SECONDS = 0.05  # where the platform has no pidfd
_MARK = "RELEASEGATE_PROCESS"
_MINIMAL = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use.

    `seconds` of wall clock; `output_bytes` of stdout and stderr together; `memory_bytes` of address space per process
    (Go programs reserve about 1 GB of it before they do anything: measured with helm 4.3); `cpu_seconds` per process,
    where None means `seconds` on every processor, so that a runaway child ends even when this process was killed.
    """

    seconds: float = 60
    output_bytes: int = 64 << 20
    memory_bytes: int | None = 4 << 30
    cpu_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The program ended by itself, with whatever code."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The program could not be started: missing, not executable, an argument the system refuses."""

    argv: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The program did not end by itself: deadline, output over the limit, a signal. The output is what came so far.

    `reason` completes the sentence "helm …": "did not end within 60 s".
    """

    argv: tuple[str, ...]
    reason: str
    stdout: bytes
    stderr: bytes


def unenforced_limits() -> tuple[str, ...]:
    """Names of the limits this platform cannot enforce, for the report: () on Linux."""
    return () if hasattr(resource, "prlimit") else ("memory", "cpu")


class Cancel:
    """Ends everything that runs under it, from any thread; what is started under it later is stopped at once."""

    def __init__(self) -> None:
        """Start with nothing running and not cancelled."""
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Kill the groups of all children that run under it."""
        with self._lock:
            self._cancelled = True
            children = tuple(self._children)
        for child in children:
            child.kill()

    def _add(self, child: _Child) -> None:
        with self._lock:
            self._children.add(child)
            cancelled = self._cancelled
        if cancelled:
            child.kill()

    def _discard(self, child: _Child) -> None:
        with self._lock:
            self._children.discard(child)


_everything = Cancel()  # so that nothing outlives this process when it ends in an orderly way
_anything_else = Cancel()  # for callers that bring none


def _at_exit() -> None:
    _everything.cancel()
    for child in tuple(_everything._children):  # noqa: SLF001 -- same module; threads may be gone, their folders not
        shutil.rmtree(child.home, ignore_errors=True)


atexit.register(_at_exit)


class _Child:
    """A started process group, its pipes and its private HOME. A context manager: leaving it leaves nothing behind."""

    def __init__(
        self, argv: tuple[str, ...], *, cwd: Path, env: Mapping[str, str] | None, limits: Limits, cancel: Cancel
    ) -> None:
        """Start it. OSError and ValueError are subprocess's: what could not be started, and why."""
        self.argv = argv
        self.cancel = cancel
        self.mark = secrets.token_hex(16)
        self.pidfd: int | None = None
        self._reaping = threading.Lock()
        self.home = tempfile.mkdtemp(prefix="releasegate-")
        try:
            environment = {**_MINIMAL, "HOME": self.home, "TMPDIR": self.home, **(env or {}), _MARK: self.mark}
            self.popen = subprocess.Popen(
                argv,
                bufsize=0,
                cwd=cwd,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(self.home, ignore_errors=True)
            raise
        try:
            _limit(self.popen.pid, limits)
            self.pidfd = _pidfd(self.popen.pid)
            for pipe in self.pipes:
                os.set_blocking(pipe.fileno(), False)
            cancel._add(self)  # noqa: SLF001 -- Cancel's registry is for this class alone
            _everything._add(self)  # noqa: SLF001
        except BaseException:
            self.close()
            raise

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Its stdin, stdout, stderr."""
        stdin, stdout, stderr = self.popen.stdin, self.popen.stdout, self.popen.stderr
        if stdin is None or stdout is None or stderr is None:  # pragma: no cover -- all three are PIPE above
            raise AssertionError
        return stdin, stdout, stderr

    def __enter__(self) -> Self:
        """Return itself, running."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Kill whatever is left of it, also on KeyboardInterrupt."""
        self.close()

    def kill(self) -> None:
        """SIGKILL the whole group. While the leader is not reaped its id cannot belong to anybody else."""
        # PermissionError: macOS says so when only zombies are left in the group.
        with self._reaping, contextlib.suppress(ProcessLookupError, PermissionError):
            if self.popen.returncode is None:
                os.killpg(self.popen.pid, signal.SIGKILL)

    def kill_escaped(self) -> None:
        """SIGKILL descendants that left the group (setsid), known by the mark in their environment (Linux only)."""
        mark = f"{_MARK}={self.mark}".encode()
        for _ in range(_SWEEPS):
            found = False
            for entry in Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(OSError):
                    if mark in entry.read_bytes().split(b"\0"):
                        os.kill(int(entry.parent.name), signal.SIGKILL)
                        found = True
            if not found:
                return

    def close(self) -> None:
        """Kill, reap, close, remove the private HOME."""
        try:
            self.kill()
            with self._reaping, contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=10)
        finally:
            self.cancel._discard(self)  # noqa: SLF001
            _everything._discard(self)  # noqa: SLF001
            for pipe in self.pipes:
                with contextlib.suppress(OSError):
                    pipe.close()
            pidfd, self.pidfd = self.pidfd, None
            if pidfd is not None:
                os.close(pidfd)
            shutil.rmtree(self.home, ignore_errors=True)

    def ended(self) -> bool:
        """Tell whether the leader has ended, where there is no pidfd. This reaps it, so its group is killed here."""
        if self.popen.poll() is None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)  # the id stays taken as long as the group has members
        return True


def _pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when `pid` ends; None where the platform has none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _limit(pid: int, limits: Limits) -> None:
    """Set the limits of a child just started. It has run for some microseconds by then; charts come later than that."""
    if not hasattr(resource, "prlimit"):
        return
    cpu = limits.cpu_seconds
    if cpu is None and not math.isinf(limits.seconds):
        cpu = math.ceil(limits.seconds) * (os.cpu_count() or 1) + 1
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: limits.memory_bytes, resource.RLIMIT_CPU: cpu}
    with contextlib.suppress(ProcessLookupError):  # it has already ended
        for which, value in wanted.items():
            if value is None:
                continue
            _, hard = resource.prlimit(pid, which)
            ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, which, (ceiling, ceiling))


def _converse(  # noqa: C901, PLR0912 -- one event loop; its branches are the events
    child: _Child,
    request: bytes | None,
    *,
    close_stdin: bool,
    seconds: float,
    output_bytes: int,
    stdout: bytearray,
    stderr: bytearray,
    answered: Callable[[], bool],
    watch: Callable[[bytes], None] | None = None,
) -> str | None:
    """Write `request`, read into `stdout` and `stderr` until `answered()` or the child has ended and said everything.

    Returns None when that happened, else the reason for which the child has to be stopped.
    """
    deadline = time.monotonic() + seconds
    pending = memoryview(request or b"")
    reason = f"did not end within {seconds:g} s" if close_stdin else f"did not answer within {seconds:g} s"
    into, out, err = child.pipes
    with selectors.DefaultSelector() as selector:
        for pipe, buffer in ((out, stdout), (err, stderr)):
            if not pipe.closed:
                selector.register(pipe, selectors.EVENT_READ, buffer)
        if pending:
            selector.register(into, selectors.EVENT_WRITE)
        elif close_stdin:
            into.close()
        if child.pidfd is not None:
            selector.register(child.pidfd, selectors.EVENT_READ)
        running = True
        while not (out.closed and err.closed):
            if answered():
                return None
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return reason
            polling = running and child.pidfd is None
            for key, _events in selector.select(min(remaining, _POLL_SECONDS) if polling else remaining):
                if key.fileobj is into:
                    try:
                        pending = pending[os.write(key.fd, pending[:_CHUNK]) :]
                    except BrokenPipeError:
                        pending = memoryview(b"")  # it does not want to read; its output decides
                    if not pending:
                        selector.unregister(into)
                        if close_stdin:
                            into.close()
                elif isinstance(key.data, bytearray):
                    chunk = os.read(key.fd, _CHUNK)
                    key.data.extend(chunk)
                    if watch is not None and key.fileobj is err:
                        watch(chunk)
                    if len(stdout) + len(stderr) > output_bytes:
                        return f"wrote more than {output_bytes} bytes"
                    if not chunk:
                        selector.unregister(key.fileobj)
                        (out if key.fileobj is out else err).close()
                else:
                    selector.unregister(key.fileobj)
                    running = False
                    child.kill()  # what it left in its group, so that the pipes close
            if polling and child.ended():
                running = False
            if not running and deadline > (drained := time.monotonic() + _DRAIN_SECONDS):
                deadline, reason = drained, "ended, but something it started keeps its output open"
        return None


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    limits: Limits = Limits(),
    cancel: Cancel | None = None,
    watch: Callable[[bytes], None] | None = None,
) -> Completed | NotStarted | Stopped:
    """Run a program to its end and return what it said; never raises for anything the program does.

    `argv[0]` with a slash is that file, else it is looked up on the minimal PATH. The environment is PATH, LC_ALL=C,
    TZ=UTC, NO_COLOR, a private HOME and TMPDIR that are removed afterwards, and `env`; nothing is inherited. `stdin` is
    written and closed; without it stdin is empty. At the deadline, over a limit, on `cancel` and on any exception
    (KeyboardInterrupt) the whole process group gets SIGKILL; descendants that are left when the program ends by
    itself are killed too. `watch` sees stderr as it comes (the progress of a build). Unknown exit codes are the caller's to judge; death by a signal is `Stopped`.
    """
    argv = tuple(argv)
    began = time.monotonic()
    cancel = cancel or _anything_else
    stdout, stderr = bytearray(), bytearray()
    try:
        child = _Child(argv, cwd=cwd, env=env, limits=limits, cancel=cancel)
    except (OSError, ValueError) as error:
        return NotStarted(argv, _why_not_started(argv, cwd, error))
    with child:
        reason = _converse(
            child,
            stdin,
            close_stdin=True,
            seconds=limits.seconds,
            output_bytes=limits.output_bytes,
            stdout=stdout,
            stderr=stderr,
            answered=lambda: False,
            watch=watch,
        )
        if reason is None:
            # Both outputs are closed; the program itself may still be busy.
            reason = _wait(child, began + limits.seconds - time.monotonic(), limits.seconds)
        interrupted = cancel.cancelled or _everything.cancelled
        if reason is not None or interrupted:
            child.kill()
            child.kill_escaped()
    if interrupted:
        return Stopped(argv, "was stopped because the run was interrupted", bytes(stdout), bytes(stderr))
    code = child.popen.returncode
    if reason is None:
        reason = _abnormal(code)
    if reason is not None:
        return Stopped(argv, reason, bytes(stdout), bytes(stderr))
    return Completed(argv, code, bytes(stdout), bytes(stderr), time.monotonic() - began)


def _wait(child: _Child, remaining: float, seconds: float) -> str | None:
    """Wait for the leader without reaping it (its group is killed first); returns why it has to be stopped, or None."""
    if child.pidfd is None:
        try:
            child.popen.wait(timeout=max(remaining, 0))
        except subprocess.TimeoutExpired:
            return f"did not end within {seconds:g} s"
        return None
    with selectors.DefaultSelector() as selector:
        selector.register(child.pidfd, selectors.EVENT_READ)
        return None if selector.select(max(remaining, 0)) else f"did not end within {seconds:g} s"


def _why_not_started(argv: tuple[str, ...], cwd: Path, error: Exception) -> str:
    if isinstance(error, OSError) and not cwd.is_dir():
        return f"its working directory {cwd} does not exist"
    if isinstance(error, FileNotFoundError):
        return f"{argv[0]} does not exist"
    if isinstance(error, OSError):
        return f"{argv[0]} cannot be started: {error.strerror or error}"
    return f"{argv[0]} cannot be started: {error}"


def _abnormal(code: int | None) -> str | None:
    if code is None:
        return "cannot be killed"  # in the kernel, for longer than we wait
    return f"was killed by {_signal_name(-code)}" if code < 0 else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Channel:
    """A long-lived worker that answers one line for each line it is asked. Use it from one thread at a time."""

    def __init__(self, argv: tuple[str, ...], child: _Child | None, reason: str, limits: Limits) -> None:
        """Wrap a running child, or, with `child` None, the reason for which there is none."""
        self._argv = argv
        self._child = child
        self._reason = reason
        self._limits = limits
        self._stderr = bytearray()

    @property
    def usable(self) -> bool:
        """False once an answer was `Stopped`: every later one will be too."""
        return self._child is not None

    def ask(self, line: bytes, seconds: float) -> bytes | Stopped:
        """Send `line` (without newline) and return the answering line (without newline).

        No answer within `seconds`, an answer over the limit, or the worker's death: it is killed and the answer is
        `Stopped`. ValueError for a line that holds a newline.
        """
        if b"\n" in line:
            raise ValueError("a request is one line")
        if self._child is None:
            return Stopped(self._argv, self._reason, b"", bytes(self._stderr))
        answer = bytearray()
        reason = _converse(
            self._child,
            line + b"\n",
            close_stdin=False,
            seconds=seconds,
            output_bytes=self._limits.output_bytes,
            stdout=answer,
            stderr=self._stderr,
            answered=lambda: answer.endswith(b"\n"),
        )
        del self._stderr[:-_STDERR_KEPT]
        if reason is None and answer.endswith(b"\n") and answer.count(b"\n") == 1:
            return bytes(answer[:-1])
        child, self._child = self._child, None
        child.kill()
        child.kill_escaped()
        child.close()
        if reason is None:
            code = child.popen.returncode
            ended = _abnormal(code) or f"ended with exit code {code}"
            reason = "answered more than it was asked" if b"\n" in answer else f"{ended} instead of answering"
        self._reason = reason
        return Stopped(self._argv, reason, bytes(answer), bytes(self._stderr))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill the worker's group."""
        child, self._child = self._child, None
        if child is not None:
            child.close()
            self._reason = "is closed"


@contextlib.contextmanager
def serve(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    limits: Limits = Limits(),
    cancel: Cancel | None = None,
) -> Iterator[Channel]:
    """Start a long-lived worker and kill its group on leaving. Environment and limits as for `run`.

    `limits.seconds` does not apply (each request brings its own deadline), nor does a default CPU limit. A worker that
    cannot be started gives a channel whose every answer is `Stopped` with the reason.
    """
    argv = tuple(argv)
    lasting = Limits(
        seconds=math.inf,
        output_bytes=limits.output_bytes,
        memory_bytes=limits.memory_bytes,
        cpu_seconds=limits.cpu_seconds,
    )
    try:
        child = _Child(argv, cwd=cwd, env=env, limits=lasting, cancel=cancel or _anything_else)
    except (OSError, ValueError) as error:
        yield Channel(argv, None, _why_not_started(argv, cwd, error), lasting)
        return
    with Channel(argv, child, "", lasting) as channel:
        yield channel


Part = TypeVar("Part")
Result = TypeVar("Result")


def spread(function: Callable[[Part], Result], parts: Sequence[Part], *, copies: int) -> list[Result]:
    """Return `[function(part) for part in parts]`, worked off by this process and up to `copies` - 1 forked copies of it.

    For reading and judging many files on several cores: the copies inherit what is loaded (compiled schemas cannot be
    sent), and only results come back, pickled by ourselves. Each takes the next part when it is done with one, so that
    a busy core delays nobody. Call it before any thread is started.
    Raises RuntimeError when a copy died or its function raised, ValueError for more than MAX_PARTS parts.
    """
    if len(parts) > MAX_PARTS:
        raise ValueError(f"at most {MAX_PARTS} parts, not {len(parts)}")
    if copies < 2 or len(parts) < 2:  # noqa: PLR2004 - one process, no queue
        return [function(part) for part in parts]
    done: dict[int, Result] = {}
    forked: list[tuple[int, IO[bytes]]] = []
    with _queue(len(parts)) as taken:

        def work() -> dict[int, Result]:
            return {number: function(parts[number]) for number in taken}

        try:
            forked.extend(_fork(work) for _ in range(min(copies, len(parts)) - 1))
            done |= work()
            for _, pipe in forked:
                done |= _answer_of(pipe)
            return [done[number] for number in range(len(parts))]
        finally:
            for pid, pipe in forked:
                pipe.close()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


@contextlib.contextmanager
def _queue(length: int) -> Iterator[Iterator[int]]:
    """Yield what hands each number below `length` to one process only: a pipe that all copies read from."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"".join(number.to_bytes(_NUMBER, "big") for number in range(length)))
        os.close(writing)
        yield (int.from_bytes(entry, "big") for entry in iter(lambda: os.read(reading, _NUMBER), b""))
    finally:
        os.close(reading)


_NUMBER = 2  # bytes of one entry of the queue
MAX_PARTS = 4096 // _NUMBER  # what every platform's pipe holds without a reader


def _fork(function: Callable[[], Any]) -> tuple[int, IO[bytes]]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, os.fdopen(reading, "rb")
    code = 1
    try:
        os.close(reading)
        answer = pickle.dumps(function(), pickle.HIGHEST_PROTOCOL)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        code = 0
    except Exception:  # noqa: BLE001 - told to the parent by the empty pipe; its own traceback goes to stderr
        traceback.print_exc()
    finally:
        os._exit(code)


def _answer_of(pipe: IO[bytes]) -> Any:
    answer = pipe.read()
    if not answer:
        raise RuntimeError("a copy of this process ended without an answer")
    return pickle.loads(answer)  # noqa: S301 - written by our own copy through a pipe nobody else has
