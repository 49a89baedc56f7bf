"""The command line: every command is a few lines over the layers. Exit codes 0-4 are fixed for ever (design.md 3)."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from releasegate import __version__

USAGE = 4
INTERRUPTED = 130

_json_option = click.option(
    "--json", "json_file", metavar="FILE", help="Write the JSON report (version 1); - is stdout."
)
_root_option = click.option("--root", default=".", type=click.Path(path_type=Path), help="The config repo.")
_root_argument = click.argument("root", default=".", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="releasegate")
def cli() -> None:
    """The required check of a GitOps config repo. A green verdict is evidence.

    Exit codes: 0 all expected things judged and passed, 1 a finding, 2 something could not be evaluated,
    3 nothing was judged, 4 wrong use or config.
    """


@cli.command()
@_root_argument
@click.option("--env", "environments", multiple=True, metavar="E", help="Judge this environment only (repeatable).")
@click.option("--release", "releases", multiple=True, metavar="R", help="Judge this release only (repeatable).")
@click.option("--rule", "rules", multiple=True, metavar="GLOB", help="Judge these rules only (repeatable).")
@click.option("--staged", is_flag=True, help="Judge the git index instead of the work tree.")
@click.option("--kubernetes", metavar="V", help="Judge every environment at this Kubernetes version.")
@_json_option
@click.option("--junit", metavar="FILE", help="Write a JUnit report.")
def check(
    root: Path,
    environments: tuple[str, ...],
    releases: tuple[str, ...],
    rules: tuple[str, ...],
    *,
    staged: bool,
    kubernetes: str | None,
    json_file: str | None,
    junit: str | None,
) -> int:
    """Render every environment as Argo CD would, and judge what it rendered."""
    from releasegate import check as hardened  # noqa: PLC0415 - `--help` needs none of it
    from releasegate import run  # noqa: PLC0415

    if junit is not None and not Path(junit).absolute().parent.is_dir():
        raise click.UsageError(f"cannot write the JUnit report to {junit}: no such folder")
    if junit == "-":
        raise click.UsageError("--junit takes a file; only --json can go to stdout")
    # Renders and verdicts live to the end and hold no cycles: looking for some was a quarter of the time.
    gc.set_threshold(1_000_000)
    selection = run.Selection(environments=environments, releases=releases, rules=rules)
    with (
        _usage_errors(json_file),
        run.open_run(root, selection=selection, kubernetes=kubernetes, staged=staged) as opened,
    ):
        try:
            report = hardened.check(opened, junit=junit)
        except hardened.Interrupted:
            return INTERRUPTED
        return _publish(report, Path(opened.tree.root), json_file)


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--kubernetes", metavar="V", help="The Kubernetes version to judge at (default: the newest bundle).")
@click.option("--schema-location", "locations", multiple=True, metavar="T", help="Where schemas of other kinds are.")
@_json_option
def lint(paths: tuple[str, ...], kubernetes: str | None, locations: tuple[str, ...], json_file: str | None) -> int:
    """Judge plain files by what they are; a folder stands for the YAML, JSON and CODEOWNERS files below it, - for stdin."""
    from releasegate import lint as linting  # noqa: PLC0415

    gc.disable()  # a short process that makes no cycles: looking for them cost a fifth of its time
    with _usage_errors(json_file):
        report = linting.lint(paths, kubernetes=kubernetes, locations=locations)
        gc.freeze()  # nor at its end
        return _publish(report, Path.cwd(), json_file)


@cli.command()
@_root_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def discover(root: Path, *, as_json: bool) -> int:
    """Show environments and releases, how each was found, and what was not understood."""
    from releasegate import run  # noqa: PLC0415
    from releasegate.report import discovery  # noqa: PLC0415

    with _usage_errors(None), run.open_run(root) as opened:
        if as_json:
            click.echo(json.dumps(discovery.document(opened.repo, opened.helm), indent=1, ensure_ascii=False))
        else:
            _echo(discovery.lines(opened.repo, opened.helm))
        return 0


@cli.command()
@click.argument("release", metavar="ENV/RELEASE")
@_root_option
def render(release: str, root: Path) -> int:
    """Print what is judged of one release: the render as it would be applied, Secret values redacted."""
    from releasegate import run, usage  # noqa: PLC0415
    from releasegate.model import Unrendered  # noqa: PLC0415
    from releasegate.report import manifests  # noqa: PLC0415
    from releasegate.report.text import clean  # noqa: PLC0415

    with _usage_errors(None), run.open_run(root) as opened:
        chosen = next((one for one in opened.repo.releases if one.id == release), None)
        if chosen is None:
            raise usage.UsageError(f"no release {release!r} here; `releasegate discover` lists them as ENV/RELEASE")
        rendered = opened.rendered(chosen)
        if isinstance(rendered, Unrendered):
            where = f"{rendered.place}: " if rendered.place else ""
            click.echo(f"{where}{clean(rendered.reason)}\nmend: {clean(rendered.remedy)}", err=True)
            return 1 if rendered.broken else 2
        click.echo(manifests.text(rendered), nl=False)
        return 0


@cli.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--root", default=".", type=click.Path(path_type=Path), help="The config repo; paths count from it.")
@click.option("--json", "as_json", is_flag=True, help="Print {path: [owners]} instead of a table.")
def owners(paths: tuple[str, ...], root: Path, *, as_json: bool) -> int:
    """Show who has to approve a change of each file, as GitHub reads CODEOWNERS; a folder stands for its files."""
    from releasegate.report import owners as owning  # noqa: PLC0415

    with _usage_errors(None):
        file, asked = owning.answer(root, paths)
        if as_json:
            click.echo(json.dumps(owning.document(asked), indent=1, ensure_ascii=False))
        else:
            _echo(owning.lines(file, asked))
        return 0


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@_root_option
def rules(root: Path, *, as_json: bool) -> int:
    """List the rules: ours, those of installed packages, and the policies of the repo."""
    from releasegate.report import page  # noqa: PLC0415
    from releasegate.rules import rego  # noqa: PLC0415

    with _usage_errors(None):
        known = rego.rules_at(root)
    if as_json:
        click.echo(json.dumps([page.row(one) for one in known], indent=1))
    else:
        width = max(len(one.id) for one in known)
        _echo(f"{one.id:<{width}}  {one.kind:<6}  {one.summary}" for one in known)
    return 0


@cli.command()
@click.argument("rule", metavar="ID")
@_root_option
def explain(rule: str, root: Path) -> int:
    """Print the page of a rule: what, why, how to mend it, a bad and a good example, and its level in each environment."""
    from releasegate import config as configuration  # noqa: PLC0415
    from releasegate import run  # noqa: PLC0415
    from releasegate.report import page  # noqa: PLC0415
    from releasegate.rules import rego  # noqa: PLC0415
    from releasegate.usage import near  # noqa: PLC0415

    with _usage_errors(None):
        known = {one.id: one for one in rego.rules_at(root)}
        if rule not in known:
            raise click.UsageError(f"no rule {rule!r}{near(rule, known)}; `releasegate rules` lists them")
        levels = None
        if (root / configuration.FILE).exists():
            with run.open_run(root) as opened:
                levels = {
                    one.name: opened.config.level(rule, known[rule].kind, one) for one in opened.repo.environments
                }
        click.echo(page.text(known[rule], levels))
        return 0


@cli.command("new-rule")
@click.argument("name", metavar="ID")
@click.option("--rego", "language", flag_value="rego", help="A policy in Rego, below policies/ of the config repo.")
@click.option("--python", "language", flag_value="python", help="A rule in Python, in a package that is installed.")
@click.option(
    "--root", default=".", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Where to write."
)
def new_rule(name: str, language: Any, root: Path) -> int:
    """Write the files of a new rule, ID being category/name: red until they are filled in."""
    from releasegate import scaffold  # noqa: PLC0415
    from releasegate.rules import rego  # noqa: PLC0415

    with _usage_errors(None):
        written = scaffold.new_rule(root, name, language, rego.rules_at(root))
        _echo(f"wrote {path}" for path in written)
        _echo(f"next: {step}" for step in scaffold.next_steps(root, name, written))
        return 0


@cli.group()
def tools() -> None:
    """Show or install the programs that judge: helm and the render worker."""


@tools.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@_root_option
def tools_list(root: Path, *, as_json: bool) -> int:
    """Show each program: version, where it comes from, or the command that installs it."""
    from releasegate.report import toolbox  # noqa: PLC0415
    from releasegate.tools import store  # noqa: PLC0415

    rows = store.listing(_pins(root))
    if as_json:
        click.echo(json.dumps(toolbox.document(rows), indent=1))
    else:
        _echo(toolbox.lines(rows))
    return 0


@tools.command("install")
@click.argument("names", nargs=-1, metavar="[NAME[@VERSION]]...")
@_root_option
def tools_install(names: tuple[str, ...], root: Path) -> int:
    """Install programs into the cache: those named, else all, at the versions the repo's config asks for or the locked ones."""
    from releasegate.tools import store  # noqa: PLC0415

    try:
        done = store.install(names or store.wanted(_pins(root)), progress=lambda said: click.echo(said, err=True))
    except store.UnknownTool as error:
        raise click.UsageError(str(error)) from None
    missing = [one for one in done if isinstance(one, store.ToolMissing)]
    for one in missing:
        click.echo(f"{one.name}: {one.reason}\n  mend: {one.remedy}", err=True)
    return 2 if missing else 0


@cli.group("schemas")
def schemas_group() -> None:
    """Show the schemas there are, or add those of custom resources."""


@schemas_group.command("list")
@_root_option
def schemas_list(root: Path) -> int:
    """List the Kubernetes bundles and the schemas the repo itself holds."""
    from releasegate import config as configuration  # noqa: PLC0415
    from releasegate import schemas  # noqa: PLC0415
    from releasegate.schemas import add  # noqa: PLC0415

    with _usage_errors(None):
        config = configuration.load(root)
        click.echo(f"Kubernetes bundles: {', '.join(schemas.available())}")
        _echo(add.listing(root, config.schema_locations))
        return 0


@schemas_group.command("show")
@click.argument("name", type=click.Choice(["config", "report"]))
def schemas_show(name: str) -> int:
    """Print the JSON Schema of releasegate.toml or of the JSON report."""
    click.echo((Path(__file__).parent / "data" / f"{name}.schema.json").read_text(encoding="utf-8"), nl=False)
    return 0


@schemas_group.command("add")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="TEMPLATE-URL|DIR|cluster",
    help="A URL with kubeconform's variables, a folder of CRDs or JSON Schemas, or the cluster kubectl reaches.",
)
@click.option("--missing", is_flag=True, help="Add what the releases of ROOT render and have no schema for.")
@click.option("--context", metavar="C", help="kubectl's context, with --from cluster.")
@_root_option
def schemas_add(kinds: tuple[str, ...], source: str, context: str | None, root: Path, *, missing: bool) -> int:
    """Copy schemas of custom resources into the repo, so that their objects can be judged.

    KIND is Rollout, argoproj.io/Rollout or argoproj.io/v1alpha1/Rollout. Files go where [schemas] locations of
    releasegate.toml looks for them. Named kinds are all written or none is; with --missing what can be had is written,
    and the exit code is 2 while something is lacking. A URL is for example
    https://schemas.example/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json
    """
    from releasegate import config as configuration  # noqa: PLC0415
    from releasegate import run, usage  # noqa: PLC0415
    from releasegate.report.text import clean  # noqa: PLC0415
    from releasegate.schemas import add  # noqa: PLC0415

    with _usage_errors(None), contextlib.ExitStack() as stack:
        if not root.is_dir():
            raise usage.UsageError(f"{root} is not a folder")
        config = configuration.load(root)
        given = {one.kubernetes for one in config.environments.values()} | {config.kubernetes}
        opened = functools.cache(lambda: stack.enter_context(run.open_run(root)))
        repo = add.Repo(
            root=root,
            locations=config.schema_locations,
            versions=sorted({usage.bundle_version(one) for one in given}),
            here=lambda: list(opened().custom_kinds()),
            lacking=lambda: [kind for kind, known in opened().custom_kinds().items() if not known],
        )
        try:
            done = add.add(repo, kinds, source, missing=missing, context=context)
        except add.NotFound as error:
            raise usage.UsageError("\n".join(map(clean, str(error).splitlines()))) from None
        except add.NotObtained as error:
            click.echo(f"{clean(str(error))}\nnothing was written", err=True)
            return 2
        unseen = opened().unrendered() if missing else []
    _echo(map(clean, done.said))
    _echo((f"not added: {clean(line)}" for line in done.failed), err=True)
    if unseen:
        click.echo(f"not looked at, since they do not render: {', '.join(unseen)}", err=True)
    return 2 if done.failed else 0


# --- shared -----------------------------------------------------------------------------------------------------------


class _usage_errors:  # noqa: N801 - reads as a with statement
    """Wrong use and wrong config become exit 4, with a JSON report where one was asked for.

    The message stands alone: how the command is called was right, and its usage would hide what was not.
    """

    def __init__(self, json_file: str | None) -> None:
        self._json_file = json_file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        from releasegate import config as configuration  # noqa: PLC0415
        from releasegate import git, schemas, usage  # noqa: PLC0415
        from releasegate.report import json as json_report  # noqa: PLC0415

        if isinstance(error, (usage.UsageError, configuration.ConfigError, git.GitError, schemas.LocationError)):
            if self._json_file is not None:
                json_report.write(json_report.usage_error(str(error)), self._json_file)
            raise click.ClickException(str(error)) from None


def _pins(root: Path) -> dict[str, str]:
    """The versions of programs that the config at `root` asks for."""
    from releasegate import config as configuration  # noqa: PLC0415
    from releasegate.tools import store  # noqa: PLC0415

    with _usage_errors(None):
        config = configuration.load(root)
        pins = {name: config.pin(name) for name in store.locked()}
    return {name: pin.version for name, pin in pins.items() if pin is not None}


def _publish(report: Any, root: Path, json_file: str | None) -> int:
    """Print the report; the JSON is written last, whole or not at all."""
    from releasegate.report import json as json_report  # noqa: PLC0415
    from releasegate.report import terminal  # noqa: PLC0415

    _echo(terminal.lines(report, root), err=json_file == "-")
    if json_file is not None:
        try:
            json_report.write(json_report.report(report), json_file)
        except OSError as error:
            raise click.UsageError(f"cannot write the report to {json_file}: {error.strerror}") from None
    return int(report.exit_code)


def _echo(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(line, err=err)


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with one of the fixed codes; click's own codes are mapped to 4."""
    run: Callable[..., Any] = cli.main
    signal.signal(signal.SIGTERM, _interrupted)  # the default action would leave a running helm behind
    try:
        code = run(args=argv, prog_name="releasegate", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = USAGE
    except BrokenPipeError:
        code = 2
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)
