from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from releasegate import process
from releasegate.process import Cancel, Completed, Limits, NotStarted, Stopped

PYTHON = sys.executable
Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Write a fake tool in Python and return its path."""

    def write(body: str) -> str:
        path = tmp_path / f"tool{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!{PYTHON} -IS\n{body}")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """After every test no process is left that knows this test's folder."""
    yield
    left = [command for command in _commands() if str(tmp_path) in command]
    assert left == []


def _commands() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and int(entry.name) != os.getpid():
            found.append(command)
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_output_code_and_stdin_come_back(program: Program, tmp_path: Path) -> None:
    tool = program("import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('e'); sys.exit(7)")
    result = process.run([tool], cwd=tmp_path, stdin=b"abc" * 100_000)
    assert isinstance(result, Completed)
    assert (result.returncode, result.stdout, result.stderr) == (7, b"ABC" * 100_000, b"e")


def test_the_environment_is_an_allow_list(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFTEST_NO_FAIL", "true")
    monkeypatch.setenv("HELM_PLUGINS", str(tmp_path))
    tool = program("import os, json; print(json.dumps(dict(os.environ)))")
    result = process.run([tool], cwd=tmp_path, env={"HELM_DEBUG": "0"})
    assert isinstance(result, Completed)
    seen = json.loads(result.stdout)
    assert {"LC_ALL": "C", "TZ": "UTC", "HELM_DEBUG": "0"}.items() <= seen.items()
    assert set(seen) <= {"PATH", "LC_ALL", "LC_CTYPE", "TZ", "NO_COLOR", "HOME", "TMPDIR", "HELM_DEBUG"} | {
        "RELEASEGATE_PROCESS"
    }
    assert not Path(seen["HOME"]).exists(), "the private HOME is removed"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["/nowhere/helm"], "does not exist"),
        (["/etc/passwd"], "cannot be started: Permission denied"),
        (["/bin/echo", "a\0b"], "cannot be started"),
        (["/bin/echo", "x" * (1 << 22)], "cannot be started: Argument list too long"),
    ],
)
def test_a_program_that_cannot_start_is_a_value(argv: list[str], why: str, tmp_path: Path) -> None:
    result = process.run(argv, cwd=tmp_path)
    assert isinstance(result, NotStarted)
    assert why in result.reason


def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    result = process.run(["/bin/true"], cwd=tmp_path / "gone")
    assert isinstance(result, NotStarted)
    assert str(tmp_path / "gone") in result.reason


def test_a_hang_that_ignores_sigterm_ends_at_the_deadline(program: Program, tmp_path: Path) -> None:
    # helm ignores SIGTERM while it renders: `timeout 20 helm template` took 476 s.
    tool = program(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.stdout.write('so far'); sys.stdout.flush()\nwhile True: time.sleep(1)"
    )
    began = time.monotonic()
    result = process.run([tool], cwd=tmp_path, limits=Limits(seconds=0.6))
    assert time.monotonic() - began < 3
    assert isinstance(result, Stopped)
    assert (result.reason, result.stdout) == ("did not end within 0.6 s", b"so far")


def test_a_program_that_closes_its_output_and_goes_on_ends_at_the_deadline(program: Program, tmp_path: Path) -> None:
    tool = program("import os, time\nos.close(1); os.close(2); time.sleep(60)")
    result = process.run([tool], cwd=tmp_path, limits=Limits(seconds=0.5))
    assert isinstance(result, Stopped)
    assert result.reason == "did not end within 0.5 s"


def test_a_sleeper_that_holds_the_pipe_does_not_hold_us(program: Program, tmp_path: Path) -> None:
    # subprocess.run(timeout=2) left this grandchild running and waited for it.
    tool = program("import os, sys, time\nprint('done', flush=True)\nif os.fork() == 0: time.sleep(60)")
    began = time.monotonic()
    result = process.run([tool], cwd=tmp_path, limits=Limits(seconds=30))
    assert time.monotonic() - began < 3
    assert isinstance(result, Completed)
    assert result.stdout == b"done\n"


def test_a_sleeper_that_left_the_group_is_found_and_killed(program: Program, tmp_path: Path) -> None:
    tool = program("import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)")
    began = time.monotonic()
    result = process.run([tool], cwd=tmp_path, limits=Limits(seconds=30))
    assert time.monotonic() - began < 5
    assert isinstance(result, Stopped)
    assert "something it started keeps its output open" in result.reason


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_gigabyte_of_output_stops_at_the_cap(stream: str, program: Program, tmp_path: Path) -> None:
    tool = program(f"import sys\nfor _ in range(1 << 14): sys.{stream}.write('x' * (1 << 16))")
    began = time.monotonic()
    result = process.run([tool], cwd=tmp_path, limits=Limits(output_bytes=1 << 20))
    assert time.monotonic() - began < 5
    assert isinstance(result, Stopped)
    assert result.reason == "wrote more than 1048576 bytes"
    assert len(result.stdout) + len(result.stderr) <= (1 << 20) + (1 << 16)


def test_death_by_a_signal_is_not_an_exit_code(program: Program, tmp_path: Path) -> None:
    result = process.run([program("import os; os.kill(os.getpid(), 11)")], cwd=tmp_path)
    assert isinstance(result, Stopped)
    assert result.reason == "was killed by SIGSEGV"


def test_memory_is_limited(program: Program, tmp_path: Path) -> None:
    result = process.run([program("x = bytearray(1 << 30)")], cwd=tmp_path, limits=Limits(memory_bytes=512 << 20))
    assert isinstance(result, Completed)
    assert b"MemoryError" in result.stderr


def test_cpu_is_limited(program: Program, tmp_path: Path) -> None:
    result = process.run([program("while True: pass")], cwd=tmp_path, limits=Limits(seconds=30, cpu_seconds=1))
    assert isinstance(result, Stopped)
    assert result.reason in {"was killed by SIGKILL", "was killed by SIGXCPU"}


def test_an_interrupt_leaves_nothing_running(program: Program, tmp_path: Path) -> None:
    written = tmp_path / "pid"
    tool = program(f"import os, time\nopen({str(written)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")

    def interrupt() -> None:
        while not (written.exists() and written.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        process.run([tool], cwd=tmp_path)
    assert not _alive(int(written.read_text()))


def test_cancel_ends_what_runs_in_other_threads_and_what_starts_later(program: Program, tmp_path: Path) -> None:
    tool, cancel, results = program("import time; time.sleep(60)"), Cancel(), []
    threads = [
        threading.Thread(target=lambda: results.append(process.run([tool], cwd=tmp_path, cancel=cancel)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    cancel.cancel()
    for thread in threads:
        thread.join(timeout=5)
    results.append(process.run([tool], cwd=tmp_path, cancel=cancel))
    assert [result.reason for result in results if isinstance(result, Stopped)] == [
        "was stopped because the run was interrupted"
    ] * 4


def test_many_threads_run_at_once(program: Program, tmp_path: Path) -> None:
    results: dict[int, object] = {}
    tool = program("import sys; print(sys.argv[1])")
    threads = [
        threading.Thread(target=lambda n=n: results.__setitem__(n, process.run([tool, str(n)], cwd=tmp_path)))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = {n: result.stdout for n, result in results.items() if isinstance(result, Completed)}
    assert said == {n: f"{n}\n".encode() for n in range(16)}


def test_without_pidfd_the_same_holds(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # macOS has none.
    monkeypatch.delattr(os, "pidfd_open")
    forks = program("import os, time\nprint('done', flush=True)\nif os.fork() == 0: time.sleep(60)")
    silent = program("import os, time\nos.close(1); os.close(2); time.sleep(60)")
    ended = process.run([forks], cwd=tmp_path, limits=Limits(seconds=30))
    stopped = process.run([silent], cwd=tmp_path, limits=Limits(seconds=0.5))
    assert isinstance(ended, Completed)
    assert ended.stdout == b"done\n"
    assert isinstance(stopped, Stopped)


ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"


def test_a_worker_answers_line_by_line(program: Program, tmp_path: Path) -> None:
    with process.serve([program(ECHO)], cwd=tmp_path) as channel:
        assert [channel.ask(line, 5) for line in (b"abc", b"", b"x" * 200_000)] == [b"cba", b"", b"x" * 200_000]


def test_a_request_is_one_line(program: Program, tmp_path: Path) -> None:
    with (
        process.serve([program(ECHO)], cwd=tmp_path) as channel,
        pytest.raises(ValueError, match="a request is one line"),
    ):
        channel.ask(b"a\nb", 5)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import time\ninput()\nprint('half', end='', flush=True); time.sleep(60)", "did not answer within 0.5 s"),
        ("import sys\ninput()\nsys.exit(3)", "ended with exit code 3 instead of answering"),
        ("import os\ninput()\nos.kill(os.getpid(), 9)", "was killed by SIGKILL instead of answering"),
        ("input()\nwhile True: print('x' * 100000, end='', flush=True)", "wrote more than 1000000 bytes"),
        ("input()\nprint('one\\ntwo', flush=True)\nimport time; time.sleep(60)", "answered more than it was asked"),
    ],
)
def test_a_worker_that_breaks_is_killed_and_stays_unusable(
    body: str, reason: str, program: Program, tmp_path: Path
) -> None:
    with process.serve([program(body)], cwd=tmp_path, limits=Limits(output_bytes=1_000_000)) as channel:
        answers = [channel.ask(b"q", 0.5), channel.ask(b"q", 0.5)]
        assert [answer.reason for answer in answers if isinstance(answer, Stopped)] == [reason, reason]
        assert not channel.usable


def test_a_worker_that_cannot_start_answers_with_the_reason(tmp_path: Path) -> None:
    with process.serve(["/nowhere/worker"], cwd=tmp_path) as channel:
        answer = channel.ask(b"q", 1)
    assert isinstance(answer, Stopped)
    assert answer.reason == "/nowhere/worker does not exist"


def test_a_worker_is_killed_when_the_channel_is_left(program: Program, tmp_path: Path) -> None:
    tool = program(
        "import os, signal\nsignal.signal(15, signal.SIG_IGN)\nwhile True:\n    input(); print(os.getpid(), flush=True)"
    )
    with process.serve([tool], cwd=tmp_path) as channel:
        answer = channel.ask(b"pid", 5)
        assert isinstance(answer, bytes)
    assert not _alive(int(answer))


# --- several copies of this process -------------------------------------------------------------------------------


def test_spread_work_comes_back_in_order_and_each_part_is_done_once(tmp_path: Path) -> None:
    def work(number: int) -> tuple[int, int]:
        (tmp_path / f"{number}-{os.getpid()}").touch()
        time.sleep(0.001)
        return number * number, os.getpid()

    done = process.spread(work, range(200), copies=3)
    assert [square for square, _ in done] == [number * number for number in range(200)]
    assert len(list(tmp_path.iterdir())) == 200
    assert os.getpid() in {pid for _, pid in done}
    assert len({pid for _, pid in done}) > 1


def test_a_copy_that_dies_is_no_missing_answer() -> None:
    here = os.getpid()

    def work(_number: int) -> None:
        if os.getpid() != here:
            os._exit(3)
        time.sleep(0.005)

    with pytest.raises(RuntimeError, match="ended without an answer"):
        process.spread(work, range(100), copies=2)


def test_work_of_one_process_is_done_here() -> None:
    assert process.spread(lambda _: os.getpid(), range(3), copies=1) == [os.getpid()] * 3


def test_more_parts_than_a_pipe_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        process.spread(str, range(process.MAX_PARTS + 1), copies=2)
