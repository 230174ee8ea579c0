"""``deploykit plugin``: begin a plugin, and check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploykit.cli.options import AsJson

if TYPE_CHECKING:
    from deploykit.plugin_check import Check, PluginReport
    from deploykit.scaffold import PluginKind, PluginNames

app = typer.Typer(
    help="Begin a plugin, or check one.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="family.method for methods, a plain name for everything else.")],
    kind: Annotated[
        str, typer.Option(help="layer, architecture, task, target, runtime, decoder or command.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The folder in which the package's folder is made.")] = Path(),
) -> None:
    """Write a complete package whose tests pass, for you to change.

    layer: a method for the layers of any model · architecture: a method with a network of its own · task: data, loss
    and metric · target: a format for export · runtime: what executes a file · decoder: from outputs to answers ·
    command: a further verb.

    Example: deploykit plugin new steps.sigmoid --kind layer
    """
    from deploykit.cli.main import app as everything
    from deploykit.errors import ConfigError
    from deploykit.registry import installed
    from deploykit.scaffold import KINDS, plugin_names, write_project

    if kind not in KINDS:
        raise ConfigError(f"no kind of plugin {kind!r}; there are: {', '.join(KINDS)}")
    groups = [group.name for group in everything.registered_groups]
    verbs = {str(verb) for verb in (*(command.name for command in everything.registered_commands), *groups)}
    names = plugin_names(name, KINDS[kind], installed(), verbs)
    folder = write_project(names, KINDS[kind], out)
    typer.echo(f"wrote {folder}: {KINDS[kind].offers}")
    typer.echo("next:")
    for command in _next(names, KINDS[kind], folder):
        typer.echo(f"  {command}")


@app.command("check")
def check(
    plugin: Annotated[str, typer.Argument(help="The folder of a plugin's project, installed or not, or its name.")],
    quick: Annotated[bool, typer.Option("--quick", help="Leave out writing files and serving them.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which the check is ended and fails.")] = 900.0,
    as_json: AsJson = False,
) -> None:
    """Run deploykit's contract over everything a plugin offers; exit code 1 if something is to be mended.

    A folder need not be installed. Where its own tests hold a card to a contract, their settings are used.

    Examples: deploykit plugin check ./deploykit-steps · deploykit plugin check steps --quick
    """
    import dataclasses

    from rich.console import Console
    from rich.markup import escape

    from deploykit.cli.output import print_json
    from deploykit.plugin_check import check_plugin, find_subject

    subject = find_subject(plugin)
    with Console(stderr=True).status(f"checking {subject.title} ...") as status:
        report = check_plugin(subject, quick=quick, timeout=timeout, tell=lambda what: status.update(escape(what)))
    if as_json:
        print_json({"ok": report.ok, "counts": report.counts(), **dataclasses.asdict(report)})
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(1)


def _next(names: PluginNames, kind: PluginKind, folder: Path) -> tuple[str, ...]:
    import shlex
    import string

    import deploykit

    constraints = Path(deploykit.__file__).parent.parent / "constraints.txt"
    pinned = f"-c {shlex.quote(str(constraints))} " if constraints.is_file() else ""
    place = shlex.quote(str(folder))
    return (
        f"deploykit plugin check {place}",
        f"pip install {pinned}-e {place}",
        f"python -m pytest {place}   # its tests want it installed first",
        string.Template(kind.use).substitute(name=names.name),
    )


def _print(report: PluginReport) -> None:
    from deploykit.cli.output import print_table

    for fact in report.facts:
        contract = "says nothing of its contract" if fact["contract"] is None else f"contract {fact['contract']}"
        typer.echo(
            f"plugin {fact['name']} ({fact['distribution']} {fact['version']}), {contract}, loaded in "
            f"{1000 * fact['seconds']:.1f} ms"
        )
        typer.echo(f"  hooks: {', '.join(fact['hooks']) or 'none'}")
        typer.echo(f"  offers: {', '.join(fact['offers']) or 'no card'}")
    for group in report.groups:
        typer.echo()
        rows = [(check.outcome, f"{check.seconds:.1f}", _row(check)) for check in group.checks]
        print_table(group.title, ("result", "s", "what holds"), rows, right=("s",))
    for message, checks in report.faults():
        typer.echo()
        for item in checks:
            typer.echo(f"FAILED {item.group}: {item.says}")
        typer.echo("\n".join(f"    {line}" for line in message.splitlines()))
    counts = report.counts()
    typer.echo()
    typer.echo(
        f"{report.subject}: {counts['ok']} ok, {counts['failed']} failed, {counts['skipped']} skipped in "
        f"{report.seconds:.1f} s"
    )


def _row(check: Check) -> str:
    """Return what holds, with the remark or the reason for a skip; what failed is told below the tables."""
    return check.says if check.outcome == "failed" or not check.message else f"{check.says} ({check.message})"
