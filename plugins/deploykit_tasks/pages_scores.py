"""Score found text boxes against true ones: overlap, one-to-one matching, precision, recall and their H-mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Quads = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over any number of pages."""

    matched: int
    found: int
    wanted: int

    @property
    def precision(self) -> float:
        """Share of found boxes that match a true one; 1 if none was found."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of true boxes that were found; 1 if there are none."""
        return self.matched / self.wanted if self.wanted else 1.0

    @property
    def f1(self) -> float:
        """H-mean of precision and recall, 0 if nothing matches."""
        return 2 * self.matched / (self.found + self.wanted) if self.found + self.wanted else 1.0

    def text(self) -> str:
        """Return it as people write it."""
        return (
            f"F1 {self.f1:.3f} (precision {self.precision:.3f}, recall {self.recall:.3f}; "
            f"{self.matched} of {self.wanted} lines, {self.found} boxes)"
        )


def overlap(left: Quads, right: Quads) -> float:
    """Return intersection over union of two convex quads [4, 2], in [0, 1]; 0 if one has no area."""
    ours, theirs = (np.asarray(quad, np.float32) for quad in (left, right))
    areas = abs(cv2.contourArea(ours)), abs(cv2.contourArea(theirs))
    if min(areas) <= 0.0:
        return 0.0
    if (ours.max(0) < theirs.min(0)).any() or (theirs.max(0) < ours.min(0)).any():
        return 0.0
    common = float(cv2.intersectConvexConvex(ours, theirs)[0])
    return common / (areas[0] + areas[1] - common)


def covered(quad: Quads, by: Quads) -> float:
    """Return the share of ``quad``'s area that lies inside the convex quad ``by``."""
    ours = np.asarray(quad, np.float32)
    area = abs(cv2.contourArea(ours))
    return float(cv2.intersectConvexConvex(ours, np.asarray(by, np.float32))[0]) / area if area else 0.0


def score_page(found: Quads, wanted: Quads, ignored: Quads | None = None, threshold: float = 0.5) -> Score:
    """Match boxes one to one, best overlap first, and count.

    Args:
        found: [n, 4, 2].
        wanted: [m, 4, 2].
        ignored: [i, 4, 2]; a found box that lies more than half inside one of these is not counted at all.
        threshold: overlap that a match needs, at least.
    """
    if ignored is not None:
        kept = [quad for quad in found if all(covered(quad, region) <= 0.5 for region in ignored)]
        found = np.asarray(kept, np.float32).reshape(-1, 4, 2)
    pairs = [(overlap(f, w), i, j) for i, f in enumerate(found) for j, w in enumerate(wanted)]
    used_found: set[int] = set()
    used_wanted: set[int] = set()
    for value, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if value >= threshold and i not in used_found and j not in used_wanted:
            used_found.add(i)
            used_wanted.add(j)
    return Score(matched=len(used_found), found=len(found), wanted=len(wanted))


def total(scores: Iterable[Score]) -> Score:
    """Return the sum of counts, so that every line weighs the same."""
    every = list(scores)
    return Score(*(sum(getattr(score, part) for score in every) for part in ("matched", "found", "wanted")))
