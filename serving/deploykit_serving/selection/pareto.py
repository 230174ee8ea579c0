"""The Pareto front of metric against latency: what no other variant beats in one without losing in the other."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float | None, float]]) -> tuple[int, ...]:
    """Return which points are on the front, the best metric first.

    A point is on it if no other has a metric at least as good and a latency at least as short, one of them better. Of
    points that are equal in both, only the first is.

    Args:
        points: metric (larger is better, ``None`` is below every number) and latency (shorter is better), one a
            variant; no NaN.

    Returns:
        positions in ``points``.
    """
    order = sorted(range(len(points)), key=lambda index: (-rank(points[index][0]), points[index][1], index))
    front: list[int] = []
    shortest = math.inf
    for index in order:
        if points[index][1] < shortest:
            front.append(index)
            shortest = points[index][1]
    return tuple(front)


def rank(metric: float | None) -> float:
    """Return a metric as a number to sort by; one that is not known comes below all that are."""
    return -math.inf if metric is None else metric
