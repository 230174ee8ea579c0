"""Requests that come when they come: Poisson arrivals, and latency from the moment a request was meant to be sent.

A closed loop stops asking while the server stalls, and so never sees what users would have waited (coordinated
omission). Here the moments of sending are drawn beforehand; whatever the answers do, they stay.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.profiling.closed_loop import Call
from deploykit_serving.profiling.request_log import OpenRun, RequestLog, summed_up
from deploykit_serving.profiling.streams import run_threads
from deploykit_serving.profiling.waiting import Waiting

__all__ = ["OpenRun", "arrivals", "open_loop"]

DEFAULT_STREAMS: Final = 4


def open_loop(
    call: Call | Sequence[Call],
    *,
    rate: float,
    seconds: float,
    streams: int | None = None,
    seed: int = 0,
    at_most: int = 1_000_000,
) -> OpenRun:
    """Send requests at the moments of a Poisson process, whatever the answers do.

    Warm the calls up before. The queue has no bound; a request waits until one of the streams is free.

    Args:
        call: made by all streams at once, or one for each stream (a connection of its own).
        rate: requests a second on average.
        seconds: how long requests come. Those that wait then are still answered, but for no longer than half as long
            again, at least a second; what is unanswered after that makes the run invalid.
        streams: how many requests may be under way at once; as many as there are calls, or 4 for one call.
        seed: of the moments.
        at_most: requests; the run is shorter if they are used up.

    Raises:
        ValueError: a number is out of range, or there are more or fewer calls than streams.
        Exception: the first error that a call raised.
    """
    calls = _calls(call, streams)
    log = RequestLog(arrivals(rate, seconds, seed, at_most))
    limit = int(max(1.5 * seconds, seconds + 1.0) * 1e9)
    turn = itertools.count()  # next() on it is atomic
    waiting = Waiting(rate)
    origin = [0]

    def set_origin() -> None:
        origin[0] = time.perf_counter_ns()

    start = threading.Barrier(len(calls), action=set_origin)

    def stream(index: int, stopped: threading.Event) -> None:
        waiting.prepare()
        start.wait()
        _serve(calls[index], log, turn, origin[0], limit, waiting, stopped)

    run_threads(stream, len(calls))
    return summed_up(log, rate, len(calls))


def arrivals(rate: float, seconds: float, seed: int, at_most: int = 1_000_000) -> NDArray[np.int64]:
    """Draw the moments of a Poisson process, nanoseconds from the start, ascending.

    Returns:
        shape (requests,); one at the end of the time if none falls into it.

    Raises:
        ValueError: a number is not above 0.
    """
    if not (math.isfinite(rate) and rate > 0 and math.isfinite(seconds) and seconds > 0 and at_most > 0):
        raise ValueError(f"wanted rate, seconds and at_most above 0, got {rate}, {seconds} and {at_most}")
    random = np.random.default_rng(seed)
    likely = rate * seconds
    moments = np.cumsum(random.exponential(1.0 / rate, size=int(min(likely + 6.0 * math.sqrt(likely) + 10, at_most))))
    inside = moments[: max(int(np.searchsorted(moments, seconds)), 1)]
    return (np.minimum(inside, seconds) * 1e9).astype(np.int64)


def _calls(call: Call | Sequence[Call], streams: int | None) -> list[Call]:
    if streams is not None and streams < 1:
        raise ValueError(f"wanted at least 1 stream, got {streams}")
    if not isinstance(call, Sequence):
        return [call] * (DEFAULT_STREAMS if streams is None else streams)
    if not call or streams not in (None, len(call)):
        raise ValueError(f"wanted one call for each of {streams or 'some'} streams, got {len(call)}")
    return list(call)


def _serve(
    call: Call, log: RequestLog, turn: itertools.count[int], origin: int, limit: int, waiting: Waiting,
    stopped: threading.Event,
) -> None:  # fmt: skip
    clock = time.perf_counter_ns
    for index in turn:
        taken = clock() - origin
        if index >= len(log.due) or taken >= limit:
            return
        log.taken[index] = taken
        waiting.until(origin + int(log.due[index]), stopped)
        if stopped.is_set():
            return
        log.begun[index] = clock() - origin
        call()
        log.ended[index] = clock() - origin
