"""Several closed loops at once: n streams on n threads, started together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.profiling.closed_loop import Call, collector_off


@dataclass(frozen=True, slots=True)
class StreamsRun:
    """What the streams measured.

    Attributes:
        times: nanoseconds a call of all streams, in the order in which the calls ended; shape (calls,). Calls that were
            begun after the first stream had made its last one are left out: they had the machine more to themselves.
        throughput: calls a second of all streams together, counted until the first stream had made its last call.
        fairness: calls of the slowest stream over calls of the fastest one, 0 to 1.
    """

    times: NDArray[np.int64]
    throughput: float
    fairness: float


def run_streams(calls: Sequence[Call], *, seconds: float, at_most: int) -> StreamsRun:
    """Run one closed loop for each call, each on a thread of its own, all let go at the same moment.

    Args:
        calls: one a stream; the same one several times if it may be called from several threads.
        seconds: no call is begun after this; every stream makes one call at the least.
        at_most: how many calls each stream makes.

    Raises:
        ValueError: there is no call, or ``at_most`` is below 1.
        Exception: the first error that a call raised; the other streams end after the call under way.
    """
    if not calls or at_most < 1:
        raise ValueError(f"wanted at least one stream and one call, got {len(calls)} streams and at_most={at_most}")
    # Begin and end of every call; nanoseconds since the common start.
    recorded = [np.zeros((2, at_most), dtype=np.int64) for _ in calls]
    made = [0] * len(calls)
    origin = [0]

    def set_origin() -> None:
        origin[0] = time.perf_counter_ns()

    start = threading.Barrier(len(calls), action=set_origin)

    def stream(index: int, stopped: threading.Event) -> None:
        start.wait()
        made[index] = _loop(calls[index], recorded[index], origin[0], int(seconds * 1e9), stopped)

    run_threads(stream, len(calls))
    begun = [times[0, :count] for times, count in zip(recorded, made, strict=True)]
    ended = [times[1, :count] for times, count in zip(recorded, made, strict=True)]
    all_begun, all_ended = np.concatenate(begun), np.concatenate(ended)
    order = np.argsort(all_ended, kind="stable")
    together = min(int(ends[-1]) for ends in ended)
    # By when they began: by when they ended, the slow ones among the last would be left out rather than the quick ones.
    order = order[all_begun[order] < together]
    return StreamsRun(
        times=(all_ended - all_begun)[order],
        throughput=float(np.count_nonzero(all_ended <= together) / (together * 1e-9)),
        fairness=min(made) / max(made),
    )


def run_threads(work: Callable[[int, threading.Event], None], count: int) -> None:
    """Run ``work(index, stopped)`` on threads of their own, with the garbage collector off, and wait for all.

    The first error sets ``stopped`` and is raised here once all have ended; so does an interrupt from outside.

    Args:
        work: must look at ``stopped`` often enough.
    """
    stopped = threading.Event()
    errors: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index, stopped)
        except BaseException as error:  # a thread has nobody to raise to; its starter raises it
            errors.append(error)
            stopped.set()

    threads = [threading.Thread(target=guarded, args=[index], daemon=True) for index in range(count)]
    with collector_off():
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            stopped.set()
            raise
    if errors:
        raise errors[0]


def _loop(call: Call, times: NDArray[np.int64], origin: int, limit: int, stopped: threading.Event) -> int:
    clock = time.perf_counter_ns
    begins, ends = times
    for index in range(len(begins)):
        begin = clock() - origin
        if stopped.is_set() or (index and begin >= limit):
            return index
        call()
        begins[index], ends[index] = begin, clock() - origin
    return len(begins)
