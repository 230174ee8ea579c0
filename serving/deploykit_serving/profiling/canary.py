"""A fixed little network beside every measurement: while it is slow, the machine is disturbed and nothing counts.

Measured on shared machines: disturbances last seconds and slow everything by 1.2 to 1.7 times. Rejecting windows in
which the canary was more than 4 % above its floor took the error of latency tables from 7.5 % to 1.8 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import MissingExtraError
from deploykit_serving.profiling.canary_model import CANARY_FILE, canary_input
from deploykit_serving.profiling.closed_loop import Call, collector_off, record

TOLERANCE: Final = 0.04
_WARM_RUNS: Final = 2  # what was measured before has taken the caches
_TIMED_RUNS: Final = 7
_FIRST_READINGS: Final = 50
_MANY_CALLS: Final = 10


class Reader(Protocol):
    """What a gate needs of a canary."""

    def read(self) -> float:
        """Return how long the reference takes now, nanoseconds."""
        ...

    def floor(self) -> float:
        """Return how long it takes at its best, nanoseconds."""
        ...


class Canary:
    """The reference network in ONNX Runtime on one thread, about 0.1 ms a run.

    Args:
        floor_ns: its floor as known from an earlier run on this host; a machine that is slower all the while then
            does not pass for one at rest.

    Raises:
        MissingExtraError: ONNX Runtime is missing.
    """

    def __init__(self, floor_ns: float | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "serve") from error
        # Settings of its own: whatever becomes of the runtimes, the canary must stay the same.
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            CANARY_FILE.read_bytes(), sess_options=settings, providers=["CPUExecutionProvider"]
        )
        inputs = canary_input()
        self._call: Call = lambda: session.run(None, inputs)
        self._floor = floor_ns
        self._looked = False

    def read(self) -> float:
        """Run it nine times, 1 ms, and return the median of the last seven; lowers the floor if it is below it."""
        times = np.empty(_WARM_RUNS + _TIMED_RUNS, dtype=np.int64)
        for index in range(len(times)):
            start = time.perf_counter_ns()
            self._call()
            times[index] = time.perf_counter_ns() - start
        reading = float(np.median(times[_WARM_RUNS:]))
        self._floor = reading if self._floor is None else min(self._floor, reading)
        return reading

    def floor(self) -> float:
        """Return the smallest reading so far, nanoseconds; looks fifty times before it answers first."""
        if not self._looked:
            self._looked = True
            with collector_off():
                for _ in range(_FIRST_READINGS):
                    self.read()
        assert self._floor is not None
        return self._floor


@dataclass(frozen=True, slots=True)
class Gated:
    """What was measured while the machine was at rest.

    Attributes:
        times: nanoseconds a call of the windows that were kept, in order; shape (calls,).
        everything: of all windows, rejected ones too; what the tail of a distribution is told by.
        blocks_ms: the median of each of them that was kept, milliseconds; what two runs are compared by.
        rejected: share of all calls made that lay in windows the canary rejected.
        at_rest: whether the kept windows are those that the canary accepted, and hold as many calls as were wanted; if
            not, they are the least disturbed ones and the figures are to be taken with care.
        floor_ns: the canary at its best, by which the windows were judged.
    """

    times: NDArray[np.int64]
    everything: NDArray[np.int64]
    blocks_ms: tuple[float, ...]
    rejected: float
    at_rest: bool
    floor_ns: float


class Gate:
    """Lets pass what was measured while the canary was within a tolerance of its floor.

    The canary runs on one core. Of a disturbance that only hits the other threads of a measurement it knows nothing.

    Args:
        canary: shared by all gates of a process, as its floor is.
        tolerance: by how much, as a share, it may be slower than its floor.
        clock: seconds.
    """

    def __init__(
        self, canary: Reader, tolerance: float = TOLERANCE, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not tolerance > 0:
            raise ValueError(f"the canary's tolerance is a share above 0, 0.04 for 4 %; got {tolerance}")
        self.canary = canary
        self.tolerance = tolerance
        self._clock = clock

    def record(self, call: Call, *, seconds: float, at_least: int, at_most: int, window_seconds: float = 0.02) -> Gated:
        """Time calls one by one in windows, with a look at the canary between windows.

        Ends when ``at_most`` calls were accepted, or ``seconds`` are over and ``at_least`` calls were accepted. With
        the time over and fewer accepted it goes on until twice ``at_least`` calls were made and then gives up, so that
        it ends on a machine that never rests.

        Raises:
            ValueError: the counts do not fit.
        """
        many = False

        def measure(duration: float) -> NDArray[np.int64]:
            nonlocal many
            if many:
                call()  # untimed: the canary has taken the caches, and one cold call a window would show in the tail
            times = record(call, seconds=duration, at_most=at_most)
            many = len(times) >= _MANY_CALLS
            return times

        return self.windows(measure, seconds=seconds, at_least=at_least, at_most=at_most, window_seconds=window_seconds)

    def windows(
        self,
        measure: Callable[[float], NDArray[np.int64]],
        *,
        seconds: float,
        at_least: int,
        at_most: int,
        window_seconds: float,
    ) -> Gated:
        """Do the same with any way to measure a window, several streams for example.

        Args:
            measure: told for how many seconds; returns nanoseconds a call, at least one.
        """
        if not 1 <= at_least <= at_most:
            raise ValueError(f"wanted 1 <= at_least <= at_most, got {at_least} and {at_most}")
        with collector_off():
            self.canary.floor()
            windows: list[NDArray[np.int64]] = []
            levels: list[float] = []  # of each window, the worse look at the canary, before or after
            deadline = self._clock() + seconds
            before, made, accepted = self.canary.read(), 0, 0
            while accepted < at_most:
                if self._clock() >= deadline and (accepted >= at_least or made >= 2 * at_least):
                    break
                windows.append(measure(window_seconds))
                after = self.canary.read()
                levels.append(max(before, after))
                made += len(windows[-1])
                # All of them again: the floor may have sunk, and what passed under the old one must pass the new one.
                accepted = _calls(windows, self._passing(levels))
                before = after
            return self._kept(windows, levels, at_least, at_most)

    def quiet(self) -> bool:
        """Look once, for a millisecond: is the machine quiet now?"""
        return bool(self._passing([self.canary.read()])[0])

    def _passing(self, levels: list[float]) -> NDArray[np.bool_]:
        passing: NDArray[np.bool_] = np.asarray(levels) <= self.canary.floor() * (1.0 + self.tolerance)
        return passing

    def _kept(self, windows: list[NDArray[np.int64]], levels: list[float], at_least: int, at_most: int) -> Gated:
        passing = self._passing(levels)
        made, accepted = sum(map(len, windows)), _calls(windows, passing)
        at_rest = accepted >= at_least
        if not at_rest:
            quietest = np.argsort(levels, kind="stable")
            enough = np.searchsorted(np.cumsum([len(windows[index]) for index in quietest]), at_least) + 1
            passing = np.zeros(len(windows), dtype=np.bool_)
            passing[quietest[:enough]] = True
        kept = [window for window, passes in zip(windows, passing, strict=True) if passes]
        return Gated(
            times=np.concatenate(kept)[:at_most],
            everything=np.concatenate(windows),
            blocks_ms=tuple(float(np.median(window)) / 1e6 for window in kept),
            rejected=1.0 - accepted / made,
            at_rest=at_rest,
            floor_ns=self.canary.floor(),
        )


def _calls(windows: list[NDArray[np.int64]], passing: NDArray[np.bool_]) -> int:
    return sum(len(window) for window, passes in zip(windows, passing, strict=True) if passes)
