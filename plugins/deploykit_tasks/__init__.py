"""Shipped tasks: small real data with networks, losses and metrics."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import TaskCard

__all__ = ["deploykit_tasks"]


@hookimpl
def deploykit_tasks() -> Iterable[TaskCard]:
    """Offer the shipped tasks."""
    yield TaskCard(
        name="digits",
        summary="1 797 handwritten digits of 8 x 8 pixels from scikit-learn; classify into ten classes",
        implementation="deploykit_tasks.digits:Digits",
    )
    yield TaskCard(
        name="pages",
        summary="1 000 generated pages of 256 x 256 pixels in real fonts; find the lines of text",
        implementation="deploykit_tasks.pages:Pages",
    )
