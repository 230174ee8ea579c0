"""``deploykit runtimes``: what can execute files on this machine, and how to mend what cannot."""

from __future__ import annotations

import dataclasses

import typer

from deploykit.cli.options import AsJson


def runtimes(as_json: AsJson = False) -> None:
    """Show every registered runtime: what is installed of it, whether it runs here, and why not.

    Examples: deploykit runtimes · deploykit runtimes --json
    """
    from deploykit.cli.output import print_json, print_table
    from deploykit_serving.runtimes.availability import availability

    found = availability()
    if as_json:
        print_json({"runtimes": [dataclasses.asdict(item) for item in found]})
        return
    rows = [
        (item.name, "yes" if item.runs else "no", item.version or item.installed or "not installed", item.summary)
        for item in found
    ]
    print_table("", ("runtime", "runs here", "version", "what it is"), rows)
    for item in found:
        if not item.runs:
            typer.echo(f"{item.name} cannot run here: {item.reason}")
