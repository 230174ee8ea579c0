"""What a measuring process is asked to do, and what it says while it does it; both travel as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deploykit_serving.profiling.schema import Comparison, Energy, Layers, Point


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Job(_Part):
    """One variant in one runtime with one number of threads, to be measured in a process of its own.

    Attributes:
        kind: ``sweep`` measures the points, ``details`` layers and energy, ``compare`` takes turns with the baseline.
        seconds: for everything the job asks for, roughly.
        percentiles: as shares, ascending; the median is among them.
        calls: how many timed calls a point rests on at the most.
        streams: of closed loops in process, ascending; one stream is always measured.
        loads: of open loops, as shares of the capacity of as many streams at the smallest batch.
        limit: seconds that a step may take beyond what it is expected to.
        canary_floor_ms: the reference network at its best so far in this run.
        http: the same is measured through a server, too; whoever gave the job starts that and gives its ``url``.
        url: of a running server, to be asked now.
        known: points that are measured already.
        known_batches: sizes at which the comparison is made already.
    """

    kind: Literal["sweep", "details", "compare"]
    bundle: Path
    variant: str
    runtime: str
    threads: int = Field(ge=1)
    seconds: float = Field(gt=0)
    largest_batch: int = Field(128, ge=1)
    percentiles: tuple[float, ...] = (0.5, 0.9, 0.99)
    calls: int = Field(100_000, ge=1)
    streams: tuple[int, ...] = (1,)
    loads: tuple[float, ...] = ()
    canary: bool = True
    limit: float = Field(300.0, gt=0)
    canary_floor_ms: float | None = None
    http: bool = False
    url: str = ""
    known: tuple[Point, ...] = ()
    known_batches: tuple[int, ...] = ()


class Message(_Part):
    """One line of a measuring process; whatever is set is news.

    Attributes:
        doing: what it does next, in words.
        within: seconds in which the next message must come; else the process counts as hung.
        stopped: why the batch sweep ended.
        fault: why the job cannot go on, in words; what was said before counts all the same.
        finished: the last message of a job that went well.
    """

    doing: str = ""
    within: float | None = None
    point: Point | None = None
    comparison: Comparison | None = None
    layers: Layers | None = None
    energy: Energy | None = None
    overhead_ns: float | None = None
    canary_floor_ms: float | None = None
    stopped: str = ""
    fault: str = ""
    finished: bool = False
