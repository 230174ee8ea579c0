"""The points of one variant: batches 1, 2, 4 ... in one stream, then streams and open loops, in process and by HTTP."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from deploykit.bundle import Bundle
from deploykit.errors import ServingError
from deploykit_serving.profiling.batch_sweep import sweep
from deploykit_serving.profiling.canary import Canary, Gate
from deploykit_serving.profiling.closed_loop import Call, feed, overhead_ns
from deploykit_serving.profiling.comparison import LoadedVariants
from deploykit_serving.profiling.energy import energy
from deploykit_serving.profiling.http_call import http_call
from deploykit_serving.profiling.job import Job, Message
from deploykit_serving.profiling.layers import layers
from deploykit_serving.profiling.points import MEDIAN, Meter
from deploykit_serving.profiling.schema import Load, Point
from deploykit_serving.runtimes import RuntimeOptions, open_variant

T = TypeVar("T")
Say = Callable[[Message], None]
FIRST_POINT: Final = 0.5
LOAD_SHARE: Final = 0.25
"""Seconds of one load as a share of the seconds of the whole batch sweep."""
_SLOWEST_CALLS: Final = 25
_PATIENCE: Final = 10.0


def sweep_job(bundle: Bundle, job: Job, say: Say) -> None:
    """Measure the points of a variant that are not known yet, and say each as soon as it is finished.

    Raises:
        ServingError: the variant does not load, or fails on its inputs.
    """
    _Sweep(bundle, job, say).run()


def details_job(bundle: Bundle, job: Job, say: Say) -> None:
    """Break a variant down by layers, and read what a call takes from the machine's own counter of energy.

    Raises:
        ServingError: as :func:`sweep_job`.
    """
    say(Message(doing=f"loading {job.variant}", within=job.limit))
    loaded = LoadedVariants(bundle, job.threads, runtime=job.runtime, names=(job.variant,))
    entry, batch = loaded.entries[0], loaded.inputs.smallest_batch
    call, slow = _timed(lambda: loaded.call(entry, batch))
    within = job.limit + _PATIENCE * (job.seconds + _SLOWEST_CALLS * slow)
    say(Message(doing="reading the energy counter", within=within))
    say(Message(energy=energy(call, seconds=job.seconds / 2, device="gpu" if _on_gpu(job.runtime) else "cpu")))
    say(Message(doing="breaking it down by layers", within=within))
    inputs = loaded.inputs.batches(batch)
    found = layers(bundle.read(entry.file), inputs, job.threads, batch, job.runtime, seconds=job.seconds / 2)
    say(Message(layers=found))


class _Sweep:
    def __init__(self, bundle: Bundle, job: Job, say: Say) -> None:
        self.bundle, self.job, self.say = bundle, job, say
        say(Message(doing=f"loading {job.variant}", within=job.limit))
        self.loaded = LoadedVariants(bundle, job.threads, runtime=job.runtime, names=(job.variant,))
        self.entry = self.loaded.entries[0]
        self.inputs = self.loaded.inputs
        self.smallest = self.inputs.smallest_batch
        self.found = {(point.batch, point.load): point for point in job.known}
        say(Message(overhead_ns=overhead_ns()))
        self.canary: Canary | None = None
        gate = None
        if job.canary:
            floor = job.canary_floor_ms
            self.canary = Canary(None if floor is None else floor * 1e6)
            gate = Gate(self.canary)
        self.meter = Meter(job.percentiles, job.calls, gate)

    def run(self) -> None:
        loads = self._loads()
        job = self.job
        swept = job.seconds / (1.0 + LOAD_SHARE * len(loads))
        largest = self.loaded.largest_batch(self.entry, job.largest_batch)
        further = math.ceil(math.log2(largest / self.smallest))
        first = swept * (FIRST_POINT if further else 1.0)

        def measure(batch: int) -> float:
            seconds = first if batch == self.smallest else (swept - first) / further
            point = self._point(batch, Load(), seconds)
            median = point.percentile(MEDIAN)
            # By the median call: a few disturbed calls weigh on the mean and would end the sweep too soon.
            return batch / median.value_ms if median and median.value_ms else point.throughput

        self.say(Message(stopped=sweep(measure, largest=largest, smallest=self.smallest)))
        for load, share in loads:
            if load.through == "http" and not job.url:
                continue
            rate = None if share is None else self._rate(load, share)
            self._point(self.smallest, load.model_copy(update={"rate": rate}), swept * LOAD_SHARE)

    def _loads(self) -> list[tuple[Load, float | None]]:
        """Return the loads besides one stream in process, each with its share of the capacity if it is open."""
        job, most = self.job, max(self.job.streams)
        loads: list[tuple[Load, float | None]] = []
        for through in ("process", "http") if job.http else ("process",):
            # Shares are of what as many streams reach, so that is measured in any case.
            streams = sorted({1, *job.streams, *((most,) if job.loads else ())})
            closed = [Load(streams=count, through=through) for count in streams]
            loads += [(load, None) for load in closed if load != Load()]
            loads += [(Load(kind="open", streams=most, through=through), share) for share in job.loads]
        return loads

    def _rate(self, load: Load, share: float) -> float:
        capacity = self.found[self.smallest, Load(streams=load.streams, through=load.through)].throughput
        return float(f"{share * capacity / self.smallest:.4g}")

    def _point(self, batch: int, load: Load, seconds: float) -> Point:
        if known := self.found.get((batch, load)):
            return known
        what = f"{self.job.variant}, batch {batch}{_load_words(load)}"
        self.say(Message(doing=f"trying {what}", within=self.job.limit))
        with self._calls(batch, load) as calls:
            _, slow = _timed(calls[0])
            expected = seconds + _SLOWEST_CALLS * slow * load.streams
            self.say(Message(doing=f"measuring {what}", within=self.job.limit + _PATIENCE * expected))
            if load.kind == "open":
                point = self.meter.open(calls, batch, seconds, load)
            elif load.streams > 1:
                point = self.meter.streams(calls, batch, seconds, load)
            else:
                point = self.meter.one_stream(calls[0], batch, seconds, load)
        self.found[batch, load] = point
        floor = None if self.canary is None else self.canary.floor() / 1e6
        self.say(Message(point=point, canary_floor_ms=floor))
        return point

    @contextlib.contextmanager
    def _calls(self, batch: int, load: Load) -> Iterator[Sequence[Call]]:
        if load.through == "process":
            yield self._in_process(batch, load)
            return
        manifest, inputs = self.bundle.manifest, self.inputs.batches(batch)
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(http_call(self.job.url, manifest.name, self.entry.name, inputs, manifest.signature))
                for _ in range(load.streams)
            ]

    def _in_process(self, batch: int, load: Load) -> Sequence[Call]:
        first = self.loaded.call(self.entry, batch)
        if load == Load():
            return [first]
        # Streams take turns on the cores, as in a server: a thread that spins would take a core from them.
        options = RuntimeOptions(threads=self.job.threads, spin=False)
        session = open_variant(self.bundle, self.entry, self.job.runtime, options)
        return [feed(session, self.inputs.batches(batch)) for _ in range(load.streams)]


def _on_gpu(runtime: str) -> bool:
    return "cuda" in runtime or "tensorrt" in runtime


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.monotonic()
    try:
        found = call()
    except ServingError:
        raise
    except Exception as error:  # engines' exceptions share no base class
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ServingError(f"a call failed: {first[:300]}") from error
    return found, time.monotonic() - start


def _load_words(load: Load) -> str:
    words = "" if load == Load() else f", {load.streams} stream(s)"
    if load.kind == "open":
        words = f", {load.rate:g} requests a second"
    return words + (" through HTTP" if load.through == "http" else "")
