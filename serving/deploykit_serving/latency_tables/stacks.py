"""Times of blocks, as differences between stacks of few and of many copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from deploykit.latency_block import Block, LatencyTableError
from deploykit.latency_table import Entry, LatencyTable
from deploykit_serving.latency_tables.meter import Meter
from deploykit_serving.latency_tables.sampling import Canary, Pace, Sampled, sample_in_turns

KeyT = TypeVar("KeyT", Block, str)
Stack = Callable[[int], bytes]
"""Writes an ONNX model with so many copies of a block, one behind the other and otherwise always the same.

Copies need weights of their own, or the runtime computes equal ones once. A block that changes a shape is stacked
together with something that changes it back; then its time is the difference from the same stack with another block,
see ``relative_to``.
"""

COPIES: Final = (2, 6)
MANY_COPIES: Final = (2, 22)
SHORT_US: Final = 3.0
"""Blocks below this take more copies: at 1 us, four copies gave figures that differed by 18 to 33 % from run to run."""


def measure_blocks(
    stacks: Mapping[Block, Stack],
    meter: Meter,
    canary: Canary,
    *,
    relative_to: Mapping[Block, Block] | None = None,
    pace: Pace | None = None,
) -> LatencyTable:
    """Measure what a block adds to a network: ``(t(6 copies) - t(2 copies)) / 4``.

    What a call costs beside its blocks (5 us in ONNX Runtime) is in both stacks and drops out; timing blocks alone
    counts it once each and is wrong by 24 to 85 %. All stacks are timed in turns; blocks that come out below 3 us are
    timed again with 2 and 22 copies.

    Args:
        stacks: for each block what writes its stacks.
        canary: tells whether the machine is at rest.
        relative_to: for blocks whose stacks hold more than the block, the block in ``stacks`` whose stacks hold the
            same beside it; its time is subtracted. That block's own entry is then 0.
        pace: of the sampling.

    Returns:
        a table without skeletons.

    Raises:
        LatencyTableError: there is nothing to measure, or a reference is not among the stacks.
        ServingError: the runtime refuses a stack.
    """
    references = dict(relative_to or {})
    if not stacks:
        raise LatencyTableError("no blocks were given to measure")
    if strange := [block for pair in references.items() for block in pair if block not in stacks]:
        raise LatencyTableError(f"{strange[0]} is measured relative to another block or is one, and has no stack")
    found, floor = _differences(stacks, meter, canary, COPIES, pace)
    again = {block for block, entry in found.items() if entry.median_us < SHORT_US}
    # A difference of differences needs both with the same copies.
    again |= {other for block, other in references.items() if block in again}
    again |= {block for block, other in references.items() if other in again}
    if again:
        short = {block: stacks[block] for block in stacks if block in again}
        finer, lower = _differences(short, meter, canary, MANY_COPIES, pace)
        found, floor = {**found, **finer}, min(floor, lower)
    entries = {block: _relative(entry, found.get(references.get(block, block))) if block in references else entry
               for block, entry in found.items()}  # fmt: skip
    for other in set(references.values()):
        entries[other] = found[other].model_copy(update={"median_us": 0.0, "mad_us": 0.0})
    return LatencyTable(meter.environment, entries, canary_us=floor / 1e3)


def slopes(
    stacks: Mapping[str, Stack],
    meter: Meter,
    canary: Canary,
    *,
    copies: tuple[int, int] = COPIES,
    pace: Pace | None = None,
) -> dict[str, Entry]:
    """Return microseconds a copy for stacks of any kind."""
    return _differences(stacks, meter, canary, copies, pace)[0]


def _differences(
    stacks: Mapping[KeyT, Stack], meter: Meter, canary: Canary, copies: tuple[int, int], pace: Pace | None
) -> tuple[dict[KeyT, Entry], float]:
    few, many = copies
    samples = {(key, count): meter.build(stack(count)) for key, stack in stacks.items() for count in copies}
    found = sample_in_turns(samples, canary, pace)
    floor = min(sampled.floor for sampled in found.values())
    return {key: _entry(found[key, few], found[key, many], copies) for key in stacks}, floor


def _entry(few: Sampled, many: Sampled, copies: tuple[int, int]) -> Entry:
    apart = copies[1] - copies[0]
    return Entry(
        median_us=(many.median - few.median) / apart / 1e3,
        mad_us=math.hypot(many.mad, few.mad) / apart / 1e3,
        accepted=min(many.accepted, few.accepted),
        rejected=many.rejected + few.rejected,
        at_rest=many.at_rest and few.at_rest,
        copies=copies,
    )


def _relative(entry: Entry, other: Entry | None) -> Entry:
    assert other is not None
    return entry.model_copy(
        update={
            "median_us": entry.median_us - other.median_us,
            "mad_us": math.hypot(entry.mad_us, other.mad_us),
            "at_rest": entry.at_rest and other.at_rest,
        }
    )
