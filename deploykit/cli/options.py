"""Options that several verbs share, and settings given as free flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deploykit.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle's folder, NAME.bundle.", metavar="BUNDLE")]
RunPath = Annotated[Path, typer.Argument(help="A folder that `deploykit train` wrote.", metavar="RUN")]


def settings_from(arguments: Sequence[str]) -> dict[str, Any]:
    """Read ``--name value`` and ``--name=value`` pairs; a flag without a value is true.

    Raises:
        ConfigError: an argument is not a flag.
    """
    settings: dict[str, Any] = {}
    waiting = ""
    for argument in arguments:
        if argument.startswith("--"):
            if waiting:
                settings[waiting] = True
            name, given, value = argument[2:].partition("=")
            waiting = "" if given else name.replace("-", "_")
            if given:
                settings[name.replace("-", "_")] = value
        elif waiting:
            settings[waiting] = argument
            waiting = ""
        else:
            raise ConfigError(f"did not understand {argument!r}: settings are given as --name value")
    if waiting:
        settings[waiting] = True
    return settings
