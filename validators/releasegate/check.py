"""`releasegate check`: pytest started in-process in hardened form over one run.

Own ini, no conftest, no plugin autoload, nothing imported from the checked repo; verdicts come from the run's record,
and pytest's own exit code only says whether all cases were reached.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from releasegate import nodes
from releasegate.evaluate import Report
from releasegate.run import Run

INI = Path(__file__).parent / "data" / "check.ini"
INTERRUPTED = 130
# Plugins of pytest that a run of cases has no use for; some cost time per item, some write into the repo.
NEEDLESS = (
    "cacheprovider",
    "debugging",
    "doctest",
    "faulthandler",
    "logging",
    "pastebin",
    "stepwise",
    "threadexception",
    "tmpdir",
    "unittest",
    "unraisableexception",
    "warnings",
)


class Interrupted(Exception):
    """Ctrl-C: exit 130, no report."""


class _Preset:
    """Hands the opened run to the collectors and shows progress on a terminal."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._done = 0
        self._shows = sys.stderr.isatty()

    @pytest.hookimpl(trylast=True)  # the terminal reporter registers itself in the same hook
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[nodes.RUN] = self._run
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            config.pluginmanager.unregister(reporter)

    def pytest_runtest_logfinish(self) -> None:
        self._done += 1
        total = len(self._run.cases)
        if self._shows and (self._done % 25 == 0 or self._done == total):
            end = "\r" + " " * 40 + "\r" if self._done == total else ""
            sys.stderr.write(f"\rjudged {self._done} of {total} cases{end}")
            sys.stderr.flush()


def check(run: Run, *, junit: str | None = None) -> Report:
    """Judge every case of the run and put the report together. Raises Interrupted on Ctrl-C.

    A case that pytest did not reach has no verdict and counts as not-evaluated: a broken runner cannot be green.
    """
    root = run.root
    argv = [
        str(root),
        f"--rootdir={root}",
        "-c",
        str(INI),
        "--noconftest",
        f"--releasegate={root}",
        *("-p", "releasegate.plugin"),
        *(option for name in NEEDLESS for option in ("-p", f"no:{name}")),
        "--capture=no",
        *([f"--junitxml={Path(junit).absolute()}"] if junit else []),
    ]
    with _quiet_environment():
        code = pytest.main(argv, plugins=[_Preset(run)])
    if code == pytest.ExitCode.INTERRUPTED:
        raise Interrupted
    return run.finish()


@contextmanager
def _quiet_environment() -> Iterator[None]:
    """No option and no plugin of pytest comes from the environment while the check runs."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PYTEST_")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        os.environ.update(kept)
