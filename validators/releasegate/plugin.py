"""pytest: hooks only, no logic.

Plain pytest runs the cases where rootdir holds a releasegate.toml, or with `--releasegate ROOT`; anywhere else this
plugin does nothing, and importing it costs nothing: everything else of the package is imported on use.
That form is for people at their desk. The required check is `releasegate check`, which starts pytest hardened.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

CONFIG_FILE = "releasegate.toml"
_CLOSE: pytest.StashKey[contextlib.ExitStack] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one option of plain pytest."""
    group = parser.getgroup("releasegate", "releasegate: judge a GitOps config repo")
    group.addoption(
        "--releasegate",
        metavar="ROOT",
        default=None,
        help=f"judge the config repo at ROOT (default: rootdir, where it holds a {CONFIG_FILE})",
    )


def _root(config: pytest.Config) -> Path | None:
    given = config.getoption("--releasegate")
    if given is not None:
        return Path(config.invocation_params.dir, given).resolve()
    root: Path = config.rootpath
    return root if (root / CONFIG_FILE).is_file() else None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Where there is a config repo: make its root an argument, and keep ids of a file that does not exist."""
    root = _root(config)
    if root is None:
        return
    from releasegate import nodes  # noqa: PLC0415 - nothing is imported where there is no config repo

    config.stash[_CLOSE] = contextlib.ExitStack()
    if not (root / CONFIG_FILE).is_file():
        only = {arg for arg in config.args if arg.startswith(f"{CONFIG_FILE}::")}
        config.stash[nodes.ONLY] = frozenset(only)
        config.args[:] = [arg for arg in config.args if arg not in only]
        if only or str(root) not in config.args:
            config.args.append(str(root))
    elif config.args_source is not pytest.Config.ArgsSource.ARGS or config.getoption("--releasegate") is not None:
        chosen = any(CONFIG_FILE in arg for arg in config.args)
        walked = config.args_source is pytest.Config.ArgsSource.INVOCATION_DIR and root.is_relative_to(
            config.invocation_params.dir
        )
        if not chosen and not walked:
            config.args.append(str(root / CONFIG_FILE))


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A root without releasegate.toml, and every root of the hardened check, is the gate and nothing else."""
    config = parent.config
    if config.stash.get(_CLOSE, None) is None or path != _root(config):
        return None
    hardened = config.getoption("noconftest", default=False)
    if hardened or not (path / CONFIG_FILE).is_file():
        from releasegate import nodes  # noqa: PLC0415

        return nodes.GateDirectory.from_parent(parent, path=path)
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect ROOT/releasegate.toml, and no other file of that name."""
    config = parent.config
    if file_path.name != CONFIG_FILE or config.stash.get(_CLOSE, None) is None:
        return None
    root = _root(config)
    if root is None or file_path != root / CONFIG_FILE:
        return None
    from releasegate import nodes  # noqa: PLC0415

    return nodes.GateFile.from_parent(parent, path=file_path)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Discover, where the gate is among what is collected; wrong use and wrong config are usage errors (exit code 4)."""
    config = session.config
    root = _root(config)
    if root is None or not any(_covers(config, arg, root) for arg in config.args):
        return
    from releasegate import config as configuration  # noqa: PLC0415
    from releasegate import git, nodes, run, usage  # noqa: PLC0415

    if nodes.RUN in config.stash:
        return
    try:
        config.stash[nodes.RUN] = config.stash[_CLOSE].enter_context(run.open_run(root))
    except (usage.UsageError, configuration.ConfigError, git.GitError) as error:
        raise pytest.UsageError(str(error)) from None


def _covers(config: pytest.Config, arg: str, root: Path) -> bool:
    """The argument is the gate file, or a folder that holds it."""
    path = Path(config.invocation_params.dir, arg.split("::", maxsplit=1)[0]).resolve()
    return (root / CONFIG_FILE).is_relative_to(path)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the renders of the selected items before the first item runs."""
    if session.config.stash.get(_CLOSE, None) is None:
        return
    from releasegate import nodes  # noqa: PLC0415

    run = session.config.stash.get(nodes.RUN, None)
    if run is not None and not session.config.option.collectonly:
        run.start([item.case for item in session.items if isinstance(item, nodes.CaseItem)])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what the run started."""
    stack = config.stash.get(_CLOSE, None)
    if stack is not None:
        stack.close()
