"""What one call of ``profile`` is going to measure: units that a process of its own measures, one after the other."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from deploykit.bundle import Bundle
from deploykit.cards import RuntimeCard
from deploykit.errors import ConfigError, ServingError
from deploykit.making import make_runtime
from deploykit.manifest import VariantEntry
from deploykit.registry import installed
from deploykit_serving.profiling.comparison import no_variant, variants_for
from deploykit_serving.profiling.job import Job
from deploykit_serving.profiling.points import MEDIAN
from deploykit_serving.profiling.statistics import samples_needed
from deploykit_serving.runtimes import REFERENCE
from deploykit_serving.runtimes.cpu_threads import usable_threads

ALL: Final = "all"
PERCENTILES: Final = (0.5, 0.9, 0.99)
MOST_CALLS: Final = 100_000
COMPARING: Final = 0.3
DETAILS: Final = 0.1
START_SECONDS: Final = 0.5
"""What a measuring process takes to begin."""
DETAILS_SECONDS: Final = 2.0
"""What cold start and memory take, all in processes of their own, and the start of one for layers and energy."""
SERVER_SECONDS: Final = 4.0
"""What a server takes to begin and to end."""
SERVED_THREADS: Final = 1
"""A server runs bundles on one thread an operator; what others cost cannot be asked of it."""
_FIXED_AT_MOST: Final = 0.3
_MOST_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """How to profile.

    Attributes:
        seconds: for everything together, roughly; slow models overrun it to get the fewest samples that say anything.
        threads: inside one operator; several numbers are measured one after the other.
        largest_batch: where the sweep ends at the latest.
        runtimes: names of registered ones, or ``all`` for those that can run here.
        streams: of closed loops, at the smallest batch; one stream is always measured.
        loads: of open loops, as shares of the capacity measured at the smallest batch.
        http: measure the same loads through a real server, too.
        percentiles: as shares; the median is always measured.
        calls: how many timed calls a point rests on at the most.
        canary: reject the windows in which a fixed small network shows the machine to be busy.
        brief: leave out cold start, memory, energy and layers.
        limit: seconds that a measurement may take beyond what it is expected to, until it counts as hung.
        fresh: measure again what an interrupted call has left.

    Raises:
        ConfigError: a setting is out of range, or ``calls`` is too few for a percentile.
    """

    seconds: float = 30.0
    threads: int | tuple[int, ...] = 1
    largest_batch: int = 128
    runtimes: tuple[str, ...] = (REFERENCE,)
    streams: tuple[int, ...] = (1,)
    loads: tuple[float, ...] = ()
    http: bool = False
    percentiles: tuple[float, ...] = PERCENTILES
    calls: int = MOST_CALLS
    canary: bool = True
    brief: bool = False
    limit: float = 300.0
    fresh: bool = False

    def __post_init__(self) -> None:
        counts = [("threads", count) for count in self.thread_counts] + [("streams", count) for count in self.streams]
        for name, value in (*counts, ("largest_batch", self.largest_batch), ("calls", self.calls)):
            if value < 1:
                raise ConfigError(f"profile: {name} must be at least 1, got {value}")
        for name, seconds in (("seconds", self.seconds), ("limit", self.limit)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigError(f"profile: {name} must be above 0, got {seconds}")
        for share in self.loads:
            # At its capacity a queue grows without end, and what is measured then is only for how long one waited.
            if not 0.0 < share < 1.0:
                raise ConfigError(f"profile: a load is a share of the capacity between 0 and 1, got {share:g}")
        for name, given in (("runtimes", self.runtimes), ("threads", self.thread_counts), ("streams", self.streams)):
            if not given:
                raise ConfigError(f"profile: {name} is empty; give at least one")
        self._check_percentiles()
        self._check_threads()

    def _check_percentiles(self) -> None:
        for q in self.percentiles:
            if not 0.0 < q < 1.0:
                raise ConfigError(f"profile: a percentile is given as a share inside (0, 1), 0.99 for p99; got {q:g}")
            if (needed := samples_needed(q)) > self.calls:
                raise ConfigError(
                    f"profile: p{round(q * 100, 8):g} takes at least {needed} calls and calls is {self.calls}; "
                    "allow more calls or ask for a lower percentile"
                )

    def _check_threads(self) -> None:
        most = _MOST_THREADS * usable_threads()
        for threads in self.thread_counts:
            if threads > most:
                raise ConfigError(
                    f"profile: {threads} threads on {usable_threads()} usable cores measure nothing but their waiting; "
                    f"wanted at most {most}"
                )

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """The numbers of threads, each once, ascending."""
        return tuple(sorted(set(self.threads if isinstance(self.threads, tuple) else (self.threads,))))

    @property
    def shares(self) -> tuple[float, ...]:
        """The percentiles, each once, ascending, the median among them."""
        return tuple(sorted({MEDIAN, *self.percentiles}))


@dataclass(frozen=True, slots=True)
class Unit:
    """One variant in one runtime with one number of threads: its sweep, or its comparison with the baseline.

    Attributes:
        job: what its process is asked to do.
        version: of the runtime; empty where it cannot run.
        missing: why the runtime cannot run here; nothing is measured then.
        details: seconds for layers and energy; 0 leaves out all details.
        fixed: seconds beside measuring: processes and servers begin and end.
        key: of what is measured how, on which host; a measurement under the same key need not be made again.
    """

    job: Job
    entry: VariantEntry
    sha256: str
    version: str
    missing: str
    details: float
    fixed: float
    key: str

    @property
    def name(self) -> str:
        """For people."""
        name = f"{self.job.variant}@{self.job.runtime}/{self.job.threads}"
        return f"{name} against the baseline" if self.job.kind == "compare" else name

    @property
    def seconds(self) -> float:
        """What it takes, roughly."""
        return 0.0 if self.missing else self.job.seconds + self.details + self.fixed


def make_plan(bundle: Bundle, options: ProfileOptions, host_id: str) -> tuple[Unit, ...]:
    """Return the units in the order in which they are measured: all sweeps, then all comparisons.

    Raises:
        UnknownNameError: no such runtime.
        ServingError: the bundle holds no variant for a runtime that was named, or none at all.
    """
    engines, counts = _engines(bundle, options.runtimes), options.thread_counts
    swept = [
        (name, entry, threads) for name in engines for entry in variants_for(bundle, name)
        for threads in counts
    ]  # fmt: skip
    with_baseline = {name for name, entry, _ in swept if entry.role == "baseline"}
    compared = [item for item in swept if item[1].role == "hard" and item[0] in with_baseline]
    running = sum(not engines[name][1] for name, _, _ in swept) or 1
    fixed = {
        (kind, threads): _fixed(kind, threads, options) for kind in ("sweep", "compare") for threads in counts
    }  # fmt: skip
    beside = sum(fixed["sweep", threads] for name, _, threads in swept if not engines[name][1])
    beside += sum(fixed["compare", threads] for name, _, threads in compared if not engines[name][1])
    seconds = options.seconds - min(beside, _FIXED_AT_MOST * options.seconds)
    comparing = COMPARING * seconds if compared else 0.0
    details = 0.0 if options.brief else DETAILS * seconds
    shares = {
        "sweep": (seconds - comparing - details) / running,
        "compare": comparing / (sum(not engines[name][1] for name, _, _ in compared) or 1),
    }
    units = []
    for kind, items in (("sweep", swept), ("compare", compared)):
        for name, entry, threads in items:
            version, missing = engines[name]
            if kind == "compare" and missing:
                continue
            job = Job.model_validate(
                {"kind": kind, "bundle": bundle.path, "variant": entry.name, "runtime": name, "threads": threads,
                 "seconds": shares[kind], "largest_batch": options.largest_batch, "percentiles": options.shares,
                 "calls": options.calls, "streams": tuple(sorted(set(options.streams))),
                 "loads": tuple(sorted(set(options.loads))), "canary": options.canary, "limit": options.limit,
                 "http": options.http and kind == "sweep" and threads == SERVED_THREADS}
            )  # fmt: skip
            unit = Unit(
                job=job,
                entry=entry,
                sha256=bundle.manifest.files[entry.file].sha256,
                version=version,
                missing=missing,
                details=details / running if kind == "sweep" else 0.0,
                fixed=fixed[kind, threads],
                key="",
            )
            units.append(replace(unit, key=_key(bundle, unit, host_id)))
    return tuple(units)


def _engines(bundle: Bundle, names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return version and reason for not running here, by name; those asked for with ``all`` can run."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        if name == ALL:
            for other in installed().cards(RuntimeCard):
                # What starts from more than a file is never served: it is measured if named, as a reference.
                fits = make_runtime(other).starts_from == "file" and variants_for(bundle, other)
                if fits and not (asked := _asked(other))[1]:
                    found[other] = asked
        else:
            if not variants_for(bundle, name):
                raise no_variant(bundle, name)
            found[name] = _asked(name)
    if not found:
        raise ServingError(f"{bundle.path}: no runtime that can run here fits its variants; see: deploykit runtimes")
    return found


def _asked(name: str) -> tuple[str, str]:
    engine = make_runtime(name)
    missing = engine.missing()
    return ("", missing) if missing else (engine.version(), "")


def _fixed(kind: str, threads: int, options: ProfileOptions) -> float:
    if kind == "compare":
        return START_SECONDS
    served = SERVER_SECONDS + START_SECONDS if options.http and threads == SERVED_THREADS else 0.0
    return START_SECONDS + served + (0.0 if options.brief else DETAILS_SECONDS)


def _key(bundle: Bundle, unit: Unit, host_id: str) -> str:
    left_out = {"bundle", "limit", "canary_floor_ms", "url", "known", "known_batches"}
    content: dict[str, Any] = {
        "host": host_id,
        "job": unit.job.model_dump(mode="json", exclude=left_out),
        "sha256": unit.sha256,
        "version": unit.version,
        "details": unit.details > 0,
        # Samples decide what is measured on; the baseline's file what is compared with.
        "files": sorted(
            entry.sha256
            for name, entry in bundle.manifest.files.items()
            if name.startswith("samples/") or (unit.job.kind == "compare" and _is_baseline(bundle, name))
        ),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _is_baseline(bundle: Bundle, file: str) -> bool:
    return any(entry.role == "baseline" and entry.file == file for entry in bundle.manifest.variants)
