"""`make bench [REPO=dir]`: releasegate against what people write, both in one run, turn by turn.

Only ratios are worth comparing between machines; each ratio is the median over rounds of (releasegate / the other) of
that round, so that a slow minute slows both. "the other" is benchmarks/pipeline.sh, which caches nothing, and for plain
manifests kubeconform. Peak memory is the largest sum of resident memory over the process and all its descendants.

Cold: no render has ever been kept (a fresh RELEASEGATE_CACHE); programs and schemas are in place on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import generate

from releasegate import run
from releasegate.model import HelmSource, Release
from releasegate.tools import store

HERE = Path(__file__).resolve().parent
PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY_SECONDS = 0.05
FINISHED = {0, 1, 2}  # a verdict; anything else is no measurement
KUBERNETES = "1.37"


@dataclass(frozen=True)
class Measured:
    """One process from start to end: wall clock, peak memory of its whole tree, exit code, what it printed last."""

    seconds: float
    megabytes: float
    code: int
    tail: str


@dataclass
class Row:
    """One line of the table: seconds per round on both sides. `other` is empty where there is nothing to compare."""

    what: str
    ours: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    megabytes: float = 0
    note: str = ""

    def add(self, ours: Measured, other: Measured | None = None) -> None:
        """Add one round."""
        self.ours.append(ours.seconds)
        self.megabytes = max(self.megabytes, ours.megabytes)
        if other is not None:
            self.other.append(other.seconds)

    @property
    def ratio(self) -> float | None:
        """The median over the rounds of ours / other."""
        return statistics.median(a / b for a, b in zip(self.ours, self.other, strict=True)) if self.other else None


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text(encoding="ascii").split():
                yield from _descendants(int(child))
        except OSError:
            continue


def _resident(pid: int) -> float:
    total = 0
    for one in _descendants(pid):
        try:
            total += int(Path(f"/proc/{one}/statm").read_text(encoding="ascii").split()[1]) * PAGE
        except (OSError, IndexError):
            continue
    return total / 1e6


def measure(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Measured:
    """Run `argv` once, its output into a file. Stops the benchmark where it ends without a verdict."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(argv, env=env, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        peak = 0.0
        done = threading.Event()

        def sample() -> None:
            nonlocal peak
            while not done.wait(EVERY_SECONDS):
                peak = max(peak, _resident(process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        code = process.wait()
        seconds = time.perf_counter() - began
        done.set()
        sampler.join()
        output.seek(max(0, output.tell() - 2000))
        tail = output.read().decode(errors="replace")
    if code not in FINISHED:
        sys.exit(f"bench: {' '.join(argv)} ended with exit code {code}:\n{tail}")
    return Measured(seconds=seconds, megabytes=peak, code=code, tail=tail)


# --- both sides -----------------------------------------------------------------------------------------------------


class Bench:
    """The programs, the folders and the table."""

    def __init__(self, work: Path, rounds: int) -> None:
        """`work` is an empty folder for everything that is generated or cached."""
        self.work = work
        self.rounds = rounds
        self.rows: list[Row] = []
        beside = Path(sys.executable).with_name("releasegate")
        self.releasegate = str(beside)
        helm, conftest, promtool = map(_tool, ("helm", "conftest", "promtool"))
        kubeconform = os.environ.get("KUBECONFORM") or shutil.which("kubeconform")
        if kubeconform is None:
            sys.exit("bench: no kubeconform on PATH; `make bench` installs it into .venv/bin")
        self.kubeconform = kubeconform
        self.env = {name: value for name, value in os.environ.items() if name != "CI"}  # in CI nothing is cached
        self.env |= {"HELM": str(helm.path), "KUBECONFORM": kubeconform, "KUBERNETES": KUBERNETES}
        self.env |= {"CONFTEST": str(conftest.path), "PROMTOOL": str(promtool.path)}
        self.schemas = work / "schemas"
        subprocess.run(
            [sys.executable, "-m", "releasegate.schemas.bundle", "--export", str(self.schemas), KUBERNETES],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.helm = helm.identity.version

    def row(self, what: str) -> Row:
        """Begin a line of the table."""
        self.rows.append(Row(what))
        print(f"bench: {what} …", file=sys.stderr, flush=True)
        return self.rows[-1]

    def check(self, root: Path, cache: Path) -> Measured:
        """`releasegate check` with that render cache."""
        report = self.work / "report.json"
        argv = [self.releasegate, "check", str(root), "--json", str(report)]
        return measure(argv, env={**self.env, "RELEASEGATE_CACHE": str(cache)}, cwd=self.work)

    def pipeline(self, root: Path, releases: Path | None, *, lint: bool = False) -> Measured:
        """benchmarks/pipeline.sh."""
        argv = [str(HERE / "pipeline.sh"), *(["--lint"] if lint else []), str(root), str(self.schemas)]
        return measure([*argv, str(releases)] if releases else argv, env=self.env, cwd=self.work)

    @contextmanager
    def fresh_cache(self) -> Iterator[Path]:
        """A render cache that is empty and goes away."""
        with tempfile.TemporaryDirectory(dir=self.work, prefix="cache-") as folder:
            yield Path(folder)


def _tool(name: str) -> store.Tool:
    found = store.find(name)
    if isinstance(found, store.ToolMissing):
        sys.exit(f"bench: {found}")
    return found


def _repository(root: Path) -> Path:
    """Make `root` a git repository with everything committed, as a config repo is."""
    for argv in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all", "--force"],
        ["-c", "user.name=bench", "-c", "user.email=bench@acme.example", "commit", "--quiet", "--message=bench"],
    ):
        subprocess.run(["git", *argv], cwd=root, check=True)
    return root


def release_list(root: Path, into: Path) -> Path:
    """Write what pipeline.sh reads for a repo whose releases do not follow from its file names.

    Found with releasegate's own discovery: an app-of-apps is rendered, and the values that a parent writes into an
    Application become files, which is what people do with a script of their own. Not part of the pipeline's time.
    """
    into.mkdir()
    lines = []
    with run.open_run(root) as opened:
        for release in opened.repo.releases:
            lines += [_line(release, source, into) for source in release.sources if isinstance(source, HelmSource)]
    path = into / "releases.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _line(release: Release, source: HelmSource, into: Path) -> str:
    files = [file.path for file in source.values_files]
    if source.inline is not None:
        written = into / f"{release.environment}-{release.name}-{len(list(into.iterdir()))}.yaml"
        written.write_text(source.inline.text, encoding="utf-8")
        files.append(str(written))
    # pipeline.sh has no --set: the few there are in the wild are values too, and cost the same.
    fields = (release.environment, release.helm_release, release.namespace, source.chart, ",".join(files))
    return "\t".join(fields) + "\n"


# --- what is measured -----------------------------------------------------------------------------------------------


def one_day(
    bench: Bench, root: Path, releases: Path | None, changes: Mapping[str, Callable[[Path, int], None]]
) -> None:
    """Cold, warm and after each kind of change, against the pipeline, which does the same work every time."""
    cold, warm = bench.row("cold"), bench.row("warm, nothing changed")
    changed = {what: bench.row(what) for what in changes}
    for turn in range(bench.rounds):
        print(f"bench: round {turn + 1} of {bench.rounds}", file=sys.stderr, flush=True)
        with bench.fresh_cache() as cache:
            other = bench.pipeline(root, releases)
            cold.add(bench.check(root, cache), other)
            warm.add(bench.check(root, cache), other)
            for what, change in changes.items():
                change(root, turn)
                changed[what].add(bench.check(root, cache), other)


def with_lint(bench: Bench, root: Path, releases: Path | None) -> None:
    """Against a pipeline that also runs `helm lint` on each release, once per (chart, values), as people do."""
    row = bench.row("cold, the pipeline with helm lint")
    for _ in range(bench.rounds):
        with bench.fresh_cache() as cache:
            other = bench.pipeline(root, releases, lint=True)
            row.add(bench.check(root, cache), other)
    row.note = "releasegate runs no helm lint"


def growth(bench: Bench) -> None:
    """Whether the time per release stays the same: 10, 50 and 200 releases, cold."""
    per_release = {}
    for count in (10, 50, 200):
        charts = -(-count // len(generate.ENVIRONMENTS))
        root = _repository(generate.generate(bench.work / f"grow-{count}", charts=charts))
        row = bench.row(f"cold, {charts * len(generate.ENVIRONMENTS)} releases")
        for _ in range(bench.rounds):
            other = bench.pipeline(root, None)
            with bench.fresh_cache() as cache:
                row.add(bench.check(root, cache), other)
        per_release[count] = statistics.median(row.ours) / (charts * len(generate.ENVIRONMENTS))
        row.note = f"{1000 * per_release[count]:.0f} ms a release"


def plain_manifests(bench: Bench, count: int = 4000) -> None:
    """`releasegate lint` against kubeconform with as many workers as there are processors."""
    folder = generate.manifests(bench.work / "manifests", count=count)
    row = bench.row(f"lint of {count} plain manifests, against kubeconform")
    workers = str(os.cpu_count() or 1)
    judge = [bench.kubeconform, "-strict", "-summary", "-n", workers, "-kubernetes-version", f"{KUBERNETES}.0"]
    for _ in range(bench.rounds):
        other = measure([*judge, "-schema-location", str(bench.schemas), str(folder)], env=bench.env, cwd=bench.work)
        argv = [bench.releasegate, "lint", str(folder), "--kubernetes", KUBERNETES]
        row.add(measure(argv, env=bench.env, cwd=bench.work), other)
    row.note = f"{workers} workers"


def collection(bench: Bench, root: Path) -> None:
    """pytest's collection of all items, nothing rendered but what discovery needs."""
    row = bench.row("collection of the items")
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "--releasegate",
        str(root),
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    for _ in range(bench.rounds):
        measured = measure(argv, env=bench.env, cwd=root)
        row.add(measured)
        row.note = measured.tail.strip().splitlines()[-1]


# --- the table ------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: medians, and the ratio that counts."""
    lines = [
        "| what | releasegate | the other | ratio | peak memory | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        other = f"{statistics.median(row.other):.2f} s" if row.other else ""
        ratio = f"**{row.ratio:.2f}**" if row.ratio is not None else ""
        ours = f"{statistics.median(row.ours):.2f} s"
        lines.append(f"| {row.what} | {ours} | {other} | {ratio} | {row.megabytes:.0f} MB | {row.note} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", type=Path, help="measure this config repo instead of generated ones (it is copied)")
    parser.add_argument("--charts", type=int, default=50, help="charts of the generated repo, each in 3 environments")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all measurements there too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="releasegate-bench-") as folder:
        bench = Bench(Path(folder), given.rounds)
        if given.repo is not None:
            root = Path(folder) / given.repo.resolve().name
            shutil.copytree(given.repo, root, symlinks=True, ignore=shutil.ignore_patterns(".git"))
            _repository(root)
            releases = release_list(root, Path(folder) / "releases")
            title = f"{given.repo.resolve().name}: {len(releases.read_text(encoding='utf-8').splitlines())} releases"
            one_day(bench, root, releases, {})
            with_lint(bench, root, releases)
        else:
            title = f"generated: {given.charts} charts x {len(generate.ENVIRONMENTS)} environments"
            root = _repository(generate.generate(Path(folder) / "repo", charts=given.charts))
            changes = {
                "one tag bumped in prod": generate.bump_one,
                "one key changed that all of prod reads": generate.change_environment,
                "the shared chart changed": generate.change_shared_chart,
            }
            one_day(bench, root, None, changes)
            with_lint(bench, root, None)
            growth(bench)
            plain_manifests(bench)
            collection(bench, Path(folder) / "grow-200")
        print(f"\n{title}; helm {bench.helm}, {os.cpu_count()} processors, {bench.rounds} rounds, medians\n")
        print(table(bench.rows))
        if given.json is not None:
            given.json.write_text(json.dumps([asdict(row) for row in bench.rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
