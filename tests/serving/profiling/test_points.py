from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from deploykit_serving.profiling.canary import Gate
from deploykit_serving.profiling.points import NOT_AT_REST, Meter
from deploykit_serving.profiling.schema import Load


class Disturbed:
    """A canary that sees a slow machine at some of its looks, and a call that is slow until the next look."""

    def __init__(self, slow: Callable[[int], bool]) -> None:
        self.looks = itertools.count(1)
        self.is_slow = slow
        self.slow = False

    def read(self) -> float:
        self.slow = self.is_slow(next(self.looks))
        return 2e5 if self.slow else 1e5

    def floor(self) -> float:
        return 1e5

    def call(self) -> None:
        sum(range(200_000 if self.slow else 2_000))


def test_the_tail_is_that_of_all_calls_and_the_median_that_of_the_quiet_ones() -> None:
    machine = Disturbed(lambda look: look % 4 == 0)
    meter = Meter(percentiles=(0.5, 0.9), calls=20_000, gate=Gate(machine))
    point = meter.one_stream(machine.call, 1, 2.0, Load())
    median, tail = (item.value_ms for item in point.percentiles)
    assert point.rejected is not None
    assert point.rejected > 0
    assert median is not None
    assert tail is not None
    assert point.invalid == ""
    assert point.percentiles[1].samples > point.percentiles[0].samples == point.calls


def test_a_machine_that_hardly_ever_rests_gives_an_invalid_point() -> None:
    machine = Disturbed(lambda look: look % 60 > 1)
    point = Meter(percentiles=(0.5,), calls=3000, gate=Gate(machine)).one_stream(
        lambda: sum(range(2_000)), 1, 3.0, Load()
    )
    assert point.invalid == NOT_AT_REST


def test_streams_are_taken_for_dependent() -> None:
    calls = [lambda: np.sort(np.arange(500)[::-1])] * 2
    point = Meter(percentiles=(0.5,), calls=400).streams(calls, 1, 0.3, Load(streams=2))
    assert 1 <= point.percentiles[0].samples <= point.calls
