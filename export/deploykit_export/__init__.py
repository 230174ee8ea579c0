"""Soft form to hard form to files, and the proofs."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit.cards import TargetCard
from deploykit.hookspecs import hookimpl

__all__ = ["deploykit_targets"]


@hookimpl
def deploykit_targets() -> Iterable[TargetCard]:
    """Offer the targets that are ours."""
    yield TargetCard(
        name="tensorrt",
        summary="TensorRT engines; TensorRT-RTX builds them on a machine without a GPU",
        implementation="deploykit_export.tensorrt_target:TensorRT",
    )
