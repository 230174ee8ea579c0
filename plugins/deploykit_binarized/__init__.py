"""Binarized models: decisions of one bit, in weights and activations or in maps."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import DecoderCard, MethodCard, Paper

__all__ = ["deploykit_decoders", "deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="binarized.biper",
        summary="weights of -1 and +1 from a periodic function, activations of one bit; runs on integers alone",
        implementation="deploykit_binarized.biper:BiPer",
        tasks=("digits",),
        paper=Paper(
            title="BiPer: Binary Neural Networks using a Periodic Function",
            year=2024,
            reference="arXiv 2404.01278",
        ),
    )
    yield MethodCard(
        name="binarized.db",
        summary="text detection trained through a learnt threshold map, which is dropped; any image size",
        implementation="deploykit_binarized.db:DB",
        tasks=("pages",),
        paper=Paper(
            title="Real-time Scene Text Detection with Differentiable Binarization",
            year=2020,
            reference="arXiv 1911.08947",
        ),
    )


@hookimpl
def deploykit_decoders() -> Iterable[DecoderCard]:
    """Offer the family's decoders."""
    yield DecoderCard(
        name="text-boxes",
        summary="boxes of text from a probability map: contours, smallest rectangles, growth",
        implementation="deploykit_binarized.text_boxes:TextBoxes",
    )
    yield DecoderCard(
        name="text-polygons",
        summary="polygons around bent lines of text from a probability map: simplified contours, growth",
        implementation="deploykit_binarized.text_boxes:TextPolygons",
    )
