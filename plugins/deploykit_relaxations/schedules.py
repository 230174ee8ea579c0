"""How a temperature, or a steepness, moves from its first to its last value in the course of training."""

from __future__ import annotations

import math


def geometric_schedule(progress: float, start: float, end: float) -> float:
    """Return a temperature that falls by the same factor in every step of equal size.

    Args:
        progress: share of training done, from 0 to 1.
        start: value at 0, > 0.
        end: value at 1, > 0.

    >>> [round(geometric_schedule(progress, 1.0, 0.01), 3) for progress in (0.0, 0.5, 1.0)]
    [1.0, 0.1, 0.01]
    """
    return float(start * (end / start) ** progress)


def linear_schedule(progress: float, start: float, end: float) -> float:
    """Return a value that moves by the same amount in every step of equal size.

    Args:
        progress: share of training done, from 0 to 1.
        start: value at 0.
        end: value at 1; 0 is reached exactly, which a temperature must not.

    >>> [linear_schedule(progress, 1.0, 0.5) for progress in (0.0, 0.5, 1.0)]
    [1.0, 0.75, 0.5]
    """
    return (1 - progress) * start + progress * end


def cosine_schedule(progress: float, start: float, end: float) -> float:
    """Return a value that moves slowly at both ends and fastest halfway.

    Args:
        progress: share of training done, from 0 to 1.
        start: value at 0.
        end: value at 1.

    >>> [round(cosine_schedule(progress, 1.0, 0.0), 3) for progress in (0.0, 0.25, 0.5, 1.0)]
    [1.0, 0.854, 0.5, 0.0]
    """
    return linear_schedule((1 - math.cos(math.pi * progress)) / 2, start, end)


def stepped_schedule(progress: float, start: float, end: float, levels: int) -> float:
    """Return one of so many values in equal ratios, each for the same share of training.

    Args:
        progress: share of training done, from 0 to 1.
        start: the first value, > 0.
        end: the last value, > 0.
        levels: number of values, >= 2.

    Raises:
        ValueError: fewer than 2 levels.

    >>> [round(stepped_schedule(progress, 1.0, 0.01, levels=3), 3) for progress in (0.0, 0.3, 0.4, 0.9, 1.0)]
    [1.0, 1.0, 0.1, 0.01, 0.01]
    """
    if levels < 2:
        raise ValueError(f"stepped_schedule: levels must be at least 2, from start to end, got {levels}")
    level = min(int(progress * levels), levels - 1)
    return geometric_schedule(level / (levels - 1), start, end)
