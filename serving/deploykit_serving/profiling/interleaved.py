"""Compare two things by measuring them in turns, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.profiling.closed_loop import Call, collector_off
from deploykit_serving.profiling.statistics import Ratio, paired_ratio

_BLOCK_SECONDS: Final = 0.001
_LARGEST_BLOCK: Final = 50


@dataclass(frozen=True, slots=True)
class Pairs:
    """What an interleaved run measured: the median of each block, nanoseconds a call; both of shape (pairs,)."""

    baseline: NDArray[np.float64]
    variant: NDArray[np.float64]
    block: int

    @property
    def ratio(self) -> Ratio:
        """How many times as fast as the baseline the variant is."""
        return paired_ratio(self.baseline, self.variant)


def interleave(
    baseline: Call,
    variant: Call,
    *,
    seconds: float,
    at_most: int = 400,
    at_least: int = 20,
    block: int | None = None,
    seed: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Pairs:
    """Time two calls in pairs of blocks, each pair in random order.

    Warm both up before. The calls inside a block are reduced to their median.

    Args:
        seconds: no pair is begun after this, once ``at_least`` were measured.
        at_most: how many pairs to measure.
        block: calls a block; by default as many as take a millisecond of the slower one, at most 50.
        seed: of the order.
        clock: nanoseconds; ``time.thread_time_ns`` leaves out the time in which this thread had to wait for a core.

    Raises:
        ValueError: the counts do not fit.
    """
    if not 1 <= at_least <= at_most:
        raise ValueError(f"wanted 1 <= at_least <= at_most, got {at_least} and {at_most}")
    order = np.random.default_rng(seed)
    times = np.empty((2, at_most), dtype=np.float64)
    calls = (baseline, variant)
    made = 0
    with collector_off():
        size = _block_size(calls, clock) if block is None else block
        scratch = np.empty(size, dtype=np.int64)
        deadline = time.monotonic() + seconds
        for pair in range(at_most):
            if pair >= at_least and time.monotonic() >= deadline:
                break
            for which in order.permutation(2):
                times[which, pair] = _block(calls[which], scratch, clock)
            made = pair + 1
    return Pairs(baseline=times[0, :made].copy(), variant=times[1, :made].copy(), block=size)


def _block(call: Call, scratch: NDArray[np.int64], clock: Callable[[], int]) -> float:
    for index in range(len(scratch)):
        start = clock()
        call()
        scratch[index] = clock() - start
    return float(np.median(scratch))


def _block_size(calls: tuple[Call, Call], clock: Callable[[], int]) -> int:
    scratch = np.empty(3, dtype=np.int64)
    slower = max(_block(call, scratch, clock) for call in calls)
    return int(np.clip(_BLOCK_SECONDS * 1e9 / max(slower, 1.0), 1, _LARGEST_BLOCK))
