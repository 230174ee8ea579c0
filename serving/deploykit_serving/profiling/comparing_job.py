"""A hard variant against the float baseline, in turns, at each batch size they are compared at."""

from __future__ import annotations

from collections.abc import Callable

from deploykit.bundle import Bundle
from deploykit_serving.profiling.comparison import LoadedVariants, compare, compared_batches
from deploykit_serving.profiling.interleaved import Pairs
from deploykit_serving.profiling.job import Job, Message
from deploykit_serving.profiling.schema import Comparison
from deploykit_serving.profiling.significance import compare_pairs

_PATIENCE = 10.0
_PAIRS_OF_A_TEST = 100


def compare_job(bundle: Bundle, job: Job, say: Callable[[Message], None]) -> None:
    """Compare at the batch sizes that are not known yet.

    Raises:
        ServingError: one of the two does not load, or fails on its inputs.
    """
    say(Message(doing=f"loading {job.variant} and the baseline", within=job.limit))
    baseline = next(entry.name for entry in bundle.manifest.variants if entry.role == "baseline")
    loaded = LoadedVariants(bundle, job.threads, runtime=job.runtime, names=(job.variant, baseline))
    entry = next(item for item in loaded.entries if item.name == job.variant)
    batches = compared_batches(loaded, entry)
    for batch in batches:
        if batch in job.known_batches:
            continue
        seconds = job.seconds / len(batches)
        within = job.limit + _PATIENCE * seconds
        say(Message(doing=f"{job.variant} against {baseline}, batch {batch}", within=within))
        pairs = compare(loaded, entry, batch, seconds=seconds)
        say(Message(comparison=comparison_of(pairs, job, baseline, batch)))


def comparison_of(pairs: Pairs, job: Job, baseline: str, batch: int) -> Comparison:
    """Return what a run in turns has shown, with its interval and its significance."""
    ratio = pairs.ratio
    return Comparison(
        variant=job.variant,
        baseline=baseline,
        runtime=job.runtime,
        threads=job.threads,
        batch=batch,
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        pairs=ratio.pairs,
        block=pairs.block,
        # Fewer pairs call more than 5 of 100 equal things different when the noise comes in bursts.
        p=compare_pairs(pairs.baseline, pairs.variant).p if ratio.pairs >= _PAIRS_OF_A_TEST else None,
    )
