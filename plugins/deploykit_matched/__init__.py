"""Matched models: soft assignments in training, one partner or none in production."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import DecoderCard, MethodCard, Paper

__all__ = ["deploykit_decoders", "deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="matched.sinkhorn",
        summary="keypoints of two images are matched by optimal transport with a dustbin; mutual best pairs above a "
        "threshold are kept",
        implementation="deploykit_matched.sinkhorn:SinkhornMatching",
        tasks=("point-pairs",),
        paper=Paper(title="SuperGlue: Learning Feature Matching with Graph Neural Networks", year=2020),
    )


@hookimpl
def deploykit_decoders() -> Iterable[DecoderCard]:
    """Offer the family's decoders."""
    yield DecoderCard(
        name="mutual-matches",
        summary="pairs of points that are each other's best in an assignment, and above a threshold",
        implementation="deploykit_matched.mutual_matches:MutualMatches",
    )
