"""Many models timed in turns, in random order, with a look at a canary before and after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from deploykit.latency_table import Entry
from deploykit_serving.latency_tables.meter import Sample
from deploykit_serving.profiling.closed_loop import collector_off

KeyT = TypeVar("KeyT", bound=Hashable)
Canary = Callable[[], float]
"""Times a fixed network and returns nanoseconds; ``deploykit_serving.profiling.canary.Canary().read`` is one."""
TOLERANCE: Final = 0.04


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how carefully to sample.

    Attributes:
        accepted: samples wanted of each model while the machine is at rest.
        rounds: at most so many samples of each.
        seconds: no round is begun after this, once each model has ``accepted`` samples of any kind.
        tolerance: by how much the canary may be above its floor, as a share, before and after an accepted sample.
        seed: of the order.
    """

    accepted: int = 5
    rounds: int = 40
    seconds: float = 60.0
    tolerance: float = TOLERANCE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Sampled:
    """One model's samples, reduced.

    Attributes:
        median, mad: nanoseconds a call, of the accepted samples.
        accepted, rejected: how many were taken while the canary was within its tolerance, and how many were not.
        at_rest: whether enough were accepted; if not, ``median`` is that of the least disturbed ones.
        floor: the canary at its best, nanoseconds; by it the samples were judged.
    """

    median: float
    mad: float
    accepted: int
    rejected: int
    at_rest: bool
    floor: float

    def entry(self) -> Entry:
        """Return it as a table writes it."""
        return Entry(
            median_us=self.median / 1e3,
            mad_us=self.mad / 1e3,
            accepted=self.accepted,
            rejected=self.rejected,
            at_rest=self.at_rest,
        )


def sample_in_turns(
    samples: Mapping[KeyT, Sample],
    canary: Canary,
    pace: Pace | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> dict[KeyT, Sampled]:
    """Sample models in rounds until each has enough samples that were taken at rest.

    Bursts on shared machines last seconds and slow everything by 1.2 to 1.7 times, so that neither a median nor a
    minimum of one model's consecutive runs can be trusted. All samples are judged once the last is taken, by the lowest
    reading of the canary: a floor that is found late also counts for earlier ones.

    Args:
        samples: by any key.
        canary: called between all samples.
        pace: how long to go on.

    Raises:
        ValueError: fewer rounds are allowed than samples wanted, or none is wanted.
    """
    pace = pace or Pace()
    if not 1 <= pace.accepted <= pace.rounds:
        raise ValueError(f"wanted 1 <= accepted <= rounds, got {pace.accepted} and {pace.rounds}")
    order = np.random.default_rng(pace.seed)
    keys = list(samples)
    taken: dict[KeyT, list[tuple[float, float]]] = {key: [] for key in keys}
    with collector_off():
        before = floor = canary()
        end = clock() + pace.seconds
        for number in range(pace.rounds):
            limit = floor * (1.0 + pace.tolerance)
            lacking = [key for key in keys if sum(seen <= limit for _, seen in taken[key]) < pace.accepted]
            if not lacking or (number >= pace.accepted and clock() >= end):
                break
            for place in order.permutation(len(lacking)):
                found = samples[lacking[place]]()
                after = canary()
                taken[lacking[place]].append((found, max(before, after)))
                floor = min(floor, after)
                before = after
    return {key: _reduced(found, floor, pace) for key, found in taken.items()}


def _reduced(found: list[tuple[float, float]], floor: float, pace: Pace) -> Sampled:
    calm = [time for time, seen in found if seen <= floor * (1.0 + pace.tolerance)]
    at_rest = len(calm) >= pace.accepted
    kept = calm if at_rest else [time for time, _ in sorted(found, key=lambda pair: pair[1])[: pace.accepted]]
    median = float(np.median(kept))
    return Sampled(
        median=median,
        mad=float(np.median(np.abs(np.array(kept) - median))),
        accepted=len(calm),
        rejected=len(found) - len(calm),
        at_rest=at_rest,
        floor=floor,
    )
