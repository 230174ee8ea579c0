"""From calls to a point of a profile: one stream, several streams, an open loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.profiling.canary import Gate
from deploykit_serving.profiling.closed_loop import Call, record, settle, throughput
from deploykit_serving.profiling.dependence import effective_count
from deploykit_serving.profiling.histogram import Histogram
from deploykit_serving.profiling.open_loop import open_loop
from deploykit_serving.profiling.schema import Load, PercentileEntry, Point
from deploykit_serving.profiling.statistics import percentile, samples_needed
from deploykit_serving.profiling.streams import run_streams

MEDIAN: Final = 0.5
NOT_AT_REST: Final = (
    "the machine was never at rest: the canary rejected too many windows; profile again when it is idle"
)
_WARM_UP: Final = 0.3
_MOST_REJECTED: Final = 0.95
_BLOCKS: Final = 50
_BLOCK_CALLS: Final = 5


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures points.

    Attributes:
        percentiles: as shares.
        calls: how many timed calls a point rests on at the most.
        gate: rejects noisy windows of one stream; several streams are their own noise and are not gated.
    """

    percentiles: tuple[float, ...]
    calls: int
    gate: Gate | None = None

    def one_stream(self, call: Call, batch: int, seconds: float, load: Load) -> Point:
        """Measure calls one after the other.

        Args:
            seconds: with the warm-up; slow calls overrun it, for a median takes seven of them.
        """
        stability = settle(call, seconds=seconds * _WARM_UP)
        seconds *= 1.0 - _WARM_UP
        at_least = min(samples_needed(MEDIAN), self.calls)
        rejected, invalid, blocks, everything = None, "", None, None
        if self.gate is None:
            times = record(call, seconds=seconds, at_most=self.calls, at_least=at_least)
        else:
            gated = self.gate.record(call, seconds=seconds, at_least=at_least, at_most=self.calls)
            times, blocks, rejected = gated.times, gated.blocks_ms, gated.rejected
            invalid = "" if gated.at_rest and gated.rejected <= _MOST_REJECTED else NOT_AT_REST
            everything = gated.everything
        return Point(
            batch=batch,
            load=load,
            stable=stability.stable,
            spread=stability.spread,
            throughput=throughput(times, batch),
            rejected=rejected,
            invalid=invalid,
            **self._distribution(times, blocks, everything),
        )

    def streams(self, calls: Sequence[Call], batch: int, seconds: float, load: Load) -> Point:
        """Measure several streams at once, each on a thread of its own."""
        stability = settle(calls[0], seconds=seconds * _WARM_UP)
        run = run_streams(calls, seconds=seconds * (1.0 - _WARM_UP), at_most=max(1, self.calls // len(calls)))
        return Point(
            batch=batch,
            load=load,
            stable=stability.stable,
            spread=stability.spread,
            throughput=run.throughput * batch,
            **self._distribution(run.times, dependent=True),
        )

    def open(self, calls: Sequence[Call], batch: int, seconds: float, load: Load) -> Point:
        """Measure requests that come at random moments, whatever the answers do.

        Raises:
            ValueError: the load has no rate.
        """
        if load.rate is None:
            raise ValueError("an open loop needs a rate")
        stability = settle(calls[0], seconds=seconds * _WARM_UP)
        run = open_loop(
            calls, rate=load.rate, seconds=seconds * (1.0 - _WARM_UP), streams=len(calls), at_most=self.calls
        )
        return Point(
            batch=batch,
            load=load,
            stable=stability.stable,
            spread=stability.spread,
            throughput=run.throughput * batch,
            invalid=run.invalid,
            **self._distribution(run.times, dependent=True),
        )

    def _distribution(
        self,
        times: NDArray[np.int64],
        blocks: tuple[float, ...] | None = None,
        everything: NDArray[np.int64] | None = None,
        *,
        dependent: bool = False,
    ) -> dict[str, Any]:
        """Put a point's numbers together.

        Args:
            times: of the calls that were kept; the median is theirs.
            everything: also of those the canary rejected. The tail is theirs: a machine that stalls makes real requests
                wait, and a canary that hid the stalls would promise a p99 that nobody gets.
            dependent: waiting in line makes the next one wait, so the calls are worth fewer than they are.
        """
        everything = times if everything is None else everything
        histogram = Histogram()
        histogram.record_many(everything)

        def entry(q: float) -> PercentileEntry:
            chosen = times if q <= MEDIAN else everything
            return _entry(chosen / 1e6, q, effective_count(chosen, q) if dependent else None)

        return {
            "calls": len(times),
            "percentiles": tuple(entry(q) for q in self.percentiles),
            "histogram": histogram.encode(),
            "blocks_ms": block_medians(times) if blocks is None else blocks,
        }


def block_medians(times: NDArray[Any]) -> tuple[float, ...]:
    """Return the medians of up to 50 blocks of consecutive calls, milliseconds; a block holds five calls at least.

    Shapes:
        times: (calls,), nanoseconds.
    """
    count = min(_BLOCKS, len(times) // _BLOCK_CALLS)
    if not count:
        return ()
    return tuple(float(np.median(block)) / 1e6 for block in np.array_split(times, count))


def _entry(milliseconds: NDArray[np.float64], q: float, independent: int | None) -> PercentileEntry:
    found = percentile(milliseconds, q, independent=independent)
    return PercentileEntry(
        q=q,
        samples=found.samples,
        needed=found.needed,
        value_ms=found.value,
        low_ms=found.low,
        high_ms=found.high,
        bound_ms=found.bound,
    )
