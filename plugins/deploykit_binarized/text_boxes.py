"""From probability maps to text boxes: contours, smallest rectangles, scores, unclipping. numpy, OpenCV, pyclipper.

Source: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020, section 3.5. Where
this differs from the published programs: only outer contours become candidates, not the rims of holes; the offset is
computed on a grid of 1/256 pixel, where they cut corners to whole pixels; candidates that fail a test are left out,
where some return rows of zeros; boxes are float pixels of the map, not rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray
from pydantic import Field

from deploykit import Decoder, DecoderConfig, TensorSpec
from deploykit.errors import SignatureError
from deploykit.signature import Arrays

Points = NDArray[np.float32]
_GRID: Final = 256.0  # pyclipper cuts coordinates to integers, so they are given in 1/256 pixel
_ARC_TOLERANCE: Final = _GRID / 32  # how far a rounded corner may be from the circle


class TextBoxesConfig(DecoderConfig):
    """Settings of :class:`TextBoxes`; lengths are in pixels of the map."""

    threshold: float = Field(0.3, ge=0, lt=1, description="pixels above this probability belong to text")
    box_threshold: float = Field(0.6, ge=0, le=1, description="mean probability inside a box, at least")
    unclip_ratio: float = Field(1.5, ge=0, description="boxes grow by area times this over perimeter")
    min_side: float = Field(3.0, ge=0, description="short side of a candidate before it grows, at least")
    min_box_side: float = Field(5.0, ge=0, description="short side of a box after it has grown, at least")
    max_candidates: int = Field(1000, ge=1, description="connected regions looked at in one map, at most")
    score_over: Literal["box", "outline"] = Field(
        "box", description="where the mean probability is taken; a box around a bent line holds much background"
    )
    dilate: bool = Field(False, description="thicken the bitmap by one pixel to the right and down first")


class TextPolygonsConfig(TextBoxesConfig):
    """Settings of :class:`TextPolygons`."""

    unclip_ratio: float = Field(2.0, ge=0, description="polygons grow by area times this over perimeter")
    detail: float = Field(0.002, gt=0, description="outlines may be simplified by this share of their length")


@dataclass(frozen=True, slots=True)
class _Found:
    box: Points
    score: float
    polygon: Points


class TextBoxes(Decoder):
    """One box a connected region of text.

    Boxes are x and y of TL, TR, BR, BL in pixels of the map, inside [0, width] x [0, height]. A client that scaled its
    picture scales the boxes back.
    """

    Config = TextBoxesConfig
    outputs: ClassVar[tuple[TensorSpec, ...]] = (
        TensorSpec(name="boxes", dtype="float32", shape=("found", 4, 2), description="x, y of TL, TR, BR, BL"),
        TensorSpec(name="scores", dtype="float32", shape=("found",), description="mean probability inside, 0 to 1"),
        TensorSpec(name="sample", dtype="int64", shape=("found",), description="which image of the batch"),
    )

    def decode(self, outputs: Arrays) -> Arrays:
        """Find boxes on each map of ``probability`` float32[batch, 1, height, width].

        Raises:
            SignatureError: ``probability`` is missing or has another shape.
        """
        return _boxes_of(self._all_found(outputs))

    def _all_found(self, outputs: Arrays) -> list[tuple[int, _Found]]:
        config: TextBoxesConfig = self.config
        found: list[tuple[int, _Found]] = []
        for index, probability in enumerate(probability_maps(outputs)):
            contours = outer_contours(bitmap(probability, config.threshold, config.dilate))
            for contour in contours[: config.max_candidates]:
                # A candidate that fails is left out; it never becomes a row of zeros.
                if (one := self._found(probability, contour)) is not None:
                    found.append((index, one))
        return found

    def _found(self, probability: Points, contour: NDArray[np.int32]) -> _Found | None:
        config: TextBoxesConfig = self.config
        candidate, side = smallest_rectangle(contour)
        if side < config.min_side:
            return None
        outline = self._outline(contour, candidate)
        if outline is None:
            return None
        score = mean_inside(probability, contour[:, 0] if config.score_over == "outline" else outline)
        if score < config.box_threshold:
            return None
        grown = unclip(outline, config.unclip_ratio)
        if len(grown) != 1:  # nothing, for an outline without area, or several pieces that are no single text
            return None
        box, side = smallest_rectangle(grown[0])
        if side < config.min_box_side:
            return None
        limits = np.asarray(probability.shape[::-1], np.float32)
        return _Found(np.clip(box, 0, limits), score, np.clip(grown[0], 0, limits))

    def _outline(self, contour: NDArray[np.int32], rectangle: Points) -> Points | None:
        return rectangle


class TextPolygons(TextBoxes):
    """One polygon a connected region of text, for bent lines; boxes are the smallest rectangles around them."""

    Config = TextPolygonsConfig
    outputs: ClassVar[tuple[TensorSpec, ...]] = (
        *TextBoxes.outputs,
        TensorSpec(name="points", dtype="float32", shape=("points", 2), description="x, y of all polygons' corners"),
        TensorSpec(name="polygon", dtype="int64", shape=("points",), description="which row of boxes a corner is of"),
    )

    def decode(self, outputs: Arrays) -> Arrays:
        """Find polygons; takes and raises as :meth:`TextBoxes.decode`."""
        found = self._all_found(outputs)
        counts = [len(one.polygon) for _, one in found]
        points = np.concatenate([np.zeros((0, 2), np.float32), *(one.polygon for _, one in found)])
        rows = np.repeat(np.arange(len(found), dtype=np.int64), counts)
        return {**_boxes_of(found), "points": points.astype(np.float32), "polygon": rows}

    def _outline(self, contour: NDArray[np.int32], rectangle: Points) -> Points | None:
        config: TextPolygonsConfig = self.config
        simple = cv2.approxPolyDP(contour, config.detail * cv2.arcLength(contour, True), True)
        return np.asarray(simple, np.float32).reshape(-1, 2) if len(simple) >= 4 else None


def _boxes_of(found: list[tuple[int, _Found]]) -> dict[str, NDArray[Any]]:
    return {
        "boxes": np.asarray([one.box for _, one in found], np.float32).reshape(-1, 4, 2),
        "scores": np.asarray([one.score for _, one in found], np.float32),
        "sample": np.asarray([index for index, _ in found], np.int64),
    }


def probability_maps(outputs: Arrays) -> NDArray[np.float32]:
    """Return the maps as float32[batch, height, width].

    Raises:
        SignatureError: ``probability`` is missing, is not [batch, 1, height, width], or holds NaN or infinity.
    """
    if "probability" not in outputs:
        raise SignatureError(f"text decoder: output 'probability' is missing; got {sorted(outputs)}")
    maps = outputs["probability"]
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise SignatureError(f"text decoder: probability must be [batch, 1, height, width], got {list(maps.shape)}")
    if not np.isfinite(maps).all():
        raise SignatureError("text decoder: probability holds NaN or infinity; wanted numbers from 0 to 1")
    return np.ascontiguousarray(maps[:, 0], np.float32)


def bitmap(probability: Points, threshold: float, dilate: bool = False) -> NDArray[np.uint8]:
    """Return where the map is strictly above the threshold, as 0 and 1."""
    bits = (probability > np.float32(threshold)).astype(np.uint8)
    return np.asarray(cv2.dilate(bits, np.ones((2, 2), np.uint8)), np.uint8) if dilate else bits


def outer_contours(bits: NDArray[np.uint8]) -> list[NDArray[np.int32]]:
    """Return the outline of each 8-connected region, also of regions that lie in a hole of another: int32[n, 1, 2]."""
    contours, hierarchy = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    parents = np.asarray(hierarchy).reshape(-1, 4)[:, 3]
    return [contour for contour, parent in zip(contours, parents, strict=True) if parent < 0]


def smallest_rectangle(points: NDArray[Any]) -> tuple[Points, float]:
    """Return the smallest rectangle around points, corners ordered, and its short side in pixels."""
    rectangle = cv2.minAreaRect(np.asarray(points).reshape(-1, 1, 2))
    return ordered(np.asarray(cv2.boxPoints(rectangle), np.float32)), float(min(rectangle[1]))


def ordered(corners: Points) -> Points:
    """Order four corners TL, TR, BR, BL: the two leftmost make the left side; of equal x, the upper counts as left.

    The result depends on the set of corners only, so ordering twice changes nothing.
    """
    by_x = corners[np.lexsort((corners[:, 1], corners[:, 0]))]
    left, right = (pair[np.lexsort((pair[:, 0], pair[:, 1]))] for pair in (by_x[:2], by_x[2:]))
    return np.stack([left[0], right[0], right[1], left[1]])


def mean_inside(probability: Points, polygon: NDArray[Any]) -> float:
    """Return the mean probability of the pixels that the polygon covers, those on its edge included."""
    height, width = probability.shape
    limits = np.asarray([width - 1, height - 1])
    low = np.clip(np.floor(polygon.min(axis=0)).astype(int), 0, limits)
    high = np.clip(np.ceil(polygon.max(axis=0)).astype(int), 0, limits)
    mask = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), np.uint8)
    # Cut to whole pixels, as every published program does: scores are comparable with theirs.
    cv2.fillPoly(mask, [(polygon - low).astype(np.int32)], 1)
    inside = mask.astype(bool)
    if not inside.any():
        return 0.0
    return float(probability[low[1] : high[1] + 1, low[0] : high[0] + 1][inside].mean(dtype=np.float64))


def unclip(polygon: NDArray[Any], ratio: float) -> list[Points]:
    """Grow a polygon outwards by ``area * ratio / perimeter`` with round corners.

    Returns:
        float32[n, 2] a piece: one for a convex polygon, none for a polygon without area, perhaps several otherwise.
    """
    corners = np.asarray(polygon, np.float64).reshape(-1, 2)
    area, perimeter = (
        abs(signed_area(corners)),
        float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).sum()),
    )
    if area <= 0.0:
        return []
    return offset(corners, area * ratio / perimeter)


def offset(corners: NDArray[Any], distance: float) -> list[Points]:
    """Move a polygon's edges outwards (or inwards, if negative) by ``distance`` pixels, corners rounded.

    Computed on a grid of 1/256 pixel.

    Returns:
        float32[n, 2] a piece; none if nothing is left.
    """
    clipper = pyclipper.PyclipperOffset(2.0, _ARC_TOLERANCE)
    path: Sequence[Any] = np.rint(np.asarray(corners, np.float64).reshape(-1, 2) * _GRID).astype(np.int64).tolist()
    try:
        clipper.AddPath(path, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:  # fewer than three different points
        return []
    return [(np.asarray(piece, np.float64) / _GRID).astype(np.float32) for piece in clipper.Execute(distance * _GRID)]


def signed_area(corners: NDArray[Any]) -> float:
    """Return a polygon's area by the shoelace formula; positive if its corners run clockwise on the screen."""
    x, y = np.asarray(corners, np.float64).reshape(-1, 2).T
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
