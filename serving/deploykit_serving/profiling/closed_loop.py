"""One stream: the next call starts when the last has returned, and each is timed."""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.signature import Arrays
from deploykit_serving.profiling.stability import Stability, warm_up
from deploykit_serving.runtimes import Session

Call = Callable[[], object]
_WINDOW_SECONDS: Final = 0.02
_WINDOW_CALLS: Final = 5
_OVERHEAD_CALLS: Final = 2001


def feed(session: Session, inputs: Sequence[Arrays]) -> Call:
    """Return a call that runs a session on one input after the other, over and over.

    A data-dependent model is measured on all the routes its inputs take, not on one.
    """
    turns = itertools.cycle(inputs)
    return lambda: session.run(next(turns))


def record(call: Call, *, seconds: float, at_most: int, at_least: int = 1) -> NDArray[np.int64]:
    """Time calls one by one, with the garbage collector off.

    Args:
        seconds: no call is begun after this, once ``at_least`` have been made.
        at_most: how many calls to make.

    Returns:
        nanoseconds a call, in order; shape (calls,).

    Raises:
        ValueError: the counts do not fit.
    """
    if not 1 <= at_least <= at_most:
        raise ValueError(f"wanted 1 <= at_least <= at_most, got {at_least} and {at_most}")
    times = np.empty(at_most, dtype=np.int64)
    clock = time.perf_counter_ns
    made = 0
    with collector_off():
        deadline = clock() + int(seconds * 1e9)
        for index in range(at_most):
            start = clock()
            if start >= deadline and index >= at_least:
                break
            call()
            times[index] = clock() - start
            made = index + 1
    return times[:made].copy()


def settle(call: Call, *, seconds: float) -> Stability:
    """Warm a call up until its window medians agree; a window lasts 20 ms and at least five calls."""

    def window() -> float:
        return float(np.median(record(call, seconds=_WINDOW_SECONDS, at_most=10_000, at_least=_WINDOW_CALLS)))

    with collector_off():
        return warm_up(window, seconds=seconds)


def overhead_ns() -> float:
    """Measure what the loop reads when nothing is called: nanoseconds, the median; part of every timing."""
    nothing: Call = _nothing
    return float(np.median(record(nothing, seconds=1.0, at_most=_OVERHEAD_CALLS)))


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Collect garbage now and then keep the collector off, so that no pause of it falls into a timing.

    Nested in itself it does nothing: a collection may take longer than what is measured.
    """
    was_on = gc.isenabled()
    if was_on:
        gc.collect()
        gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def throughput(times: NDArray[Any], batch: int) -> float:
    """Return samples a second of one stream.

    Shapes:
        times: (calls,), nanoseconds.
    """
    return float(batch * len(times) / (times.sum() * 1e-9))


def _nothing() -> None:
    return None
