"""Verbs that plugins add to the command line."""

from __future__ import annotations

from collections.abc import Callable

import typer

Verb = tuple[str, Callable[..., None]]


def add_plugin_verbs(app: typer.Typer) -> None:
    """Add what the plugins' ``deploykit_cli`` hooks offer.

    A verb that cannot be had is no reason to take the others away: it is left out, and ``deploykit plugins`` says why.
    """
    from deploykit.hook_calls import call_hook
    from deploykit.registry import installed

    registry = installed()
    taken = {item.name for item in app.registered_commands} | {item.name for item in app.registered_groups}
    for call in call_hook(registry.manager, "deploykit_cli"):
        if call.error is not None:
            registry.report(call.plugin, f"failed in deploykit_cli: {type(call.error).__name__}: {call.error}")
        elif (verbs := _verbs(call.value)) is None:
            wanted = "deploykit_cli must yield pairs of a name and a function"
            registry.report(call.plugin, f"misuses a hook: {wanted}, got {call.value!r}")
        else:
            for name, function in verbs:
                if name in taken:
                    registry.report(call.plugin, f"offers a verb {name!r}, which exists already; rename it")
                    continue
                if fault := _fault(function):
                    registry.report(call.plugin, f"offers a verb {name!r} that typer cannot read: {fault}")
                    continue
                taken.add(name)
                app.command(name)(function)


def _fault(function: Callable[..., None]) -> str:
    """Return what typer says of a function's parameters; found out apart, since one such verb would end them all."""
    alone = typer.Typer()
    alone.command()(function)
    try:
        typer.main.get_command(alone)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _verbs(value: object) -> tuple[Verb, ...] | None:
    """Return what a plugin offers, or ``None`` if that is something else than verbs."""
    if not isinstance(value, tuple):
        return None
    for item in value:
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and callable(item[1])):
            return None
    return value
