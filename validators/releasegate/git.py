"""What git knows: trees (work tree, index, commit) as plain files, and what changed.

The git program answers, started through `process`, without anybody's configuration, hooks, pagers, prompts or lazy
fetches, and never with text from outside where git could read an option: a ref is resolved once to its hash, all
later calls see hashes only. Files are copied out of the object store byte by byte (no filters, no line-ending
conversion, no export attributes), which is what Argo CD's checkout of a plain repository has.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from releasegate import process
from releasegate.model import Tree

_SHORT = 9  # digits of a hash in messages
_BATCH_BYTES = 32 << 20
_FILE_BYTES = 512 << 20
_LIMITS = process.Limits(seconds=120, output_bytes=256 << 20, memory_bytes=None)
_REGULAR, _EXECUTABLE, _SYMLINK, _SUBMODULE = b"100644", b"100755", b"120000", b"160000"
_OPTIONS = (
    "--no-pager",
    "--no-optional-locks",  # `status` would write the index
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=",  # a command of the repository's configuration
    "-c", "core.untrackedCache=false",
    "-c", "core.quotePath=false",
    "-c", "core.attributesFile=/dev/null",
    "-c", "diff.external=",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "protocol.allow=never",
    "-c", "safe.bareRepository=explicit",  # one committed into the tree brings its own configuration
    "-c", "submodule.recurse=false",
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # refs/replace would show other content than the hash says
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}


class GitError(Exception):
    """git could not be run, or refused to answer something that it must know."""


def top(root: Path) -> Path | None:
    """Return the top of the work tree that `root` is in; None outside git (then no git program is needed)."""
    root = root.resolve()
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return None
    said = _run(root, ["rev-parse", "--show-toplevel"])
    if said.returncode == 0:
        return Path(os.fsdecode(said.stdout.removesuffix(b"\n")))
    if b"not a git repository" in said.stderr or b"must be run in a work tree" in said.stderr:
        return None
    raise _error(["rev-parse"], said)


def work_tree(root: Path) -> Tree:
    """Return the files below `root` as they are on disk: tracked ones, and untracked ones that are not ignored.

    Outside git, and where `root` is itself ignored by the repository around it, all files but those in `.git`.
    Files that are gone, folders, submodules and devices are not in it; symbolic links are, as links.
    """
    root = root.resolve()
    above = top(root)
    if above is None:
        return Tree(root=str(root), files=tuple(sorted(_walk(root))))
    listed = _names(_git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    # check-ignore refuses to work with literal pathspecs.
    ignored = ["check-ignore", "--quiet", "--", str(root)]
    if not listed and _run(root, ignored, env={"GIT_LITERAL_PATHSPECS": "0"}).returncode == 0:
        return Tree(root=str(root), files=tuple(sorted(_walk(root))))
    return Tree(
        root=str(root),
        files=tuple(sorted(name for name in set(listed) if _is_file(root / name))),
        head=resolve(root, "HEAD"),
        branch=_branch(root),
        remotes=_remotes(root),
        prefix=_prefix(root, above),
    )


def _prefix(root: Path, above: Path | None) -> str:
    """Where `root` is inside its work tree: "" at the top."""
    inside = "" if above is None else os.path.relpath(root.resolve(), above.resolve())
    return "" if inside == os.curdir else inside


def index_tree(root: Path, into: Path) -> Tree:
    """Copy the staged files below `root` into the empty folder `into`. GitError outside git and for an unmerged index."""
    entries = []
    for line in _git(root, "ls-files", "-z", "--stage").split(b"\0"):
        if line:
            facts, _, name = line.partition(b"\t")
            mode, blob, stage = facts.split(b" ")
            if stage != b"0":
                raise GitError(f"{os.fsdecode(name)} is unmerged: finish the merge, then stage it")
            entries.append(_Entry(mode, blob, os.fsdecode(name)))
    files = _copy(root, entries, into)
    return Tree(
        root=str(into.resolve()),
        files=files,
        head=resolve(root, "HEAD"),
        branch=_branch(root),
        remotes=_remotes(root),
        prefix=_prefix(root, top(root)),
        ref="index",
    )


def commit_tree(root: Path, revision: str, into: Path) -> Tree | None:
    """Copy the files that `revision` has below `root` into the empty folder `into`; None if git does not have it."""
    sha = resolve(root, revision)
    if sha is None:
        return None
    entries = []
    for line in _git(root, "ls-tree", "-r", "-z", sha).split(b"\0"):
        if line:
            facts, _, name = line.partition(b"\t")
            mode, _, blob = facts.split(b" ")
            entries.append(_Entry(mode, blob, os.fsdecode(name)))
    files = _copy(root, entries, into)
    return Tree(
        root=str(into.resolve()),
        files=files,
        revision=sha,
        head=resolve(root, "HEAD"),
        remotes=_remotes(root),
        prefix=_prefix(root, top(root)),
        ref=sha[:_SHORT],
    )


def resolve(root: Path, ref: str) -> str | None:
    """Return the full hash of the commit that `ref` names, None if there is none (or no git here)."""
    if top(root) is None or "\0" in ref:
        return None
    said = _run(root, ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"])
    sha = said.stdout.strip()
    if said.returncode == 0 and len(sha) in {40, 64} and all(digit in b"0123456789abcdef" for digit in sha):
        return sha.decode("ascii")
    return None


def is_dirty(root: Path) -> bool:
    """Tell whether anything below `root` differs from HEAD: changed, staged, deleted, or untracked and not ignored."""
    return bool(_git(root, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--", "."))


def changed_files(root: Path, *, staged: bool = False, since: str | None = None) -> tuple[str, ...]:
    """Return the files below `root` (relative to it, sorted) that differ from the commit `since`, by default HEAD.

    With `staged` it is the index that is compared, else the work tree with its untracked files. Deleted files are
    named, a renamed one under both names. GitError for a `since` that is no commit, and outside git.
    """
    base = resolve(root, since or "HEAD")
    if base is None:
        if since is not None or top(root) is None:
            raise GitError(f"{since or root} is no commit here")
        base = (
            _git(root, "hash-object", "-t", "tree", "--stdin").decode("ascii").strip()
        )  # no commit yet: the empty tree
    compared = ["--cached"] if staged else []
    options = ["-z", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "--relative", "--no-color"]
    with _private_index(root) as index:
        names = _names(_git(root, "diff", *compared, *options, base, "--", ".", env=index))
    if not staged:
        names += _names(_git(root, "ls-files", "-z", "--others", "--exclude-standard"))
    return tuple(sorted(set(names)))


@contextlib.contextmanager
def _private_index(root: Path) -> Iterator[dict[str, str]]:
    """A copy of the index: `git diff` refreshes the one it is given, on disk."""
    index = root / os.fsdecode(_git(root, "rev-parse", "--git-path", "index").removesuffix(b"\n"))
    with tempfile.TemporaryDirectory(prefix="releasegate-git-") as folder:
        copy = Path(folder) / "index"
        if index.exists():
            shutil.copy2(index, copy)  # with its time: git compares contents of what is not older than the index
        yield {"GIT_INDEX_FILE": str(copy)}


# --- copying ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of a commit or of the index."""

    mode: bytes
    blob: bytes
    name: str


def _copy(root: Path, entries: Sequence[_Entry], into: Path) -> tuple[str, ...]:
    """Write the entries below `into`; returns their names, sorted.

    Links come last: while files are written there is nothing that a crafted tree could lead them through.
    """
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise GitError(f"{into} is not empty")
    by_blob: dict[bytes, list[_Entry]] = {}
    for entry in entries:
        if entry.mode != _SUBMODULE:
            by_blob.setdefault(entry.blob, []).append(entry)
            _refuse_unsafe(entry.name)
    links: list[tuple[_Entry, bytes]] = []
    for blob, content in _contents(root, list(by_blob)):
        for entry in by_blob[blob]:
            if entry.mode == _SYMLINK:
                links.append((entry, content))
            else:
                _write(entry, content, into)
    for entry, target in links:
        _write(entry, target, into)
    return tuple(sorted(entry.name for entry in entries if entry.mode != _SUBMODULE))


def _refuse_unsafe(name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or not parts or {"..", ".git"} & {part.lower() for part in parts}:
        raise GitError(f"the tree holds a file that no checkout may have: {name!r}")


def _write(entry: _Entry, content: bytes, into: Path) -> None:
    path = into / entry.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.mode == _SYMLINK:
            path.symlink_to(os.fsdecode(content))
            return
        with path.open("xb") as file:
            file.write(content)
        if entry.mode == _EXECUTABLE:
            path.chmod(0o755)
    except (OSError, ValueError) as error:
        raise GitError(f"{entry.name!r} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _contents(root: Path, blobs: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield (blob, content) for each, read in batches of bounded size."""
    batch: list[bytes] = []
    size = 0
    for blob, length in _sizes(root, blobs):
        if length > _FILE_BYTES:
            raise GitError(f"a file of {length >> 20} MiB is in the tree; {_FILE_BYTES >> 20} MiB is the most")
        if batch and size + length > _BATCH_BYTES:
            yield from _batch(root, batch, size)
            batch, size = [], 0
        batch.append(blob)
        size += length
    if batch:
        yield from _batch(root, batch, size)


def _sizes(root: Path, blobs: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    if not blobs:
        return
    answers = _git(root, "cat-file", "--batch-check", stdin=b"\n".join(blobs) + b"\n").splitlines()
    for blob, answer in zip(blobs, answers, strict=True):
        if answer.endswith(b" missing"):
            raise GitError(f"git does not have {blob.decode()} (a partial clone?): run `git fetch --refetch`")
        yield blob, int(answer.split(b" ")[2])


def _batch(root: Path, blobs: Sequence[bytes], size: int) -> Iterator[tuple[bytes, bytes]]:
    output = _git(
        root, "cat-file", "--batch", stdin=b"\n".join(blobs) + b"\n", output_bytes=size + 256 * len(blobs) + 4096
    )
    at = 0
    for blob in blobs:
        end = output.index(b"\n", at)
        length = int(output[at:end].split(b" ")[2])
        yield blob, output[end + 1 : end + 1 + length]
        at = end + 1 + length + 1


# --- asking -------------------------------------------------------------------------------------------------------


def _branch(root: Path) -> str | None:
    said = _run(root, ["symbolic-ref", "--quiet", "--short", "HEAD"])
    return os.fsdecode(said.stdout.removesuffix(b"\n")) if said.returncode == 0 else None


def _remotes(root: Path) -> tuple[str, ...]:
    """The remote URLs as the repository's configuration writes them, in its order."""
    said = _run(root, ["config", "--null", "--get-regexp", r"^remote\..*\.url$"])
    urls = [line.partition("\n")[2] for line in os.fsdecode(said.stdout).split("\0") if line]
    return tuple(dict.fromkeys(urls))


def _names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _is_file(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _walk(root: Path) -> Iterable[str]:
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name != ".git" and name not in links)
        for name in (*files, *links):
            path = Path(folder) / name
            if name != ".git" and _is_file(path):
                yield path.relative_to(root).as_posix()


def _git(
    root: Path,
    *arguments: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    output_bytes: int | None = None,
) -> bytes:
    """Ask git something that must work; returns its stdout."""
    said = _run(root, arguments, stdin=stdin, env=env, output_bytes=output_bytes)
    if said.returncode != 0:
        raise _error(arguments, said)
    return said.stdout


def _run(
    root: Path,
    arguments: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    output_bytes: int | None = None,
) -> process.Completed:
    """Run git in `root`; whatever code it ends with is the caller's. GitError when it does not end by itself."""
    environment = {**_ENVIRONMENT, **(env or {})}
    if "SUDO_UID" in os.environ:
        environment["SUDO_UID"] = os.environ["SUDO_UID"]  # git trusts the folders of who called sudo
    limits = _LIMITS if output_bytes is None else replace(_LIMITS, output_bytes=output_bytes)
    more: Sequence[str] = ()
    while True:
        argv = [_program(), *_OPTIONS, *more, "-C", str(root), *arguments]
        said = process.run(argv, cwd=Path("/"), env=environment, stdin=stdin, limits=limits)
        if not isinstance(said, process.Completed):
            raise GitError(f"git {arguments[0]} in {root}: {said.reason}")
        if more or said.returncode == 0 or b"dubious ownership" not in said.stderr:
            return said
        # Somebody else's checkout (a container): the user's own configuration says whether it is trusted.
        more = _trusted_folders()
        if not more:
            return said


@functools.cache
def _trusted_folders() -> tuple[str, ...]:
    """The `safe.directory` entries of the user's and the system's configuration, as options."""
    environment = {
        name: os.environ[name] for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL") if name in os.environ
    }
    argv = [_program(), "config", "--null", "--get-all", "safe.directory"]
    said = process.run(argv, cwd=Path("/"), env=environment, limits=_LIMITS)
    if not isinstance(said, process.Completed):
        return ()
    return tuple(option for folder in _names(said.stdout) for option in ("-c", f"safe.directory={folder}"))


def _program() -> str:
    found = shutil.which("git")
    if found is None or not Path(found).is_absolute():
        raise GitError("git is not on PATH: install git")
    return found


def _error(arguments: Sequence[str], said: process.Completed) -> GitError:
    lines = said.stderr.decode(errors="replace").strip().splitlines()
    detail = next((line for line in lines if line.startswith("fatal: ")), lines[0] if lines else "it said nothing")
    return GitError(f"git {arguments[0]}: {detail.removeprefix('fatal: ')}")
