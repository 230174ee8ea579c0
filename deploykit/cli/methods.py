"""``deploykit methods``: what can be trained and deployed."""

from __future__ import annotations

from typing import Annotated

import typer

from deploykit.cli.options import AsJson


def methods(
    name: Annotated[str, typer.Argument(help="Show one method with its settings.")] = "", as_json: AsJson = False
) -> None:
    """List the installed methods, or show one with its settings.

    Examples: deploykit methods · deploykit methods binarized.biper
    """
    from deploykit.cli.output import print_json, print_table
    from deploykit.registry import installed

    registry = installed()
    if name:
        _show(name, as_json=as_json)
        return
    cards = registry.methods.values()
    if as_json:
        print_json(
            {
                "methods": [
                    {
                        "name": card.name,
                        "summary": card.summary,
                        "tasks": card.tasks,
                        "paper": None if card.paper is None else card.paper.title,
                    }
                    for card in cards
                ],
                "failures": registry.failures,
            }
        )
        return
    print_table("", ("method", "tasks", "what it is"), [(c.name, ", ".join(c.tasks), c.summary) for c in cards])
    for failure in registry.failures:
        typer.echo(f"warning: {failure}", err=True)


def _show(name: str, *, as_json: bool) -> None:
    from deploykit.cli.output import print_json, print_table
    from deploykit.making import make_method
    from deploykit.registry import installed, load_implementation

    card = installed().method_card(name)
    config = getattr(load_implementation(card), "Config", None) or make_method(name).Config
    schema = config.model_json_schema().get("properties", {})
    if as_json:
        print_json({"name": card.name, "summary": card.summary, "tasks": card.tasks, "settings": schema})
        return
    typer.echo(f"{card.name}: {card.summary}")
    if card.paper is not None:
        typer.echo(f"Source: {card.paper.title} ({card.paper.year}) {card.paper.reference}".rstrip())
    rows = [
        (f"--{key.replace('_', '-')}", str(entry.get("default", "")), entry.get("description", ""))
        for key, entry in schema.items()
    ]
    print_table("", ("setting", "default", "meaning"), rows)
