"""What is asked of ``select``: a latency budget, floors and limits, and what it is to hold for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from deploykit.errors import ConfigError
from deploykit_serving.profiling.schema import Load
from deploykit_serving.selection.units import milliseconds, percentile_name, percentile_share

Prefer = Literal["metric", "latency"]
_LOADS: Final = "closed, closed:STREAMS or open:RATE, with http: before it for what a server's clients see"


@dataclass(frozen=True, slots=True)
class Budget:
    """A percentile of the latency and the most it may be.

    Attributes:
        percentile: as a share, 0.99 for p99.
        ms: milliseconds.

    Raises:
        ConfigError: one of them is out of range.
    """

    percentile: float
    ms: float

    def __post_init__(self) -> None:
        if not 0.0 < self.percentile < 1.0:
            raise ConfigError(f"budget: a percentile is a share inside (0, 1), 0.99 for p99; got {self.percentile}")
        if not (math.isfinite(self.ms) and self.ms > 0.0):
            raise ConfigError(f"budget: milliseconds must be above 0 and finite, got {self.ms}")

    @property
    def name(self) -> str:
        """The percentile as people write it: ``p99``."""
        return percentile_name(self.percentile)


@dataclass(frozen=True, slots=True)
class Request:
    """What a variant must hold to be chosen.

    Attributes:
        floors: least metric by name.
        batch: samples a request.
        load: how requests come; of an open loop every measured rate at least as high counts, with the fewest streams.
        host: id of the host whose measurements count; empty for this one.
        task: only bundles of this task.
        runtimes: only these; empty for all.
        threads: only these numbers of threads; empty for all.
        max_memory: most bytes a process may take beyond an empty one, at the peak of a run.
        max_size: most bytes of the variant's file.
        prefer: ``metric``: the best metric, then the shortest latency; ``latency``: the other way round.
        allow_slower: also variants that were not measured to be faster than the float model they replace.

    Raises:
        ConfigError: a value is out of range.
    """

    budget: Budget
    floors: Mapping[str, float] = field(default_factory=dict)
    batch: int = 1
    load: Load = field(default_factory=Load)
    host: str = ""
    task: str = ""
    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    max_memory: float | None = None
    max_size: float | None = None
    prefer: Prefer = "metric"
    allow_slower: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1, got {self.batch}")
        if self.prefer not in ("metric", "latency"):
            raise ConfigError(f"prefer must be 'metric' or 'latency', got {self.prefer!r}")
        for name, floor in self.floors.items():
            if not math.isfinite(floor):
                raise ConfigError(f"the floor of {name!r} must be a finite number, got {floor}")
        for what, limit in (("max_memory", self.max_memory), ("max_size", self.max_size)):
            if limit is not None and not (math.isfinite(limit) and limit > 0.0):
                raise ConfigError(f"{what} must be above 0 bytes and finite, got {limit}")
        if self.host and not re.fullmatch(r"[0-9a-f]{12}", self.host):
            raise ConfigError(f"a host's id has 12 digits 0-9a-f, as deploykit profile prints it; got {self.host!r}")


def parse_budget(text: str) -> Budget:
    """Read ``PERCENTILE=TIME``: ``p99=5ms``, ``p99.9 = 800us``.

    Raises:
        ConfigError: it is something else; says what is wrong with it.
    """
    name, given, time = text.partition("=")
    try:
        if not given:
            raise ConfigError("wanted PERCENTILE=TIME, as in p99=5ms")
        return Budget(percentile_share(name), milliseconds(time))
    except ConfigError as error:
        raise ConfigError(f"--budget {text!r}: {error}") from error


def parse_floor(text: str) -> tuple[str, float]:
    """Read ``METRIC=VALUE``: ``accuracy=0.97``.

    Raises:
        ConfigError: it is something else; says what is wrong with it.
    """
    name, given, value = (part.strip() for part in text.partition("="))
    if not given or not name:
        raise ConfigError(f"--min {text!r}: wanted METRIC=VALUE, as in accuracy=0.97")
    try:
        floor = float(value)
    except ValueError:
        floor = math.nan
    if not math.isfinite(floor):
        raise ConfigError(
            f"--min {text!r}: {value!r} is no finite number; give it in the metric's own units, as verify prints it"
        )
    return name, floor


def parse_load(text: str) -> Load:
    """Read ``[http:]closed[:STREAMS]`` or ``[http:]open:RATE``, the rate in requests a second.

    Raises:
        ConfigError: it is something else.
    """
    found = re.fullmatch(r"(http:)?(?:(closed)(?::(\d+))?|(open):(\d+(?:\.\d+)?))", text.strip())
    streams = int(found[3] or 1) if found else 0
    rate = float(found[5] or 1) if found else 0.0
    if found is None or not streams or not rate:
        raise ConfigError(f"--load {text!r}: wanted {_LOADS}; streams and rate above 0")
    through: Literal["process", "http"] = "http" if found[1] else "process"
    if found[4]:
        return Load(kind="open", rate=rate, through=through)
    return Load(kind="closed", streams=streams, through=through)


def load_text(load: Load) -> str:
    """Return a load as :func:`parse_load` reads it."""
    words = f"open:{load.rate:g}" if load.kind == "open" and load.rate is not None else f"closed:{load.streams}"
    return f"http:{words}" if load.through == "http" else words


def measured_load_text(load: Load) -> str:
    """Return a load as it was measured: of an open loop with how many requests could be under way at once."""
    return load_text(load) if load.kind == "closed" else f"{load_text(load)} with {load.streams} stream(s)"
