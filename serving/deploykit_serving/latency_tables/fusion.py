"""Whether a runtime fuses two operators: then they are one block and must be measured as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deploykit_serving.latency_tables.meter import Meter
from deploykit_serving.latency_tables.sampling import Canary, Pace
from deploykit_serving.latency_tables.stacks import COPIES, Stack, slopes

_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Fusion:
    """What two operators take apart and one behind the other, microseconds.

    Attributes:
        first, second: each alone.
        together: both, the second behind the first.
    """

    first: float
    second: float
    together: float

    @property
    def saved(self) -> float:
        """How much less they take together, microseconds; below 0 where joining costs (a change of layout)."""
        return self.first + self.second - self.together

    @property
    def fused(self) -> bool:
        """Whether they save more than half of the shorter one.

        Source: nn-Meter (Zhang et al. 2021), the test that finds its kernels.
        """
        return self.saved > _SHARE * min(self.first, self.second)


def detect_fusion(
    first: Stack,
    second: Stack,
    together: Stack,
    meter: Meter,
    canary: Canary,
    *,
    copies: tuple[int, int] = COPIES,
    pace: Pace | None = None,
) -> Fusion:
    """Time two operators apart and together, as differences of stacks.

    Args:
        together: a copy is the first operator with the second behind it.

    Raises:
        ServingError: the runtime refuses a stack.
    """
    stacks = {"first": first, "second": second, "together": together}
    found = slopes(stacks, meter, canary, copies=copies, pace=pace)
    return Fusion(*(found[name].median_us for name in stacks))
