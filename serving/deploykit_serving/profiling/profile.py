"""Profile a bundle: every variant in a closed loop over a batch sweep, and each hard one against the float baseline."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploykit.bundle import Bundle, open_bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import ConfigError
from deploykit.making import make_runtime
from deploykit.manifest import VariantEntry
from deploykit_serving.profiling.batch_sweep import sweep
from deploykit_serving.profiling.closed_loop import collector_off, overhead_ns, record, settle, throughput
from deploykit_serving.profiling.comparison import (
    LoadedVariants,
    compare,
    compare_with_baseline,
    compared_batches,
    faster_variants,
)
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.schema import (
    Comparison,
    PercentileEntry,
    Point,
    Profile,
    Settings,
    VariantProfile,
    profile_file,
)
from deploykit_serving.profiling.statistics import percentile, samples_needed
from deploykit_serving.runtimes import REFERENCE as RUNTIME

__all__ = ["ProfileOptions", "compare_with_baseline", "faster_variants", "measure_bundle", "profile_bundle"]

PERCENTILES: Final = (0.5, 0.9, 0.99)
Report = Callable[[str, float], None]
_MOST_CALLS: Final = 100_000
_COMPARING: Final = 0.3
_FIRST_POINT: Final = 0.5
_WARM_UP: Final = 0.3


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """How to profile.

    Attributes:
        seconds: for everything together, roughly; slow models overrun it to get the fewest samples that say anything.
        threads: inside one operator.
        largest_batch: where the sweep ends at the latest.

    Raises:
        ConfigError: a setting is out of range.
    """

    seconds: float = 30.0
    threads: int = 1
    largest_batch: int = 128

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("largest_batch", self.largest_batch)):
            if value < 1:
                raise ConfigError(f"profile: {name} must be at least 1, got {value}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ConfigError(f"profile: seconds must be above 0, got {self.seconds}")


def profile_bundle(path: Path, options: ProfileOptions | None = None, *, report: Report | None = None) -> Bundle:
    """Measure a bundle and publish it again with the profile of this host inside.

    Profiles of other hosts stay; an earlier one of this host is replaced. Until the end nothing is written.

    Args:
        report: told what is measured and how much is done, from 0 to 1.

    Raises:
        BundleError: the bundle cannot be read or written.
        ServingError: a variant does not run; nothing is written.
    """
    bundle = open_bundle(path)
    profile = measure_bundle(bundle, options, report=report)
    content = profile.model_dump_json(indent=2).encode() + b"\n"
    return extend_bundle(bundle, {profile_file(profile.host.id): content})


def measure_bundle(bundle: Bundle, options: ProfileOptions | None = None, *, report: Report | None = None) -> Profile:
    """Measure a bundle on this host without writing anything; arguments and errors as :func:`profile_bundle`."""
    with collector_off():
        return _measure(bundle, options or ProfileOptions(), report or (lambda what, done: None))


def _measure(bundle: Bundle, options: ProfileOptions, tell: Report) -> Profile:
    host = fingerprint()
    loaded = LoadedVariants(bundle, options.threads)
    compared = [(entry, batch) for entry in loaded.hard for batch in compared_batches(loaded, entry)]
    comparing = _COMPARING if compared else 0.0
    each = options.seconds * (1.0 - comparing) / len(loaded.entries)
    variants = []
    for index, entry in enumerate(loaded.entries):
        done = (1.0 - comparing) * index / len(loaded.entries)
        variants.append(
            _sweep_variant(loaded, entry, options.largest_batch, each, functools.partial(_tell_at, tell, done))
        )
    comparisons = []
    for index, (entry, batch) in enumerate(compared):
        tell(f"{entry.name} against the baseline, batch {batch}", 1.0 - comparing * (1.0 - index / len(compared)))
        comparisons.append(_comparison(loaded, entry, batch, options.seconds * comparing / len(compared)))
    tell("done", 1.0)
    return Profile(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        host=host,
        settings=Settings(
            seconds=options.seconds,
            overhead_ns=overhead_ns(),
            inputs=loaded.inputs.source,
        ),
        variants=tuple(variants),
        comparisons=tuple(comparisons),
    )


def _sweep_variant(
    loaded: LoadedVariants, entry: VariantEntry, largest: int, seconds: float, tell: Callable[[str], None]
) -> VariantProfile:
    largest = loaded.largest_batch(entry, largest)
    smallest = loaded.inputs.smallest_batch
    further = math.ceil(math.log2(largest / smallest))
    first = seconds * (_FIRST_POINT if further else 1.0)
    points: list[Point] = []

    def measure(batch: int) -> float:
        tell(f"{entry.name}, batch {batch}")
        share = first if not points else (seconds - first) / further
        points.append(_point(loaded, entry, batch, share))
        median = points[-1].percentiles[0].value_ms
        # By the median call: a few disturbed calls weigh on the mean and would end the sweep too soon.
        return batch / median if median else points[-1].throughput

    stopped = sweep(measure, largest=largest, smallest=smallest)
    return VariantProfile(
        variant=entry.name,
        role=entry.role,
        sha256=loaded.bundle.manifest.files[entry.file].sha256,
        runtime=RUNTIME,
        runtime_version=make_runtime(RUNTIME).version(),
        threads=loaded.threads,
        points=tuple(points),
        stopped=stopped,
    )


def _point(loaded: LoadedVariants, entry: VariantEntry, batch: int, seconds: float) -> Point:
    call = loaded.call(entry, batch)
    stability = settle(call, seconds=seconds * _WARM_UP)
    # Enough for a median at the least, however slow the model is.
    times = record(
        call, seconds=seconds * (1.0 - _WARM_UP), at_most=_MOST_CALLS, at_least=samples_needed(PERCENTILES[0])
    )
    return Point(
        batch=batch,
        stable=stability.stable,
        spread=stability.spread,
        calls=len(times),
        throughput=throughput(times, batch),
        percentiles=tuple(_entry(times / 1e6, q) for q in PERCENTILES),
    )


def _entry(milliseconds: NDArray[np.float64], q: float) -> PercentileEntry:
    found = percentile(milliseconds, q)
    return PercentileEntry(
        q=q,
        samples=found.samples,
        needed=found.needed,
        value_ms=found.value,
        low_ms=found.low,
        high_ms=found.high,
        bound_ms=found.bound,
    )


def _comparison(loaded: LoadedVariants, entry: VariantEntry, batch: int, seconds: float) -> Comparison:
    pairs = compare(loaded, entry, batch, seconds=seconds)
    found = pairs.ratio
    baseline = loaded.baseline
    return Comparison(
        variant=entry.name,
        baseline="" if baseline is None else baseline.name,
        threads=loaded.threads,
        batch=batch,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        pairs=found.pairs,
        block=pairs.block,
    )


def _tell_at(tell: Report, done: float, what: str) -> None:
    tell(what, done)
