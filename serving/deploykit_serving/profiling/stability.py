"""Warm up until the timings stand still, or say that they never did."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

TOLERANCE: Final = 0.10
WINDOWS: Final = 3


@dataclass(frozen=True, slots=True)
class Stability:
    """How a warm-up went.

    Attributes:
        stable: whether the last three windows agreed.
        windows: how many windows it took, or were tried.
        spread: largest over smallest median of the last three windows, less 1; ``None`` with fewer windows.
    """

    stable: bool
    windows: int
    spread: float | None


def warm_up(
    window: Callable[[], float],
    *,
    seconds: float,
    at_most: int = 50,
    tolerance: float = TOLERANCE,
    clock: Callable[[], float] = time.monotonic,
) -> Stability:
    """Run windows until the medians of three in a row lie within 10 % of each other.

    Args:
        window: measures one window and returns its median, any unit.
        seconds: no window is begun after this; three are run in any case.
        at_most: how many windows to try.

    Raises:
        ValueError: fewer than three windows were allowed.
    """
    if at_most < WINDOWS:
        raise ValueError(f"stability takes {WINDOWS} windows, got at_most={at_most}")
    deadline = clock() + seconds
    medians: list[float] = []
    spread: float | None = None
    while len(medians) < at_most and (len(medians) < WINDOWS or clock() < deadline):
        medians.append(window())
        if len(medians) < WINDOWS:
            continue
        last = medians[-WINDOWS:]
        spread = max(last) / min(last) - 1.0 if min(last) > 0 else float("inf")
        if spread <= tolerance:
            return Stability(stable=True, windows=len(medians), spread=spread)
    return Stability(stable=False, windows=len(medians), spread=spread)
