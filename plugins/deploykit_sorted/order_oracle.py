"""Slow, obvious reference of a stable sort: how many items come before each one, counted pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def counted_places(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return each item's place: the items with a smaller score, and those with the same score that stand before it.

    Args:
        scores: (batch, items).

    >>> counted_places(np.array([[2.0, 1.0, 1.0]]))
    array([[2, 0, 1]])
    """
    places = np.zeros(scores.shape, np.int64)
    for row, item in np.ndindex(scores.shape):
        for other in range(scores.shape[1]):
            same = scores[row, other] == scores[row, item]
            if scores[row, other] < scores[row, item] or (same and other < item):
                places[row, item] += 1
    return places
