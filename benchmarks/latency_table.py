"""How well a latency table predicts whole networks it has never seen: ONNX Runtime on the CPU, one thread.

Nodes of cells are measured as differences of stacks, gated by the canary; four random networks give the skeleton, eight
more one calibration ratio; forty others are predicted and then measured. The networks are those of
``benchmarks/cell_graphs.py``.

Run: python -m benchmarks.latency_table
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.cell_graphs import INPUTS, cell_space, network, node_stacks, operator_stacks, random_genotype
from benchmarks.figure import Figure, main
from deploykit.latency_block import LatencyTableError
from deploykit.latency_calibration import Accuracy, Calibration, accuracy, calibrate
from deploykit.latency_space import Genotype, SearchSpace
from deploykit.latency_table import Entry, LatencyTable
from deploykit_serving.latency_tables import Pace, RuntimeMeter, measure_blocks, measure_networks, measure_skeleton
from deploykit_serving.latency_tables.stacks import SHORT_US
from deploykit_serving.profiling.canary import Canary

REFERENCES: Final = 4
CALIBRATION: Final = 12
HELD_OUT: Final = 40
MEAN: Final = 0.05
P95: Final = 0.10
TAU: Final = 0.85
REPEAT: Final = 0.03
_PACE: Final = Pace(accepted=9, rounds=400, seconds=20.0)


def measure(seed: int = 0) -> list[Figure]:
    """Measure a table twice and networks once; at most about two minutes, on a quiet machine ten seconds."""
    meter, canary, space, plain = RuntimeMeter(INPUTS), Canary().read, cell_space(), cell_space(by_node=False)
    draw = random.Random(seed)
    genotypes = [random_genotype(draw) for _ in range(REFERENCES + CALIBRATION + HELD_OUT)]
    models = [network(genotype) for genotype in genotypes]
    stacks = node_stacks()
    table = measure_blocks({**stacks, **operator_stacks()}, meter, canary, pace=_PACE)
    references = list(zip(genotypes, models, strict=True))[:REFERENCES]
    for each in (space, plain):
        table = measure_skeleton(table, each, references, meter, canary, pace=_PACE)
    measured = measure_networks(models[REFERENCES:], meter, canary, pace=_PACE)
    again = measure_blocks(stacks, meter, canary, pace=_PACE)
    noise = _noise([*table.blocks.values(), *table.skeletons.values(), *measured])
    return [
        *_figures(
            _fit(table, space, genotypes[REFERENCES:], measured),
            _fit(table, plain, genotypes[REFERENCES:], measured),
            [entry.median_us for entry in measured[CALIBRATION:]],
            noise,
        ),
        _repeated(table, again),
    ]


@dataclass(frozen=True, slots=True)
class _Fit:
    calibrated: Accuracy
    raw: Accuracy
    how: str


def _fit(table: LatencyTable, space: SearchSpace, genotypes: Sequence[Genotype], measured: Sequence[Entry]) -> _Fit:
    predicted = [table.cost(space, genotype).us for genotype in genotypes]
    try:
        calibration = calibrate(predicted[:CALIBRATION], measured[:CALIBRATION])
        how = f"times {calibration.ratio:.3f}, from {calibration.networks} other networks"
    except LatencyTableError as error:
        calibration, how = Calibration(), f"uncalibrated: {error}"
    raw = np.array(predicted[CALIBRATION:])
    found = np.array([entry.median_us for entry in measured[CALIBRATION:]])
    return _Fit(accuracy(raw * calibration.ratio, found), accuracy(raw, found), how)


def _figures(nodes: _Fit, operators: _Fit, found: Sequence[float], noise: str) -> list[Figure]:
    fit, raw, plain = nodes.calibrated, nodes.raw, operators
    among = f"{fit.networks} held-out networks of {min(found):.0f} to {max(found):.0f} us"
    beside = (
        f"{nodes.how}; the table alone: mean {raw.mean:.1%}, p95 {raw.p95:.1%}, tau {raw.tau:.2f}; largest "
        f"under-prediction {fit.under:.1%}. With single operators as blocks: mean {plain.calibrated.mean:.1%}, p95 "
        f"{plain.calibrated.p95:.1%}, tau {plain.calibrated.tau:.2f}, alone {plain.raw.mean:.1%}. {noise}"
    )
    return [
        Figure("latency table: mean error", f"at most {MEAN:.0%}", f"{fit.mean:.1%}", among, fit.mean <= MEAN, beside),
        Figure(
            "latency table: p95 of the error", f"at most {P95:.0%}", f"{fit.p95:.1%}", f"worst {fit.worst:.1%}",
            fit.p95 <= P95,
        ),
        Figure("latency table: Kendall's tau", f"at least {TAU}", f"{fit.tau:.2f}", among, fit.tau >= TAU),
    ]  # fmt: skip


def _noise(entries: list[Entry]) -> str:
    taken = sum(entry.accepted + entry.rejected for entry in entries)
    rejected = sum(entry.rejected for entry in entries) / taken
    restless = sum(not entry.at_rest for entry in entries)
    state = f"The canary rejected {rejected:.0%} of the samples"
    if not restless:
        return state
    return f"{state}; TOO NOISY: {restless} of {len(entries)} times were never taken at rest; run it on a quiet machine"


def _repeated(one: LatencyTable, other: LatencyTable) -> Figure:
    long = [block for block in other.blocks if one.blocks[block].median_us >= SHORT_US]
    changes = np.array([abs(other.blocks[block].median_us / one.blocks[block].median_us - 1.0) for block in long])
    return Figure(
        name="latency table: blocks measured again",
        target=f"median change at most {REPEAT:.0%}",
        measured=f"{np.median(changes):.1%}",
        interval=f"{len(long)} blocks of at least {SHORT_US:g} us, p95 {np.quantile(changes, 0.95):.1%}",
        met=float(np.median(changes)) <= REPEAT,
        beside="new sessions, in the same process",
    )


if __name__ == "__main__":
    main(measure)
