"""How long a variant will take: what was measured, and how far this machine is off that just now."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from deploykit_serving.selection.deployment import Latency

HALF_LIFE: Final = 10.0
"""Seconds after which half of what was observed is forgotten, if nothing more is."""
_STEP: Final = 0.1


class LatencyCurve:
    """Seconds by batch size, at one percentile.

    Between two measured sizes the smaller of two upper bounds counts: the time of the next larger size, which holds
    if more samples never take less time, and the time of the next smaller one grown with the number of samples, which
    holds if a larger batch does not cost more a sample. Beyond the largest size only the second is left.

    Args:
        latencies: measured, by batch size in ascending order.
        percentile: a name among their ``ms``; sizes at which the sample did not support it are left out.

    Raises:
        ValueError: no size has it.
    """

    def __init__(self, latencies: Sequence[Latency], percentile: str) -> None:
        known = sorted((entry.batch, entry.ms[percentile]) for entry in latencies if percentile in entry.ms)
        if not known:
            raise ValueError(f"{percentile} is known at no batch size")
        self._batches = [batch for batch, _ in known]
        # Noise may have made a larger batch the faster one; the first bound needs times that never fall.
        self._seconds = list(accumulate((ms / 1e3 for _, ms in known), max))

    def seconds(self, size: float) -> float:
        """Return the time for a batch of any size; below the smallest measured one it is that one's."""
        place = bisect_left(self._batches, size)
        if place == len(self._batches):
            return self._seconds[-1] * size / self._batches[-1]
        above = self._seconds[place]
        if not place or self._batches[place] == size:
            return above
        a_sample = self._seconds[place - 1] / self._batches[place - 1]
        # Where the next larger size was seen to cost more a sample, the second bound does not hold.
        return above if a_sample * self._batches[place] < above else min(above, a_sample * size)


class Correction:
    """Observed over predicted time as a running percentile; at least 1, for nothing is promised that was not measured.

    An answer that took longer than predicted raises the factor by ``0.1 q`` in logarithm, another lowers it by
    ``0.1 (1 - q)``: where it rests, a share of ``1 - q`` takes longer. A machine at half its speed is noticed after
    some seven answers. Source: Robbins and Monro (1951), stochastic approximation of a quantile.

    A variant that looks slow is not chosen, and so would never be seen again to have become fast: without
    observations the factor returns to 1, half of the way (in logarithm) in ten seconds.

    Args:
        share: the percentile, 0.99.
    """

    __slots__ = ("_level", "_share", "_when")

    def __init__(self, share: float) -> None:
        self._share = share
        self._level = 0.0
        self._when = 0.0

    def factor(self, now: float) -> float:
        """Return what a prediction is multiplied by at a time in seconds."""
        return math.exp(self._faded(now)) if self._level else 1.0

    def observe(self, ratio: float, now: float) -> None:
        """Take in that an answer took ``ratio`` times as long as was predicted without a correction."""
        level = self._faded(now)
        step = self._share if ratio > math.exp(level) else self._share - 1
        self._level = max(0.0, level + _STEP * step)
        self._when = now

    def _faded(self, now: float) -> float:
        return float(self._level * 0.5 ** (max(0.0, now - self._when) / HALF_LIFE))
