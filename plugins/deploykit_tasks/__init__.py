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
    yield TaskCard(
        name="digit-order",
        summary="sets of two-digit numbers put together from scikit-learn's handwritten digits; put each set in order",
        implementation="deploykit_tasks.digit_order:DigitOrder",
    )
    yield TaskCard(
        name="root-neighbours",
        summary="generated trees; predict a root's mean over those of its neighbours that have many of their own",
        implementation="deploykit_tasks.root_neighbours:RootNeighbours",
    )
    yield TaskCard(
        name="photograph",
        summary="a photograph from scikit-image as a function from coordinates to grey levels",
        implementation="deploykit_tasks.photograph:Photograph",
    )
    yield TaskCard(
        name="point-pairs",
        summary="keypoints of photographs from scikit-image and of warped copies; find which belong together",
        implementation="deploykit_tasks.point_pairs:PointPairs",
    )
