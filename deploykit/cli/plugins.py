"""``deploykit plugins``: who is installed, what they hook into and what failed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from deploykit.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploykit.plugin_record import PluginRecord


def plugins(as_json: AsJson = False) -> None:
    """Show every plugin with version, load time, hooks, what it offers and failures; exit code 1 if one failed.

    DEPLOYKIT_TRACE_HOOKS=1 prints every call of a hook, with any command.

    Examples: deploykit plugins --json · DEPLOYKIT_TRACE_HOOKS=1 deploykit plugins
    """
    from deploykit.cli.output import print_json, print_table
    from deploykit.registry import installed

    registry = installed()
    if as_json:
        print_json(
            {
                "plugins": [dataclasses.asdict(item) for item in registry.plugins],
                "failures": registry.failures,
                "remarks": registry.remarks,
            }
        )  # fmt: skip
    else:
        rows = [
            (item.name, f"{item.distribution} {item.version}", f"{1000 * item.seconds:.1f}",
             _lines(hook.removeprefix("deploykit_") for hook in item.hooks), _lines(item.offers), _state(item))
            for item in registry.plugins
        ]  # fmt: skip
        print_table("", ("plugin", "from", "ms", "hooks", "offers", "state"), rows, right=("ms",))
        for remark in registry.remarks:
            typer.echo(f"warning: {remark}", err=True)
        for failure in registry.failures:
            typer.echo(f"error: {failure}", err=True)
    if registry.failures:
        raise typer.Exit(1)


def _lines(items: Iterable[str]) -> str:
    return "\n".join(items) or "-"


def _state(record: PluginRecord) -> str:
    if record.failure:
        return "failed"
    return "slow to load" if record.remark else "ok"
