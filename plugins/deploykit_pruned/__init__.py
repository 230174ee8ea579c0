"""Pruned models: the hard form is physically smaller, channels are gone and no mask is left."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import MethodCard, Paper

__all__ = ["deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="pruned.gate",
        summary="one trainable gate a channel on any model; closed channels are removed, the budget is met exactly",
        implementation="deploykit_pruned.gate:TrainableGate",
        tasks=("digits",),
        paper=Paper(
            title="Plug-in, Trainable Gate for Streamlining Arbitrary Neural Networks",
            year=2020,
            reference="AAAI 34(04), 4452-4459; arXiv 1904.10921",
        ),
    )
