"""Photographs of text that ship with scikit-image, with lines marked by a person.

``page`` is a curved, unevenly lit book page with seven whole lines. scikit-image's other picture of text, ``text``,
shows hand-written formulas at a slant, in which lines cannot be told apart by eye, so nothing is marked there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from deploykit import make_decoder
from deploykit.errors import UnknownNameError
from deploykit_tasks.pages_drawing import photograph_named
from deploykit_tasks.pages_scores import Score, score_page

Detector = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_STEP: Final = 32


@dataclass(frozen=True, slots=True)
class Photograph:
    """A real picture and its lines.

    Attributes:
        image: uint8[height, width, 3], RGB.
        quads: float32[lines, 4, 2], x and y of TL, TR, BR, BL in pixels.
        ignored: float32[n, 4, 2]: text cut by the edge; boxes there count neither for nor against a detector.
    """

    image: NDArray[np.uint8]
    quads: NDArray[np.float32]
    ignored: NDArray[np.float32]


def marked_photograph(name: str = "page") -> Photograph:
    """Return a picture with the lines a person marked on it.

    Raises:
        UnknownNameError: no lines were marked on a picture of that name.
    """
    marks = json.loads(resources.files("deploykit_tasks").joinpath("pages_photographs.json").read_text("utf-8"))
    if name not in marks:
        raise UnknownNameError(f"no lines are marked on the photograph {name!r}; on these they are: {sorted(marks)}")
    quads, ignored = (
        np.asarray([line["quad"] for line in marks[name][part]], np.float32).reshape(-1, 4, 2)
        for part in ("lines", "ignored")
    )
    return Photograph(photograph_named(name), quads, ignored)


def resized(image: NDArray[np.uint8], short_side: int) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Scale a picture so that its short side is about ``short_side`` and both are multiples of 32.

    Returns:
        the picture as uint8[1, 3, height, width], and by how much x and y grew.
    """
    height, width = image.shape[:2]
    ratio = short_side / min(height, width)
    new_height, new_width = (max(_STEP, round(side * ratio / _STEP) * _STEP) for side in (height, width))
    scaled = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]), (new_width / width, new_height / height)


def boxes_on(
    image: NDArray[np.uint8], detector: Detector, short_side: int, settings: Mapping[str, Any] | None = None
) -> NDArray[np.float32]:
    """Find boxes on a picture of any size, in that picture's pixels: float32[n, 4, 2].

    Args:
        image: uint8[height, width, 3], RGB.
        detector: from uint8[1, 3, h, w] to float32[1, 1, h, w].
        settings: of the decoder ``text-boxes``.
    """
    array, growth = resized(image, short_side)
    decoded = make_decoder("text-boxes", dict(settings or {})).decode({"probability": detector(array)})
    boxes: NDArray[np.float32] = (decoded["boxes"] / np.asarray(growth, np.float32)).astype(np.float32)
    return boxes


def score_photograph(
    detector: Detector, name: str = "page", short_side: int = 384, settings: Mapping[str, Any] | None = None
) -> Score:
    """Count the marked lines that a detector finds at an overlap of 0.5; arguments as for :func:`boxes_on`."""
    photograph = marked_photograph(name)
    boxes = boxes_on(photograph.image, detector, short_side, settings)
    return score_page(boxes, photograph.quads, photograph.ignored)
