"""Where the programs come from: found in RELEASEGATE_TOOLS, the cache or PATH, and put into the cache by `install`.

What exists, at which version and with which sums is `tools.lock.toml` beside this file. Nothing here prints.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import mmap
import os
import platform
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import platformdirs

from releasegate import process
from releasegate.model import ToolIdentity

RECORD = "tool.json"
_VERSION = re.compile(r"(?<![\w.])v?(\d+)\.(\d+)(?:\.(\d+))?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?(?![\w.])")
_ASK = process.Limits(seconds=10, output_bytes=1 << 20)


class UnknownTool(ValueError):
    """A name that is not in the lock was to be installed: a mistake of whoever typed it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that may judge: found, in its supported range, at the pinned version if one is pinned."""

    identity: ToolIdentity

    @property
    def path(self) -> Path:
        """The program, absolute."""
        return Path(self.identity.path)


@dataclass(frozen=True, slots=True)
class ToolMissing:
    """No usable program. `reason` says what was looked at, `remedy` is the command that mends it."""

    name: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        """One sentence for a person."""
        return f"{self.name}: {self.reason} (run `{self.remedy}`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An official archive: a URL below `base`, the program inside it, and the sha256 of it per "os-arch"."""

    base: str
    url: str
    member: str
    sha256: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """What the lock knows of a version that is not the locked one."""

    sum: str
    go: str
    sha256: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One table of tools.lock.toml; the file says what each key means."""

    name: str
    version: str
    supported: str = ""
    module: str = ""
    module_version: str = ""
    sum: str = ""
    go: str = "1.0"
    ldflags: str = ""
    asks: tuple[str, ...] = ("--version",)
    after: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    links: str = ""
    toolchain: bool = False
    optional: bool = False
    wheel: str = ""
    wheel_sha256: tuple[str, ...] = ()
    archive: Archive | None = None
    others: Mapping[str, Other] = field(default_factory=dict)

    def at(self, version: str) -> Entry:
        """The entry of another version: with the sums of the lock where it has them, else of the Go module only.

        Of a version without sums Go's checksum database is the only voucher, so that no archive of it is taken.
        """
        if version == self.version:
            return self
        other = self.others.get(version)
        if other is None:
            return replace(self, version=version, sum="", archive=None)
        archive = replace(self.archive, sha256=other.sha256) if self.archive else None
        return replace(self, version=version, sum=other.sum, go=other.go, archive=archive)

    def filled(self, text: str) -> str:
        """`text` with {version} and its parts {major}, {minor}, {patch}, {source}, {platform} ("linux-amd64") replaced."""
        _, minor, patch = _numbers(self.version) or (0, 0, 0)
        return text.format(
            version=self.version,
            major=self.version.partition(".")[0],
            minor=minor,
            patch=patch,
            source=_source_sha256(self.source)[:12] if self.source else "",
            platform=platform_name(),
        )

    @property
    def full_version(self) -> str:
        """The version an identity carries: with the hash of the source for what is built from this package."""
        return self.filled("{version}+{source}") if self.source else self.version


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `tools list`: the locked version, and what is there."""

    name: str
    version: str
    found: Tool | ToolMissing


@dataclass(frozen=True, slots=True)
class _Refused:
    """A program that is there and may not be used."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class _BuildInfo:
    """What a Go program says about itself: its package path, main module version and sum, and its dependencies."""

    path: str
    version: str
    sum: str
    dependencies: Mapping[str, str] = field(default_factory=dict)


def cache_folder() -> Path:
    """Return the folder below which `<name>/<version>/` hold what `install` made (XDG_CACHE_HOME is honoured)."""
    return Path(platformdirs.user_cache_dir("releasegate")) / "tools"


@functools.cache
def locked() -> Mapping[str, Entry]:
    """Return the table of programs, by name, in the order of the file."""
    text = resources.files(__package__).joinpath("tools.lock.toml").read_text("utf-8")
    entries = {}
    for name, table in tomllib.loads(text).items():
        archive = table.pop("archive", None)
        table["asks"] = tuple(table.get("asks", ("--version",)))
        table["tags"] = tuple(table.get("tags", ()))
        table["wheel_sha256"] = tuple(table.get("wheel_sha256", ()))
        table["others"] = {version: Other(**other) for version, other in table.get("others", {}).items()}
        entries[name] = Entry(name=name, archive=Archive(**archive) if archive else None, **table)
    return entries


def platform_name() -> str:
    """Name this machine as Go and the archives do: "linux-amd64"."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


@functools.cache
def _source_sha256(folder: str) -> str:
    """Hash the source that ships in this package: name and content of each file, sorted."""
    digest = hashlib.sha256()
    for file in sorted(resources.files(__package__).joinpath(folder).iterdir(), key=lambda file: file.name):
        if file.is_file():
            content = file.read_bytes()
            digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def find(name: str, *, pinned: str | None = None, why: str = "") -> Tool | ToolMissing:
    """Find the program `name`: in the folder RELEASEGATE_TOOLS, else in the cache, else the first on PATH.

    It must be in its supported range, and be exactly `pinned` where that is given; `why` then says who wants that
    version. A program in RELEASEGATE_TOOLS is what somebody said to use: one that does not fit there is refused, not
    passed over. Its identity is the record that
    `install` wrote, else the Go build info in the binary, else what it prints. Never raises for what is on disk.
    """
    entry = locked().get(name)
    if entry is None or entry.toolchain:
        return ToolMissing(name, "releasegate knows no such tool", "releasegate tools list")
    remedy = f"releasegate tools install {name}" + (f"@{pinned}" if pinned not in {None, entry.version} else "")
    refused: list[str] = []
    for path, origin in _candidates(entry, pinned):
        found = _identify(entry, path, origin, pinned)
        if isinstance(found, Tool):
            return found
        refused.append(f"{found.path} {found.reason}")
        if origin == "folder":
            break
    reason = "; ".join(refused) or "not found in RELEASEGATE_TOOLS, the tool cache or PATH"
    return ToolMissing(name, f"{reason}; {why}" if why else reason, remedy)


def wanted(pins: Mapping[str, str]) -> list[str]:
    """Name what a repo needs, for `install`: every program at its pinned version ("helm@3.18.4") or the locked one.

    The render worker links the locked Helm and is of no use beside another.
    """
    names = []
    for entry in locked().values():
        idle = entry.links and pins.get(entry.after, entry.version) != entry.version
        if not entry.toolchain and not entry.optional and not idle:
            names.append(f"{entry.name}@{pins[entry.name]}" if entry.name in pins else entry.name)
    return names


def listing(pins: Mapping[str, str] | None = None) -> tuple[Row, ...]:
    """Return a row per program, in the order of the lock; `pins` are the versions a config pins."""
    pins = pins or {}
    return tuple(
        Row(entry.name, entry.version, find(entry.name, pinned=pins.get(entry.name)))
        for entry in locked().values()
        if not entry.toolchain
    )


_Origin = Literal["folder", "cache", "path"]


def _candidates(entry: Entry, pinned: str | None) -> Iterator[tuple[Path, _Origin]]:
    """The files that may be the program, best first."""
    told = os.environ.get("RELEASEGATE_TOOLS")
    # A relative folder would be looked up in the tree that is judged.
    if told and Path(told).is_absolute() and (Path(told) / entry.name).exists():
        yield Path(told) / entry.name, "folder"
    kept = cache_folder() / entry.name
    wanted = entry.full_version if pinned in {None, entry.version} else pinned
    if wanted and (kept / wanted / entry.name).exists():
        yield kept / wanted / entry.name, "cache"
    if entry.source:
        return  # of our own making: never from PATH
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder, entry.name)
        if path.is_absolute() and path.is_file() and os.access(path, os.X_OK):
            yield path, "path"
            return


def kept(entry: Entry) -> Tool | ToolMissing:
    """Return the program of exactly this entry from the cache, whole and unchanged since it was installed."""
    path = cache_folder() / entry.name / entry.full_version / entry.name
    if not path.exists():
        return ToolMissing(entry.name, f"{path} does not exist", f"releasegate tools install {entry.name}")
    found = _identify(entry, path, "cache", None if entry.source else entry.version)
    if isinstance(found, Tool):
        return found
    return ToolMissing(entry.name, f"{found.path} {found.reason}", f"releasegate tools install {entry.name}")


def install(names: Sequence[str], *, progress: Callable[[str], None]) -> list[Tool | ToolMissing]:
    """Have the named programs in the cache, without names all; see `releasegate.tools.install`.

    Raises UnknownTool for a name that is not in the lock, before anything is done.
    """
    from releasegate.tools import install as installing  # noqa: PLC0415 -- a check never needs it

    return installing.install(names, progress=progress)


def _identify(entry: Entry, path: Path, origin: _Origin, pinned: str | None) -> Tool | _Refused:
    """Say what the program at `path` is, or why it may not be used."""
    try:
        path = path.resolve(strict=True)
        known = _facts(entry, path, path.stat(), trust_disk=origin != "cache" or "CI" not in os.environ)
    except (OSError, ValueError) as error:
        return _Refused(path, f"cannot be read: {error}")
    if origin == "cache":
        record = _record(path.parent)
        if record is None or record.get("name") != entry.name:
            return _Refused(path, "has no record of its installation")
        if record["sha256"] != known.sha256:
            return _Refused(path, "is not what was installed: its sha256 differs")
        version, made = record["version"], record["origin"]
    else:
        version, made = known.version, "path"
    if not version:
        return _Refused(path, f"does not say its version: {known.problem}")
    if entry.source:
        if version != entry.full_version:
            return _Refused(path, f"is {version}, not built from the source of this releasegate")
    elif pinned is not None and version != pinned:
        return _Refused(path, f"is {version}, the config pins {pinned}")
    elif not in_range(version, entry.supported):
        return _Refused(path, f"is {version}, supported is {entry.supported}")
    return Tool(ToolIdentity(name=entry.name, version=version, origin=made, sha256=known.sha256, path=str(path)))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a file is: its sha256, and its version or why there is none."""

    sha256: str
    version: str
    problem: str


_known: dict[str, _Facts] = {}


def _facts(entry: Entry, path: Path, status: os.stat_result, *, trust_disk: bool) -> _Facts:
    """Hash and question a file once per content: 0.2 s for helm's 80 MB, so that it is remembered across runs too.

    The key holds everything that changes when the content does (size, mtime, ctime, inode). `trust_disk` False:
    hash anew (in CI, for what a carried cache brought).
    """
    stamp = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
    key = f"{entry.name}:{path}:{stamp}"
    if key in _known:
        return _known[key]
    remembered = cache_folder() / ".known" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if trust_disk:
        with contextlib.suppress(OSError, ValueError, TypeError):
            facts = _Facts(**json.loads(remembered.read_text("utf-8")))
            if re.fullmatch(r"[0-9a-f]{64}", facts.sha256):
                return _known.setdefault(key, facts)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    version, problem = _version(entry, path)
    facts = _Facts(sha256, version, problem)
    _known[key] = facts
    if version:
        with contextlib.suppress(OSError):  # a read-only home: only slower
            _write(remembered, json.dumps({"sha256": sha256, "version": version, "problem": ""}))
    return facts


def _version(entry: Entry, path: Path) -> tuple[str, str]:
    """Return (version, "") of the program, or ("", why there is none)."""
    if entry.module:
        info = build_info(path)
        package = re.escape(entry.module).replace(re.escape("{major}"), r"\d+")
        if info is not None and re.fullmatch(package, info.path) is None:
            return "", f"it is another program, {info.path}"
        if info is not None and _VERSION.fullmatch(info.version):
            version = _of_module(entry, info.version.removeprefix("v").removesuffix("+incompatible"))
            if version is not None:
                return version, ""
    with tempfile.TemporaryDirectory(prefix="releasegate-") as folder:
        said = process.run([str(path), *entry.asks], cwd=Path(folder), limits=_ASK)
    if isinstance(said, process.NotStarted):
        return "", said.reason
    command = " ".join([entry.name, *entry.asks])
    if isinstance(said, process.Stopped):
        return "", f"`{command}` {said.reason}"
    if said.returncode != 0:
        return "", f"`{command}` ended with exit code {said.returncode}"
    match = _VERSION.search(said.stdout.decode(errors="replace"))
    if match is None:
        return "", f"`{command}` printed no version"
    version = match.group().removeprefix("v")
    # helm adds "+g<commit>"; our own worker's suffix is part of what it is.
    return (version if entry.source else version.partition("+")[0]), ""


def _of_module(entry: Entry, version: str) -> str | None:
    """Return the program's version for its module's: 3.16.0 of Prometheus is the module's 0.316.0; None: not told."""
    if not entry.module_version:
        return version
    pattern = re.escape(entry.module_version)
    for part, digits in (("{major}", r"\d"), ("{minor:02}", r"\d\d"), ("{patch}", r"\d+")):
        pattern = pattern.replace(re.escape(part), f"(?P<{part[1:6]}>{digits})")
    found = re.fullmatch(pattern, version)
    if found is None:
        return None
    parts = found.groupdict()
    return f"{parts['major']}.{int(parts['minor'])}.{parts['patch']}" if len(parts) == len("123") else entry.version


def in_range(version: str, supported: str) -> bool:
    """Tell whether `version` ("4.3.1") is in `supported` (">=3.14,<5"); a pre-release counts as its release."""
    numbers = _numbers(version)
    compare = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b}
    for part in filter(None, supported.split(",")):
        operator = ">=" if part.startswith(">=") else "<"
        if numbers is None or not compare[operator](numbers, _numbers(part.removeprefix(operator))):
            return False
    return True


def _numbers(version: str) -> tuple[int, int, int] | None:
    match = _VERSION.fullmatch(version if "." in version else f"{version}.0")
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def build_info(path: Path) -> _BuildInfo | None:
    """Read the Go build info inside a program, as `go version -m` does; None where there is none.

    Format: debug/buildinfo of Go 1.18 and later: 14 bytes of magic on a 16 byte boundary, a pointer size, flags
    (2: strings are inline), padding to 32 bytes, then two varint-prefixed strings: Go's version and the module table
    between two sentinels of 16 bytes.
    """
    magic, inline, header, sentinel, boundary = b"\xff Go buildinf:", 2, 32, 16, 16
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(magic)
            while at >= 0:
                if at % boundary == 0 and data[at + 15] & inline:
                    _, after = _varint_string(data, at + header)
                    table, _ = _varint_string(data, after)
                    if len(table) > 2 * sentinel and b"\npath\t" in b"\n" + table[sentinel : sentinel + 8]:
                        return _build_info(table[sentinel:-sentinel].decode("utf-8"))
                at = data.find(magic, at + 1)
    except (OSError, ValueError, IndexError):
        pass
    return None


def _varint_string(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    length = shift = 0
    while True:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 -- the last byte of a varint has its top bit clear
            return data[at : at + length], at + length
        shift += 7


def _build_info(table: str) -> _BuildInfo:
    path, main, dependencies = "", ("", ""), {}
    for line in table.splitlines():
        kind, *rest = line.split("\t")
        if kind == "path" and rest:
            path = rest[0]
        elif kind == "mod" and len(rest) >= 2:  # noqa: PLR2004 -- mod, version[, sum]
            main = (rest[1], rest[2] if len(rest) > 2 else "")  # noqa: PLR2004
        elif kind == "dep" and len(rest) >= 2:  # noqa: PLR2004
            dependencies[rest[0]] = rest[1]
    return _BuildInfo(path, *main, dependencies)


def _record(folder: Path) -> dict[str, Any] | None:
    """Read what `install` wrote beside a program; None unless it is whole."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    keys = ("name", "version", "origin", "sha256")
    return record if isinstance(record, dict) and all(isinstance(record.get(key), str) for key in keys) else None


def _write(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
