"""Label maps of differentiable binarization: shrunk text, and a border band whose height falls with the distance.

Source: Liao et al., AAAI 2020, section 3.4, and their published program, whose constants are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from deploykit_binarized.text_boxes import offset, signed_area

THRESHOLD_LOW: Final = 0.3
THRESHOLD_HIGH: Final = 0.7
_RATIO_STEP: Final = 0.1

Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """Targets of one page or, stacked, of a batch; all float32[..., height, width].

    Attributes:
        probability: 1 inside shrunk text, else 0.
        mask: 0 where text is too small to be judged, else 1.
        threshold: 0.3 far from any border, rising to 0.7 on the borders of text.
        threshold_mask: 1 on the bands in which the threshold is judged.
    """

    probability: Maps
    mask: Maps
    threshold: Maps
    threshold_mask: Maps

    @classmethod
    def stacked(cls, pages: list[LabelMaps]) -> LabelMaps:
        """Return the maps of several pages as a batch."""
        parts = ("probability", "mask", "threshold", "threshold_mask")
        return cls(*(np.stack([getattr(page, part) for page in pages]) for part in parts))


def offset_distance(quad: NDArray[Any], ratio: float) -> float:
    """Return by how many pixels text shrinks: ``area * (1 - ratio^2) / perimeter``."""
    perimeter = float(np.linalg.norm(quad - np.roll(quad, 1, axis=0), axis=1).sum())
    return abs(signed_area(quad)) * (1 - ratio * ratio) / perimeter if perimeter else 0.0


def shrunk(quad: NDArray[Any], ratio: float) -> NDArray[np.float32] | None:
    """Return the polygon moved inwards by :func:`offset_distance`, or ``None`` if nothing can be left of it.

    Where shrinking splits a polygon, the ratio is raised until one piece is left.
    """
    while ratio < 1.0:
        pieces = offset(quad, -offset_distance(quad, ratio))
        if len(pieces) == 1:
            return pieces[0]
        ratio += _RATIO_STEP
    return None


def label_maps(quads: NDArray[Any], height: int, width: int, ratio: float, min_side: float = 8.0) -> LabelMaps:
    """Draw the targets of one page.

    Args:
        quads: [lines, 4, 2], x and y in pixels, pixel centres at whole numbers.
        ratio: how much text is shrunk, in (0, 1); 1 would not shrink it.
        min_side: text whose short side is less is masked out.
    """
    probability = np.zeros((height, width), np.float32)
    mask = np.ones((height, width), np.float32)
    border = np.zeros((height, width), np.float32)
    band = np.zeros((height, width), np.float32)
    for quad in np.asarray(quads, np.float64):
        core = shrunk(quad, ratio)
        if core is None or min(cv2.minAreaRect(quad.astype(np.float32))[1]) < min_side:
            _fill(mask, quad, 0.0)
            continue
        _fill(probability, core, 1.0)
        _draw_border(border, band, quad, offset_distance(quad, ratio))
    threshold = THRESHOLD_LOW + (THRESHOLD_HIGH - THRESHOLD_LOW) * border
    return LabelMaps(probability, mask, threshold.astype(np.float32), band)


def _draw_border(border: Maps, band: Maps, quad: NDArray[Any], distance: float) -> None:
    """Raise ``border`` to ``1 - d / distance`` around the quad's edges and set ``band`` on the grown quad."""
    (grown,) = offset(quad, distance)
    _fill(band, grown, 1.0)
    height, width = border.shape
    low = np.clip(np.floor(grown.min(axis=0)).astype(int), 0, (width, height))
    high = np.clip(np.ceil(grown.max(axis=0)).astype(int) + 1, 0, (width, height))
    rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    nearest = np.full(rows.shape, np.inf, np.float32)
    for start, end in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        np.minimum(nearest, _distance(columns, rows, start, end), out=nearest)
    part = border[low[1] : high[1], low[0] : high[0]]
    np.maximum(part, np.clip(1 - nearest / np.float32(distance), 0, 1), out=part)


def _distance(x: Maps, y: Maps, start: NDArray[Any], end: NDArray[Any]) -> Maps:
    """Return the distance of each point from a segment."""
    along = (end - start).astype(np.float32)
    squared = float(along @ along) or 1.0
    dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
    share = np.clip((dx * along[0] + dy * along[1]) / np.float32(squared), 0, 1)
    distance: Maps = np.hypot(dx - share * along[0], dy - share * along[1])
    return distance


def _fill(canvas: Maps, polygon: NDArray[Any], value: float) -> None:
    # Nearest whole pixels; the published program cuts instead, which moves every label by half a pixel.
    cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], value)
