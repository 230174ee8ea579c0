"""Each hard variant against the float baseline it replaces, measured in turns: the slow-down guard's evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deploykit.bundle import Bundle
from deploykit.errors import ServingError
from deploykit.making import make_runtime
from deploykit.manifest import VariantEntry
from deploykit_serving.profiling.closed_loop import Call, collector_off, feed, settle
from deploykit_serving.profiling.interleaved import Pairs, interleave
from deploykit_serving.profiling.sample_inputs import SampleInputs
from deploykit_serving.profiling.schema import Comparison, Profile
from deploykit_serving.profiling.statistics import Ratio
from deploykit_serving.runtimes import REFERENCE, RuntimeOptions, Session, open_variant

COMPARED_BATCHES: Final = (1, 64)
_WARM_UP: Final = 0.3


class LoadedVariants:
    """The variants of a bundle that a runtime runs, opened once, with inputs for them.

    Args:
        threads: inside one operator.
        runtime: name of a registered one.
        names: of the variants to open; by default all.

    Raises:
        ServingError: there is none, or the runtime cannot run here or refuses one.
    """

    def __init__(
        self, bundle: Bundle, threads: int = 1, *, runtime: str = REFERENCE, names: Sequence[str] | None = None
    ) -> None:
        # One stream has nobody to take turns with, so spinning threads cost nothing and answer soonest.
        options = RuntimeOptions(threads=threads, spin=True)
        self.bundle = bundle
        self.threads = threads
        self.inputs = SampleInputs(bundle)
        runnable = variants_for(bundle, runtime)
        self.entries = tuple(entry for entry in runnable if names is None or entry.name in names)
        if not self.entries:
            raise no_variant(bundle, runtime)
        self.sessions: Mapping[str, Session] = {
            entry.name: open_variant(bundle, entry, runtime, options) for entry in self.entries
        }

    @property
    def baseline(self) -> VariantEntry | None:
        """The float model, if the bundle holds one."""
        return next((entry for entry in self.entries if entry.role == "baseline"), None)

    @property
    def hard(self) -> tuple[VariantEntry, ...]:
        """The writings of the hard form."""
        return tuple(entry for entry in self.entries if entry.role == "hard")

    def largest_batch(self, entry: VariantEntry, wanted: int) -> int:
        """Return the largest batch that may be measured, up to ``wanted``."""
        legal = self.inputs.largest_batch if entry.dynamic_batch else 1
        return max(self.inputs.smallest_batch, wanted if legal is None else min(legal, wanted))

    def call(self, entry: VariantEntry, batch: int) -> Call:
        """Return a call that has run once on inputs of one batch size.

        Raises:
            ServingError: the model fails on them.
        """
        run = feed(self.sessions[entry.name], self.inputs.batches(batch))
        try:
            run()
        except Exception as error:  # runtimes' exceptions share no base class
            reason = str(error).splitlines()[0][:300]
            raise ServingError(f"variant {entry.name!r} fails at batch {batch}: {reason}") from error
        return run


def variants_for(bundle: Bundle, runtime: str) -> tuple[VariantEntry, ...]:
    """Return the variants of a bundle that are written for a runtime, whether it can run here or not.

    Raises:
        UnknownNameError: no such runtime.
    """
    targets = make_runtime(runtime).targets
    return tuple(entry for entry in bundle.manifest.variants if set(targets) & set(entry.targets))


def no_variant(bundle: Bundle, runtime: str) -> ServingError:
    """Return the error that says what a bundle's variants are for instead."""
    wanted = " or ".join(repr(target) for target in make_runtime(runtime).targets)
    targets = sorted({target for entry in bundle.manifest.variants for target in entry.targets})
    return ServingError(f"{bundle.path}: no variant for {wanted}; its variants are for {', '.join(targets)}")


def compared_batches(
    loaded: LoadedVariants, entry: VariantEntry, batches: tuple[int, ...] = COMPARED_BATCHES
) -> list[int]:
    """Return the batch sizes at which a variant and the baseline are compared."""
    if loaded.baseline is None:
        return []
    legal = {min(loaded.largest_batch(entry, batch), loaded.largest_batch(loaded.baseline, batch)) for batch in batches}
    return sorted(legal)


def compare(
    loaded: LoadedVariants,
    entry: VariantEntry,
    batch: int,
    *,
    seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Pairs:
    """Measure a hard variant and the baseline in turns, after warming both up.

    Args:
        clock: as for :func:`interleave`.

    Raises:
        ServingError: there is no baseline.
    """
    if loaded.baseline is None:
        raise ServingError(f"{loaded.bundle.path}: holds no float baseline to compare {entry.name!r} with")
    calls = (loaded.call(loaded.baseline, batch), loaded.call(entry, batch))
    for call in calls:
        settle(call, seconds=seconds * _WARM_UP / 2)
    return interleave(*calls, seconds=seconds * (1.0 - _WARM_UP), clock=clock)


def compare_with_baseline(
    bundle: Bundle,
    *,
    seconds: float = 1.0,
    threads: int = 1,
    batches: tuple[int, ...] = COMPARED_BATCHES,
    report: Callable[[str], None] | None = None,
) -> dict[str, Ratio]:
    """Measure how many times as fast as the float baseline each hard variant is.

    Args:
        seconds: for each comparison.
        batches: sizes to compare at, where the files allow them.
        report: told what is measured next.

    Returns:
        by variant's name for the smallest batch, by ``NAME at batch N`` for the others; empty without a baseline.

    Raises:
        ServingError: a variant does not run.
    """
    loaded = LoadedVariants(bundle, threads)
    found: dict[str, Ratio] = {}
    for entry in loaded.hard:
        for index, batch in enumerate(compared_batches(loaded, entry, batches)):
            name = entry.name if index == 0 else f"{entry.name} at batch {batch}"
            if report is not None:
                report(name)
            with collector_off():
                found[name] = compare(loaded, entry, batch, seconds=seconds).ratio
    return found


def faster_variants(profile: Profile) -> dict[str, tuple[Comparison, ...]]:
    """Return, for each hard variant, the comparisons that show it faster than the baseline beyond doubt.

    A variant whose tuple is empty was nowhere measured to be faster and must not be selected: the interval of a
    comparison counts only if it lies entirely above 1.
    """
    return {
        entry.variant: tuple(item for item in profile.comparisons if item.variant == entry.variant and item.faster)
        for entry in profile.variants
        if entry.role == "hard"
    }
