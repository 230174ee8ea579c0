"""One candidate against what is asked for: what it lacks, by how much, and the latency that counts.

A latency counts by its *bound*: with 99 % confidence the true percentile is not above it (MLPerf's early-stopping
estimate, :func:`deploykit_serving.profiling.statistics.percentile`). It lies above the measured percentile and, with
the smallest sample that supports one, is the largest measurement. A percentile that the sample does not support is
no latency at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from deploykit_serving.profiling.schema import Comparison, Load, PercentileEntry, Point
from deploykit_serving.profiling.significance import SIGNIFICANCE
from deploykit_serving.selection.candidates import Candidate
from deploykit_serving.selection.request import Request, load_text, measured_load_text
from deploykit_serving.selection.units import percentile_name, size_text, time_text

_SAME_SHARE: Final = 1e-9
_MIB: Final = 2**20
_ON_GPU: Final = frozenset({"onnxruntime-cuda", "tensorrt", "tensorrt-rtx"})


@dataclass(frozen=True, slots=True)
class Miss:
    """A constraint that a candidate was measured to violate.

    Attributes:
        what: ``p99``, the metric's name, ``memory`` or ``size``.
        relative: the amount missed as a share of what was asked for.
        text: what was measured and by how much that is too much or too little.
    """

    what: str
    relative: float
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out for one candidate.

    Attributes:
        latency_ms: the bound of the percentile that was asked for; ``None`` if nothing supports one.
        measured_ms: the percentile itself.
        load: under which it was measured; of an open loop it may be a faster one than asked for.
        faults: why it cannot be trusted or was not asked for; such a candidate is never chosen and never the nearest.
        misses: constraints it violates.
        pareto: whether it is on the front of those that meet everything.
    """

    candidate: Candidate
    latency_ms: float | None
    measured_ms: float | None
    faults: tuple[str, ...]
    misses: tuple[Miss, ...]
    pareto: bool = False
    load: Load | None = None

    @property
    def meets(self) -> bool:
        """Whether it may be chosen."""
        return not self.faults and not self.misses

    @property
    def nearness(self) -> float:
        """The largest relative violation."""
        return max((miss.relative for miss in self.misses), default=0.0)


def judge(candidate: Candidate, request: Request) -> Verdict:
    """Hold one candidate against a request."""
    faults = [*candidate.faults, *_not_asked_for(candidate, request)]
    if not request.allow_slower:
        faults += _slower(candidate, request.batch)
    point = find_point(candidate.points, request.batch, request.load)
    entry = None
    # Of what failed altogether nothing more need be said.
    if not candidate.faults:
        entry, said = _supported(candidate, point, request)
        faults += [said] if said else []
    latency = None if entry is None else counted(entry)
    misses = list(_misses(candidate, request, latency))
    faults += _memory_unknown(candidate, request)
    if not candidate.faults:
        faults += _metric_unknown(candidate, request)
    return Verdict(
        candidate=candidate,
        latency_ms=latency,
        measured_ms=None if entry is None else entry.value_ms,
        faults=tuple(faults),
        misses=tuple(misses),
        load=None if entry is None or point is None else point.load,
    )


def find_point(points: Iterable[Point], batch: int, load: Load) -> Point | None:
    """Return what was measured at a batch size under a load.

    Of open loops those with the fewest streams, as waiting only falls with more of them, and of these the slowest that
    is at least as fast as asked for, as waiting only grows with the rate.
    """
    found = [
        item for item in points if (item.batch, item.load.through, item.load.kind) == (batch, load.through, load.kind)
    ]
    if load.kind == "closed":
        return next((item for item in found if item.load.streams == load.streams), None)
    enough = [item for item in found if item.load.rate is not None and item.load.rate >= (load.rate or 0.0)]
    return min(enough, key=lambda item: (item.load.streams, item.load.rate or 0.0), default=None)


def find_percentile(point: Point, share: float) -> PercentileEntry | None:
    """Return the entry of a percentile; shares may differ in their last bits."""
    return next((entry for entry in point.percentiles if abs(entry.q - share) < _SAME_SHARE), None)


def counted(entry: PercentileEntry) -> float | None:
    """Return the latency that counts, in milliseconds, above 0; ``None`` where the sample supports none."""
    ends = (entry.value_ms, entry.high_ms, entry.bound_ms)
    if any(end is None or not (math.isfinite(end) and end > 0.0) for end in ends):
        return None
    return max(end for end in ends if end is not None)


def _not_asked_for(candidate: Candidate, request: Request) -> Iterable[str]:
    if request.runtimes and candidate.runtime not in request.runtimes:
        yield f"only {', '.join(request.runtimes)} was asked for"
    if request.threads and candidate.threads not in request.threads:
        yield f"only {', '.join(map(str, request.threads))} thread(s) were asked for"


def _memory_unknown(candidate: Candidate, request: Request) -> Iterable[str]:
    if request.max_memory is None:
        return
    if candidate.runtime in _ON_GPU:
        yield f"device memory is not measured, and {candidate.runtime} works in it; ask without --max-memory"
    elif candidate.peak_mib is None:
        yield "its memory was not measured; profile it without --brief"
    elif request.batch > candidate.memory_batch:
        yield (
            f"its memory was measured at batch {candidate.memory_batch} and may be more at batch {request.batch}; "
            "ask without --max-memory"
        )


def _metric_unknown(candidate: Candidate, request: Request) -> Iterable[str]:
    if candidate.metric is not None and not math.isfinite(candidate.metric):
        yield f"its metric is {candidate.metric}, no finite number: verify it again"
    elif request.floors and candidate.metric is None:
        yield "its metric is not known: verify it with its task installed"
    elif others := [name for name in request.floors if name != candidate.metric_name]:
        asked = ", ".join(map(repr, others))
        yield f"its metric is {candidate.metric_name!r}, which no floor of {asked} can be held to"


def _slower(candidate: Candidate, batch: int) -> Iterable[str]:
    """Hold it against the float model, at the nearest batch that was compared and is not larger."""
    if candidate.faults or not candidate.guarded:
        return
    compared = _comparison(candidate.comparisons, batch)
    if compared is None:
        why = next(iter(candidate.uncompared.splitlines()), "")
        yield (
            f"not compared with the float model in {candidate.runtime} with {candidate.threads} thread(s): "
            f"{why or candidate.mend}; --allow-slower takes it"
        )
    elif not compared.faster:
        chance = "" if compared.p is None else f", p = {compared.p:.2g}, wanted below {SIGNIFICANCE:g}"
        yield (
            f"not measured to be faster than the float model: {compared.ratio:.2f} times its speed at batch "
            f"{compared.batch} (95 % interval {compared.low:.2f} to {compared.high:.2f}{chance}); "
            "--allow-slower takes it"
        )


def _comparison(comparisons: tuple[Comparison, ...], batch: int) -> Comparison | None:
    smaller = [item for item in comparisons if item.batch <= batch]
    if smaller:
        return max(smaller, key=lambda item: item.batch)
    return min(comparisons, key=lambda item: item.batch, default=None)


def _supported(candidate: Candidate, point: Point | None, request: Request) -> tuple[PercentileEntry | None, str]:
    """Return the percentile that was asked for, or why it cannot be used."""
    if point is None:
        return None, _unmeasured(candidate, request)
    at = f"batch {point.batch}, {measured_load_text(point.load)}"
    if point.invalid:
        return None, f"the measurement at {at} is invalid: {next(iter(point.invalid.splitlines()), '')}"
    entry = find_percentile(point, request.budget.percentile)
    name = request.budget.name
    if entry is None:
        there = ", ".join(percentile_name(item.q) for item in point.percentiles) or "none"
        return None, f"the profile holds no {name} at {at} (there: {there}): {candidate.mend} --percentile {name}"
    if counted(entry) is None:
        if None not in (entry.value_ms, entry.high_ms, entry.bound_ms):
            return None, f"{name} at {at} is no time above 0: {candidate.mend}"
        return (
            None,
            f"{name} at {at} rests on {entry.samples} calls and takes {entry.needed}: {candidate.mend} --seconds MORE",
        )
    if not point.stable:
        spread = "" if point.spread is None else f": windows {point.spread:.0%} apart"
        return None, f"not stable at {at}{spread}; on a quiet machine: {candidate.mend}"
    return entry, ""


def _unmeasured(candidate: Candidate, request: Request) -> str:
    same = sorted({item.batch for item in candidate.points if find_point([item], item.batch, request.load)})
    if same:
        return f"batch {request.batch} was not measured (there: {', '.join(map(str, same))})"
    there = sorted({load_text(item.load) for item in candidate.points if item.batch == request.batch})
    return f"load {load_text(request.load)} was not measured (at this batch: {', '.join(there) or 'nothing'})"


def _misses(candidate: Candidate, request: Request, latency: float | None) -> Iterable[Miss]:
    budget = request.budget
    if latency is not None and latency > budget.ms:
        over = latency - budget.ms
        text = f"{budget.name} {time_text(latency)} (bound), {time_text(over)} over {time_text(budget.ms)}"
        yield Miss(budget.name, over / budget.ms, text)
    for name, floor in request.floors.items():
        if candidate.metric is not None and name == candidate.metric_name and not candidate.metric >= floor:
            under = floor - candidate.metric
            text = f"{name} {candidate.metric:.4g}, {under:.3g} below {floor:g}"
            yield Miss(name, under / abs(floor) if floor else under, text)
    known = candidate.peak_mib is not None and not any(_memory_unknown(candidate, request))
    memory = candidate.peak_mib * _MIB if known and candidate.peak_mib is not None else None
    for what, size, limit in (("memory", memory, request.max_memory), ("size", candidate.size, request.max_size)):
        # Not `size > limit`: what is no number meets nothing.
        if size is not None and limit is not None and not size <= limit:
            text = f"{what} {size_text(size)}, {size_text(size - limit)} over {size_text(limit)}"
            yield Miss(what, (size - limit) / limit, text)
