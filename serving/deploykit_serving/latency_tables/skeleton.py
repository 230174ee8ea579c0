"""Whole networks, timed; and what they have in common beside their blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploykit.latency_block import LatencyTableError
from deploykit.latency_space import Genotype, SearchSpace
from deploykit.latency_table import Entry, LatencyTable
from deploykit_serving.latency_tables.meter import Meter
from deploykit_serving.latency_tables.sampling import Canary, Pace, sample_in_turns


def measure_networks(models: Sequence[bytes], meter: Meter, canary: Canary, *, pace: Pace | None = None) -> list[Entry]:
    """Time whole networks in turns; for calibration, and to see whether a prediction came true.

    Raises:
        ServingError: the runtime refuses one.
    """
    samples = {number: meter.build(model) for number, model in enumerate(models)}
    found = sample_in_turns(samples, canary, pace)
    return [found[number].entry() for number in range(len(models))]


def measure_skeleton(
    table: LatencyTable,
    space: SearchSpace,
    references: Sequence[tuple[Genotype, bytes]],
    meter: Meter,
    canary: Canary,
    *,
    pace: Pace | None = None,
) -> LatencyTable:
    """Measure what all networks of a space take beside their blocks: stem, head, joints, and the call itself.

    It is what whole reference networks took, less their blocks; with several references the median of that. Choose
    references that the runtime does not simplify: nodes that add up the same states are merged into one.

    Args:
        references: genotypes with their ONNX models.

    Returns:
        the table with the skeleton in it.

    Raises:
        LatencyTableError: no reference, a block of one is missing, or the meter is of another environment.
        ServingError: the runtime refuses one.
    """
    if not references:
        raise LatencyTableError("a skeleton is measured on at least one reference network, got none")
    if meter.environment != table.environment:
        raise LatencyTableError(
            "the meter measures in another environment than the table's: "
            + "; ".join(meter.environment.differences(table.environment))
        )
    counts = [space.content(genotype) for genotype, _ in references]
    blocks = [sum(table.entry(block).median_us * count for block, count in content.items()) for content in counts]
    networks = measure_networks([model for _, model in references], meter, canary, pace=pace)
    rests = np.array([network.median_us - inside for network, inside in zip(networks, blocks, strict=True)])
    entry = Entry(
        median_us=float(np.median(rests)),
        mad_us=max(float(np.median(np.abs(rests - np.median(rests)))), *(network.mad_us for network in networks)),
        accepted=min(network.accepted for network in networks),
        rejected=sum(network.rejected for network in networks),
        at_rest=all(network.at_rest for network in networks),
    )
    alone = LatencyTable(table.environment, skeletons={space.skeleton: entry})
    return table.merged(alone)
