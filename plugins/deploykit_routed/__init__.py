"""Routed models: every sample runs only the part of the network that its own decisions lead to."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import MethodCard, Paper

__all__ = ["deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="routed.fff",
        summary="feed-forward blocks become trees of small experts: each sample runs one leaf and a small master leaf",
        implementation="deploykit_routed.fff:FastFeedForward",
        tasks=("digits",),
        paper=Paper(
            title="Enhancing Fast Feed Forward Networks with Load Balancing and a Master Leaf Node",
            year=2024,
        ),
    )
