"""An engine that only counts: known times of operators, an overhead a call, bursts, and a clock of its own."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from deploykit.latency_block import Environment
from deploykit_serving.latency_tables import Sample, Stack

ENVIRONMENT = Environment(host="synthetic", runtime="synthetic", version="1")
OVERHEAD_NS = 5_000.0
CANARY_NS = 50_000.0
FUSED = ("conv", "relu")


class SyntheticEngine:
    """A meter whose models are lists of operators' names in JSON.

    Every sample lets 50 ms pass. In bursts, which last about a second with about one between two, all is 1.2 to 1.7
    times slower; the canary sees them as it would. Beside that each sample is up to 1 % too slow.
    """

    def __init__(self, times_us: Mapping[str, float], *, bursts: bool = True, seed: int = 0) -> None:
        self.times_us = dict(times_us)
        self.environment = ENVIRONMENT
        self.built = 0
        self._random = random.Random(seed)
        self._now = 0.0
        self._burst_ends = 0.0
        self._next_burst = self._random.expovariate(1.0) if bursts else float("inf")
        self._factor = 1.0

    def build(self, model: bytes) -> Sample:
        operators: list[str] = json.loads(model)
        self.built += 1
        return lambda: self._timed(OVERHEAD_NS + 1e3 * self.true_us(operators))

    def canary(self) -> float:
        return self._timed(CANARY_NS)

    def true_us(self, operators: Sequence[str]) -> float:
        """Return what a model takes beside the overhead: the sum, but a fused pair costs only its first."""
        total, before = 0.0, ""
        for operator in operators:
            total += 0.0 if (before, operator) == FUSED else self.times_us[operator]
            before = operator
        return total

    def _timed(self, ns: float) -> float:
        self._now += 0.05
        if self._now >= self._next_burst:
            self._burst_ends = self._now + self._random.uniform(0.5, 1.5)
            self._next_burst = self._burst_ends + self._random.expovariate(1.0)
            self._factor = self._random.uniform(1.2, 1.7)
        slow = self._factor if self._now < self._burst_ends else 1.0
        return ns * slow * (1.0 + self._random.uniform(0.0, 0.01))


def stack_of(*operators: str, stem: Sequence[str] = ()) -> Stack:
    """Return what writes a stem and copies of some operators one behind the other."""
    return lambda copies: model_of(*stem, *(list(operators) * copies))


def model_of(*operators: str) -> bytes:
    return json.dumps(operators).encode()
