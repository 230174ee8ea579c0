"""Yields names where cards are wanted."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl


@hookimpl
def deploykit_methods() -> Iterable[str]:
    yield "gallery.name"
