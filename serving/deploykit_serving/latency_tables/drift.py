"""Whether a table that was measured some time ago still holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from deploykit.latency_block import Block, LatencyTableError
from deploykit.latency_table import LatencyTable
from deploykit_serving.latency_tables.meter import Meter
from deploykit_serving.latency_tables.sampling import Canary, Pace
from deploykit_serving.latency_tables.stacks import SHORT_US, Stack, measure_blocks

DRIFT: Final = 0.05
WORST: Final = 3.0
"""What one block may have changed by, in tolerances: a kernel that was replaced moves its own blocks only."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What a second measurement of a few blocks found.

    Attributes:
        changes: by block, new over old less 1.
        canary: the same of the canary's floor; ``None`` where the table keeps none.
        at_rest: whether the machine let itself be measured; if not, nothing follows.
        tolerance: what the median change and the canary's may be; a single block's may be three times that.
    """

    changes: dict[Block, float]
    canary: float | None
    at_rest: bool
    tolerance: float

    @property
    def valid(self) -> bool:
        """Whether the table may be used: measured at rest, and no change above what ``tolerance`` allows."""
        changes = list(self.changes.values()) or [0.0]
        moved = [float(np.median(changes)), *([] if self.canary is None else [self.canary])]
        within = all(abs(change) <= self.tolerance for change in moved)
        return self.at_rest and within and max(map(abs, changes)) <= WORST * self.tolerance

    def __str__(self) -> str:
        """Say what was found."""
        if not self.at_rest:
            return "the machine never came to rest, so that nothing can be said of the table; try again"
        worst = max(self.changes, key=lambda block: abs(self.changes[block]), default=None)
        text = "the table holds" if self.valid else "the table is stale: measure it anew"
        if worst is not None:
            text += f"; largest change {self.changes[worst]:+.1%}, of {worst}"
        return text if self.canary is None else f"{text}; the canary's floor changed by {self.canary:+.1%}"


def still_valid(
    table: LatencyTable,
    stacks: Mapping[Block, Stack],
    meter: Meter,
    canary: Canary,
    *,
    count: int = 5,
    tolerance: float = DRIFT,
    seed: int = 0,
    pace: Pace | None = None,
) -> Drift:
    """Measure a few blocks of a table anew.

    Only blocks of at least 3 us are taken: shorter ones change by more than the tolerance from run to run.

    Args:
        stacks: what writes stacks of the table's blocks; without ``relative_to`` ones.
        count: how many blocks, drawn with ``seed``.

    Raises:
        LatencyTableError: another environment, or the table and the stacks share no block that is long enough.
        ServingError: the runtime refuses a stack.
    """
    if differences := meter.environment.differences(table.environment):
        raise LatencyTableError(f"the table is of another environment: {'; '.join(differences)}; measure one here")
    able = sorted((block for block in stacks if block in table.blocks), key=str)
    able = [block for block in able if table.blocks[block].median_us >= SHORT_US]
    if not able:
        raise LatencyTableError(
            f"none of the table's blocks of at least {SHORT_US:g} us has a stack to measure it with"
        )
    drawn = np.random.default_rng(seed).permutation(len(able))[:count]
    again = measure_blocks({able[place]: stacks[able[place]] for place in drawn}, meter, canary, pace=pace)
    changes = {block: entry.median_us / table.blocks[block].median_us - 1.0 for block, entry in again.blocks.items()}
    floors = (again.canary_us, table.canary_us)
    moved = None if floors[0] is None or floors[1] is None else floors[0] / floors[1] - 1.0
    return Drift(changes, moved, all(entry.at_rest for entry in again.blocks.values()), tolerance)
