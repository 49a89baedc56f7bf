"""docs/writing-a-rule.md is followed to the letter: its files are written, its commands run, their output compared.

A fenced block after a line that names a file in backticks at its end is that file. In a `console` block a line that
begins with `$ ` is a command; the lines after it are parts of what it prints, in any order; `exit N` is its exit code, else
0 (a failing pytest says so with "failed").
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from releasegate.tools import store

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "writing-a-rule.md"
_BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`(?P<path>[\w./-]+\.\w+)`:$")


def _blocks() -> Iterator[tuple[str, str, str]]:
    """(kind, the line before, text) of each fenced block."""
    for found in _BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        yield found["kind"], found["before"], found["text"]


def _compose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compose", ROOT / "fixtures" / "compose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _venv(folder: Path) -> dict[str, str]:
    """An environment of the reader's own, above ours, so that what the page installs stays there."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    ours = sysconfig.get_path("purelib")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Not the path alone: the .pth files in it count too (an editable releasegate is one).
    (folder / "lib" / version / "site-packages" / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    script = folder / "bin" / "releasegate"
    script.write_text(f"#!{folder}/bin/python\nfrom releasegate.cli import main\nmain()\n")
    script.chmod(0o755)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PIP_")) and name != "CI"
    }
    return {
        **kept,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "RELEASEGATE_CACHE": str(folder / "cache"),
        "COLUMNS": "200",
        # What the page installs needs a build backend and releasegate; both are here, and no test asks the network.
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the option's value: no isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def test_the_tutorial_does_what_it_says(helm: store.Tool, tmp_path: Path) -> None:
    assert isinstance(store.find("conftest"), store.Tool), "run `make setup`"
    compose = _compose()
    root = compose.compose(compose.REPOS / "shop", tmp_path / "config")
    compose.commit(root)
    environment = _venv(tmp_path / "venv")
    folder = root
    ran = written = 0
    for kind, before, text in _blocks():
        if kind != "console":
            named = _NAMED.search(before)
            assert named is not None, f"which file is this? {before!r}"
            assert (folder / named["path"]).is_file(), f"new-rule did not write {named['path']}"
            (folder / named["path"]).write_text(text, encoding="utf-8")
            written += 1
            continue
        for command, *expected in _commands(text):
            folder = _run(command, expected, folder, environment)
            ran += 1
    assert ran == sum(line.startswith("$ ") for line in PAGE.read_text(encoding="utf-8").splitlines())
    assert written == 5


def _commands(text: str) -> Iterator[list[str]]:
    """A command and the lines after it."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            if lines:
                yield lines
            lines = [line.removeprefix("$ ")]
        else:
            assert lines, f"output without a command: {line}"
            lines.append(line)
    yield lines


def _run(command: str, expected: list[str], folder: Path, environment: dict[str, str]) -> Path:
    """Run one command, compare, and return the folder that the shell is in then."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    output = done.stdout + done.stderr
    code = next((int(line.removeprefix("exit ")) for line in expected if re.fullmatch(r"exit \d", line)), None)
    if code is None:
        code = int(any(re.search(r"\d failed", line) for line in expected))
    assert done.returncode == code, f"$ {command}\n{output}"
    for line in expected:
        assert line in output, f"$ {command}\n{line!r} not in:\n{output}"
    return folder / command.removeprefix("cd ") if command.startswith("cd ") else folder
