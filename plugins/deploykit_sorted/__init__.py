"""Sorted models: a relaxed order in training, a real sort in production."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import MethodCard, Paper

__all__ = ["deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="sorted.diffsort",
        summary="scores learn from the order alone, through a soft sorting network; a real sort takes its place",
        implementation="deploykit_sorted.diffsort:DifferentiableSort",
        tasks=("digit-order",),
        paper=Paper(title="Monotonic Differentiable Sorting Networks", year=2022),
    )
