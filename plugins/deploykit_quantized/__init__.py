"""Quantized models: few bits a weight, packed in the file."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import MethodCard, Paper

__all__ = ["deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="quantized.ani",
        summary="an image becomes a sine network whose weights are 4-bit integers in blocks with a scale each",
        implementation="deploykit_quantized.ani:AdaptiveNeuralImage",
        tasks=("photograph",),
        paper=Paper(title="Extreme Compression of Adaptive Neural Images", year=2024),
    )
