"""Batch sizes 1, 2, 4 ... until a larger batch no longer pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

GAIN: Final = 0.05
PATIENCE: Final = 2


def batch_sizes(largest: int, smallest: int = 1) -> Iterator[int]:
    """Yield the smallest size, its doublings and the largest size.

    Raises:
        ValueError: the limits do not fit.
    """
    if not 1 <= smallest <= largest:
        raise ValueError(f"wanted 1 <= smallest <= largest, got {smallest} and {largest}")
    size = smallest
    while size < largest:
        yield size
        size *= 2
    yield largest


def sweep(measure: Callable[[int], float], *, largest: int, smallest: int = 1) -> str:
    """Measure growing batches until the throughput is saturated or the sizes are used up.

    Saturated means: two sizes in a row gave less than 5 % more than the best before them.

    Args:
        measure: measures one batch size and returns its throughput, samples a second.

    Returns:
        why it ended, in words.
    """
    best = 0.0
    idle = 0
    for size in batch_sizes(largest, smallest):
        found = measure(size)
        idle = 0 if found >= best * (1.0 + GAIN) else idle + 1
        best = max(best, found)
        if idle == PATIENCE:
            return f"saturated: batch {size} and the one before gained less than {GAIN:.0%}"
    return f"batch {largest} is the largest asked for or legal"
