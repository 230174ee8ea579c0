"""Whether measurements can be trusted: overhead, repeatability, and the A/B test on equal and unequal things.

Run: python -m benchmarks.measuring
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from typing import Final

import numpy as np
import onnx.parser
from numpy.typing import NDArray

from benchmarks.figure import Figure, main
from deploykit_serving.profiling.canary import Canary, Gate, Gated
from deploykit_serving.profiling.closed_loop import Call, collector_off, record, settle
from deploykit_serving.profiling.histogram import Histogram
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.profiling.significance import Difference, compare_pairs
from deploykit_serving.profiling.statistics import Percentile, percentile
from deploykit_serving.runtimes import RuntimeOptions, open_session

MOST_OVERHEAD_US: Final = 2.0
MOST_APART: Final = 0.03
FEWEST_EQUAL: Final = 95
SIGNIFICANT: Final = 0.01
_WIDTH: Final = 128
_ROWS: Final = 16
_LAYERS: Final = 20
_RUN_SECONDS: Final = 2.0
_WARM_UP_SECONDS: Final = 0.5
_PAIRS: Final = 192
_FEWEST_RESTED: Final = 2 / 3


def measure(runs: int = 12, same: int = 100, different: int = 20) -> list[Figure]:
    """Measure all figures.

    Args:
        runs: processes that measure the same network's p50, one after the other.
        same: comparisons of a network with itself.
        different: comparisons of a network with one of 5 % more layers.
    """
    return [_overhead(), _repeatability(runs), *_comparisons(same, different)]


def chain(layers: int) -> Call:
    """Return a call of matrix products one after the other: with 21 layers instead of 20 it takes 5 % longer."""
    random = np.random.default_rng(0)
    body = [f"h{index + 1} = MatMul (h{index}, w)" for index in range(layers)]
    model = onnx.parser.parse_model(f"""
    <ir_version: 8, opset_import: ["" : 17]>
    chain (float[{_ROWS}, {_WIDTH}] h0) => (float[{_ROWS}, {_WIDTH}] h{layers}) {{ {" ".join(body)} }}
    """)
    # Orthogonal, so that numbers neither grow nor vanish, however many layers there are.
    weights = np.linalg.qr(random.standard_normal((_WIDTH, _WIDTH)))[0].astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    session = open_session(model.SerializeToString(), options=RuntimeOptions(threads=1, spin=True))
    inputs = {"h0": random.standard_normal((_ROWS, _WIDTH), dtype=np.float32)}
    return lambda: session.run(inputs)


def _overhead(repeats: int = 25, calls: int = 20_000) -> Figure:
    """Time what the profiler does around a call that does nothing, and what it does with the number afterwards."""
    per_sample = np.empty((repeats, 2))
    with collector_off():
        for repeat in range(repeats):
            start = time.thread_time()
            times = record(lambda: None, seconds=60.0, at_most=calls)
            looped = time.thread_time()
            Histogram().record_many(times)
            percentile(times, 0.99)
            per_sample[repeat] = np.diff([start, looped, time.thread_time()]) / calls * 1e6
    whole, loop, after = (_median(part) for part in (per_sample.sum(axis=1), *per_sample.T))
    assert whole.high is not None
    return Figure(
        name="overhead of the profiler for a sample",
        target=f"under {MOST_OVERHEAD_US:g} us",
        measured=f"{whole.value:.2f} us",
        interval=f"{whole.low:.2f} to {whole.high:.2f} us, median of {repeats} times {calls} calls, CPU time",
        met=whole.high < MOST_OVERHEAD_US,
        beside=f"around the call {loop.value:.2f} us, histogram and percentile afterwards {after.value:.2f} us",
    )


def _repeatability(runs: int) -> Figure:
    gated, free, rejected, rested = [], [], [], []
    for _ in range(runs):
        told = subprocess.run(
            [sys.executable, "-m", "benchmarks.measuring", "--one-run"], check=True, capture_output=True, text=True
        )
        answer = json.loads(told.stdout)
        gated.append(answer["gated"])
        free.append(answer["free"])
        rejected.append(answer["rejected"])
        rested.append(answer["at_rest"])
    # A run that says of itself that it was never at rest is refused by whoever reads it; here too, and counted.
    gated = [value for value, rest in zip(gated, rested, strict=True) if rest]
    apart = max(gated, default=math.inf) / min(gated, default=1.0) - 1.0
    return Figure(
        name="p50 of the same network in gated runs, the two farthest apart",
        target=f"within {MOST_APART:.0%}",
        measured=f"{apart:.1%}",
        interval=f"of {len(gated)} processes one after the other; median difference of two {_typical(gated):.1%}",
        met=apart <= MOST_APART and len(gated) >= _FEWEST_RESTED * runs,
        beside=(
            f"{np.median(gated):.4g} ms; the canary rejected {min(rejected):.0%} to {max(rejected):.0%} of the calls, "
            f"{runs - sum(rested)} of {runs} runs said that the machine never rested and are left out; all"
            f" {runs} processes without it: {max(free) / min(free) - 1.0:.1%} "
            f"apart, median difference of two {_typical(free):.1%}"
        ),
    )


def one_run() -> None:
    """Measure the network once with the canary and once without it, as a process of its own."""
    call = chain(_LAYERS)
    settle(call, seconds=_WARM_UP_SECONDS)
    free = record(call, seconds=_RUN_SECONDS / 2, at_most=100_000)
    found: Gated = Gate(Canary()).record(call, seconds=_RUN_SECONDS, at_least=459, at_most=100_000)
    answer = {
        "gated": float(np.median(found.times)) / 1e6,
        "free": float(np.median(free)) / 1e6,
        "rejected": found.rejected,
        "at_rest": found.at_rest,
    }
    print(json.dumps(answer))


def _comparisons(same: int, different: int) -> list[Figure]:
    short, again, longer = chain(_LAYERS), chain(_LAYERS), chain(_LAYERS + 1)
    for call in (short, again, longer):
        settle(call, seconds=_WARM_UP_SECONDS)
    alike = [_compared(short, again, seed) for seed in range(same)]
    unlike = [_compared(longer, short, seed) for seed in range(different)]
    equal = sum(item.verdict == "equal" for item in alike)
    worst = max(item.p for item in unlike)
    called = sum(item.verdict == "faster" and item.p < SIGNIFICANT for item in unlike)
    return [
        Figure(
            name="the same network against itself, called equal",
            target=f"at least {FEWEST_EQUAL} of 100",
            measured=f"{equal} of {same}",
            interval=f"{_PAIRS} pairs each; ratios {_range(alike)}",
            met=equal >= FEWEST_EQUAL / 100 * same,
            beside=f"two sessions of one file; undecided {sum(item.verdict == 'undecided' for item in alike)}",
        ),
        Figure(
            name="20 layers against 21, called faster with p < 0.01",
            target="always",
            measured=f"{called} of {different}",
            interval=f"{_PAIRS} pairs each; ratios {_range(unlike)}",
            met=called == different,
            beside=f"largest p {worst:.2g}",
        ),
    ]


def _compared(baseline: Call, variant: Call, seed: int) -> Difference:
    pairs = interleave(baseline, variant, seconds=0.0, at_least=_PAIRS, at_most=_PAIRS, seed=seed)
    return compare_pairs(pairs.baseline, pairs.variant)


def _range(found: list[Difference]) -> str:
    ratios = [item.ratio for item in found]
    return f"{min(ratios):.3f} to {max(ratios):.3f}"


def _typical(medians: list[float]) -> float:
    """Return by how much two runs typically differ: the median over all pairs."""
    logs = np.log(medians)
    apart = np.abs(logs[:, np.newaxis] - logs)[np.triu_indices(len(logs), 1)]
    return float(np.expm1(np.median(apart)))


def _median(series: NDArray[np.float64]) -> Percentile:
    return percentile(series, 0.5)


if __name__ == "__main__":
    if "--one-run" in sys.argv[1:]:
        one_run()
    else:
        main(measure)
