"""One figure of a benchmark: what was wanted, what was measured, and whether that is enough; printed as it is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deploykit.bundle import Bundle
from deploykit_serving.profiling.closed_loop import collector_off
from deploykit_serving.profiling.comparison import LoadedVariants, compare
from deploykit_serving.profiling.statistics import Ratio


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        met: whether the end of the interval that is worse for us still reaches the target; ``None`` without one.
        beside: what belongs beside the number.
    """

    name: str
    target: str
    measured: str
    interval: str
    met: bool | None
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A hard variant against the float baseline of its bundle, interleaved, one thread.

    Attributes:
        wall: ratio by the clock on the wall, which is what a user waits for.
        busy: ratio by the thread's own CPU time; where the two differ, other work on the machine was in the way.
        milliseconds: medians of variant and baseline by the clock on the wall.
    """

    wall: Ratio
    busy: Ratio
    milliseconds: tuple[float, float]

    @property
    def low(self) -> float:
        """The worse of the two lower ends."""
        return min(self.wall.low, self.busy.low)

    def words(self) -> str:
        """Say what stands beside the ratio."""
        ours, theirs = self.milliseconds
        busy = f"{self.busy.ratio:.2f}x ({self.busy.low:.2f} to {self.busy.high:.2f})"
        return f"{ours:.3g} ms against {theirs:.3g} ms; by CPU time {busy}"


def compare_variants(bundle: Bundle, variant: str, batch: int, *, seconds: float) -> Measured:
    """Measure one hard variant of a bundle against its float baseline, by both clocks."""
    loaded = LoadedVariants(bundle, threads=1)
    entry = next(item for item in loaded.hard if item.name == variant)
    with collector_off():
        pairs = compare(loaded, entry, batch, seconds=seconds / 2)
        busy = compare(loaded, entry, batch, seconds=seconds / 2, clock=time.thread_time_ns)
    ours, theirs = (float(np.median(series)) / 1e6 for series in (pairs.variant, pairs.baseline))
    return Measured(wall=pairs.ratio, busy=busy.ratio, milliseconds=(ours, theirs))


def at_least(name: str, target: float, found: Measured, beside: str) -> Figure:
    """Return the figure for a speed that must reach ``target`` by both clocks, with the whole interval."""
    return Figure(
        name=name,
        target=f"at least {target:g}x" if target > 1 else "faster",
        measured=f"{found.wall.ratio:.2f}x",
        interval=f"{found.wall.low:.2f} to {found.wall.high:.2f}, {found.wall.pairs} pairs",
        met=found.low > 1.0 if target <= 1 else found.low >= target,
        beside=beside,
    )


def main(measure: Callable[[], Sequence[Figure]]) -> None:
    """Run a benchmark as a script: a table for people, ``--json`` for programs; exit 1 if a target was missed."""
    started = time.perf_counter()
    figures = list(measure())
    if "--json" in sys.argv[1:]:
        content: list[dict[str, Any]] = [asdict(figure) for figure in figures]
        print(json.dumps({"figures": content, "seconds": round(time.perf_counter() - started, 1)}))
        return
    for figure in figures:
        state = {True: "met", False: "MISSED", None: "no target"}[figure.met]
        print(f"{figure.name}: {figure.measured} ({figure.interval}); wanted {figure.target}: {state}")
        if figure.beside:
            print(f"    {figure.beside}")
    sys.exit(1 if any(figure.met is False for figure in figures) else 0)
