"""Compare two bundles here and now: variants of both in turns on the same inputs, in one runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from deploykit.bundle import Bundle
from deploykit_serving.profiling.closed_loop import collector_off, settle
from deploykit_serving.profiling.comparison import LoadedVariants
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.profiling.significance import FEWEST, compare_pairs
from deploykit_serving.report.difference import Compared, beside
from deploykit_serving.report.pairing import check_signatures
from deploykit_serving.report.subject import read_subject

_WARM_UP: Final = 0.3
_MOST_PAIRS: Final = 400
_PERCENTILES: Final = (("p50", 0.5), ("p90", 0.9))

Report = Callable[[str], None]


def compare_bundles(
    first: Bundle,
    second: Bundle,
    pairs: Mapping[str, str],
    *,
    runtime: str,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 5.0,
    report: Report | None = None,
) -> list[Compared]:
    """Measure variants of two bundles in turns.

    Args:
        pairs: which of A with which of B.
        batch: samples a call; fewer or more where a file's limits ask for it.
        seconds: for everything together, roughly.
        report: told what is measured next.

    Raises:
        ConfigError: the signatures differ.
        ServingError: a variant does not run in the runtime.
    """
    check_signatures(first, second)
    mine = LoadedVariants(first, threads, runtime=runtime, names=tuple(pairs))
    theirs = LoadedVariants(second, threads, runtime=runtime, names=tuple(pairs.values()))
    # Both get the same inputs: a data-dependent model takes as long as they ask for.
    if mine.inputs.source == "random" and theirs.inputs.source != "random":
        mine.inputs = theirs.inputs
    else:
        theirs.inputs = mine.inputs
    subjects = read_subject(first.path, ""), read_subject(second.path, "")
    found = []
    for name, other in pairs.items():
        if report is not None:
            report(f"{name} against {other}" if name != other else name)
        item = _compare(mine, theirs, (name, other), batch, seconds / len(pairs))
        found.append(beside(item, subjects, (runtime, runtime), (name, other)))
    return found


def _compare(
    mine: LoadedVariants,
    theirs: LoadedVariants,
    names: tuple[str, str],
    batch: int,
    seconds: float,
) -> Compared:
    entries = [next((entry for entry in loaded.entries if entry.name == name), None)
               for loaded, name in zip((mine, theirs), names, strict=True)]  # fmt: skip
    if entries[0] is None or entries[1] is None:
        which = "A" if entries[0] is None else "B"
        return Compared(*names, batch, "not measured", None, f"the runtime does not run the file of {which}")
    size = min(
        loaded.largest_batch(entry, batch) for loaded, entry in zip((mine, theirs), entries, strict=True) if entry
    )
    calls = (mine.call(entries[0], size), theirs.call(entries[1], size))
    with collector_off():
        for call in calls:
            settle(call, seconds=seconds * _WARM_UP / 2)
        pairs = interleave(*calls, seconds=seconds * (1.0 - _WARM_UP), at_most=_MOST_PAIRS, at_least=FEWEST * 2)
    return Compared(
        *names,
        size,
        f"{len(pairs.baseline)} pairs in turns",
        compare_pairs(pairs.baseline, pairs.variant),
        percentiles=tuple(
            (
                f"{name} of blocks",
                float(np.quantile(pairs.baseline, q)) / 1e6,
                float(np.quantile(pairs.variant, q)) / 1e6,
            )
            for name, q in _PERCENTILES
        ),
    )
