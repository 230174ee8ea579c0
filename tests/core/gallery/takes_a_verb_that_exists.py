"""Adds a verb to the command line that is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from deploykit import hookimpl


@hookimpl
def deploykit_cli() -> Iterable[tuple[str, Callable[..., None]]]:
    yield "train", lambda: None
