"""Two views of a photograph: cut out, warped, lit anew, with corners, their descriptors and the true partners."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import BRIEF

VIEW_SIZE: Final = 160
DESCRIPTOR_SIZE: Final = 64
UNMATCHED: Final = -1
IGNORED: Final = -2
_REACH: Final = 0.7 * VIEW_SIZE  # half a view is 0.71 of it
_PATCH: Final = 25
_MARGIN: Final = _PATCH // 2 + 2
_SAME: Final = 2.5
_OTHER: Final = 5.0

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """One picture's corners, the strongest first.

    Attributes:
        points: float32[n, 2], x and y in pixels; pixel centres are at whole numbers.
        descriptors: float32[n, 64], the bits of BRIEF as -1 and +1.
    """

    points: Floats
    descriptors: Floats

    @property
    def normalised(self) -> Floats:
        """Points around the view's middle, divided by 0.7 of its longer side as the paper does: float32[n, 2]."""
        return np.asarray((self.points - (VIEW_SIZE - 1) / 2) / _REACH, np.float32)


@dataclass(frozen=True, slots=True)
class ViewPair:
    """Two views of one place.

    Attributes:
        partner_a: int64[points of a], the index of the same place among b's points, ``UNMATCHED`` if there is none,
            ``IGNORED`` if the nearest point is too near to be another place and too far to be the same.
        partner_b: the same the other way round.
    """

    a: View
    b: View
    partner_a: NDArray[np.int64]
    partner_b: NDArray[np.int64]


def draw_pair(rng: np.random.Generator, photograph: Floats, at_most_a: int, at_most_b: int) -> ViewPair:
    """Cut a place out of a photograph twice, the second time turned, scaled, moved and tilted.

    Both views are lit, blurred and made noisy on their own, and corners are looked for in each on its own: some are
    found in one view only, and no two lie at exactly the same place.

    Args:
        rng: every choice comes from it, so a seed gives one pair for given versions of OpenCV and scikit-image.
        photograph: float32[height, width], from 0 to 1.
        at_most_a: corners kept in the first view; between a third of it and all of it are asked for.
    """
    cut = _cut(rng, photograph)
    warp = _warp(rng)
    asked_a, asked_b = (int(rng.integers(limit // 3, limit + 1)) for limit in (at_most_a, at_most_b))
    a = _look(_photographed(rng, _warped(photograph, cut)), asked_a)
    b = _look(_photographed(rng, _warped(photograph, warp @ cut)), asked_b)
    return ViewPair(a, b, *true_partners(moved(a.points, warp), b.points))


def true_partners(from_a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Say which points are at the same place.

    Two points are partners if each is the other's nearest and they are less than 2.5 pixels apart. A point whose
    nearest is at least 5 pixels away is ``UNMATCHED``; what lies between is ``IGNORED``.

    Args:
        from_a: [n, 2], where the first view's points are in the second, pixels.
        b: [m, 2], the second view's points.
    """
    partner_a = np.full(len(from_a), UNMATCHED, np.int64)
    partner_b = np.full(len(b), UNMATCHED, np.int64)
    if not len(from_a) or not len(b):
        return partner_a, partner_b
    distance = np.linalg.norm(from_a[:, None] - b[None], axis=2)
    partner_a[distance.min(1) < _OTHER] = IGNORED
    partner_b[distance.min(0) < _OTHER] = IGNORED
    nearest_b, nearest_a = distance.argmin(1), distance.argmin(0)
    for row, column in enumerate(nearest_b):
        if nearest_a[column] == row and distance[row, column] < _SAME:
            partner_a[row], partner_b[column] = column, row
    return partner_a, partner_b


def moved(points: NDArray[Any], homography: Matrix) -> Matrix:
    """Apply a homography to points [n, 2]."""
    lifted = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ homography.T
    return np.asarray(lifted[:, :2] / lifted[:, 2:], np.float64)


def _cut(rng: np.random.Generator, photograph: Floats) -> Matrix:
    """Return the homography from the photograph to a view of a square in it."""
    height, width = photograph.shape
    side = min(float(rng.uniform(140, 260)), height - 1.0, width - 1.0)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    scale = VIEW_SIZE / side
    return np.array([[scale, 0, -scale * left], [0, scale, -scale * top], [0, 0, 1]])


def _warp(rng: np.random.Generator) -> Matrix:
    """Return a homography from the first view to the second."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (VIEW_SIZE - 1.0)
    middle = (VIEW_SIZE - 1) / 2
    angle, scale = np.deg2rad(rng.uniform(-25, 25)), np.exp(rng.uniform(-0.25, 0.25))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift, tilt = rng.uniform(-0.12, 0.12, 2) * VIEW_SIZE, rng.uniform(-0.08, 0.08, (4, 2)) * VIEW_SIZE
    target = (corners - middle) @ turn.T + middle + shift + tilt
    return np.asarray(cv2.getPerspectiveTransform(corners.astype(np.float32), target.astype(np.float32)), np.float64)


def _warped(photograph: Floats, homography: Matrix) -> Floats:
    size = (VIEW_SIZE, VIEW_SIZE)
    # Mirrored at the edge: a border of one colour would make corners of its own.
    view = cv2.warpPerspective(
        photograph, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )  # fmt: skip
    return np.asarray(view, np.float32)


def _photographed(rng: np.random.Generator, view: Floats) -> Floats:
    if rng.random() < 0.5:
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), float(rng.uniform(0.3, 1.2))), np.float32)
    lit = rng.uniform(0.6, 1.2) * view ** rng.uniform(0.8, 1.25) + rng.uniform(-0.1, 0.1)
    noisy = lit + rng.normal(0, rng.uniform(0.005, 0.04), view.shape)
    return np.asarray(np.clip(noisy, 0, 1), np.float32)


def _look(view: Floats, at_most: int) -> View:
    """Find the strongest corners and describe them."""
    inside = np.zeros(view.shape, np.uint8)
    inside[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = 1
    found = cv2.goodFeaturesToTrack(view, at_most, 0.01, 6, mask=inside)
    points = np.zeros((0, 2), np.float32) if found is None else np.asarray(found, np.float32).reshape(-1, 2)
    if not len(points):
        return View(points, np.zeros((0, DESCRIPTOR_SIZE), np.float32))
    describer = _describer()
    describer.extract(view, points[:, ::-1])
    return View(points[describer.mask], np.where(describer.descriptors, 1.0, -1.0).astype(np.float32))


@functools.cache
def _describer() -> Any:
    return BRIEF(descriptor_size=DESCRIPTOR_SIZE, patch_size=_PATCH, mode="normal", sigma=1.5, rng=0)
