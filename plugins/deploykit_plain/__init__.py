"""Plain models: nothing to discretize, deployed as they are."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import MethodCard

__all__ = ["deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="plain.passthrough",
        summary="any module as it is: no decision to take, exported, proven and served like the others",
        implementation="deploykit_plain.passthrough:Passthrough",
        tasks=("digits",),
    )
