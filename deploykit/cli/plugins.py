"""``deploykit plugins``: who is installed, what they hook into and what failed."""

from __future__ import annotations

import dataclasses

import typer

from deploykit.cli.options import AsJson


def plugins(as_json: AsJson = False) -> None:
    """Show every plugin with version, hooks, load time and failures; exit code 1 if one failed.

    Example: deploykit plugins --json
    """
    from deploykit.cli.output import print_json, print_table
    from deploykit.registry import installed

    registry = installed()
    if as_json:
        print_json(
            {"plugins": [dataclasses.asdict(item) for item in registry.plugins], "failures": registry.failures}
        )  # fmt: skip
    else:
        rows = [
            (item.name, f"{item.distribution} {item.version}", f"{1000 * item.seconds:.1f}",
             ", ".join(item.hooks) or "-", "failed" if item.failure else "ok")
            for item in registry.plugins
        ]  # fmt: skip
        print_table("", ("plugin", "from", "ms", "hooks", "state"), rows, right=("ms",))
        for failure in registry.failures:
            typer.echo(f"error: {failure}", err=True)
    if registry.failures:
        raise typer.Exit(1)
