"""Schedules: their ends, their shape and their order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest

from deploykit_relaxations.schedules import cosine_schedule, geometric_schedule, linear_schedule, stepped_schedule

GRID = [step / 20 for step in range(21)]


@pytest.mark.parametrize(
    "schedule", [cosine_schedule, geometric_schedule, linear_schedule, partial(stepped_schedule, levels=5)]
)
def test_every_schedule_starts_and_ends_where_it_says_and_never_turns_back(
    schedule: Callable[[float, float, float], float],
) -> None:
    for start, end in ((2.0, 0.02), (0.5, 30.0)):
        values = [schedule(progress, start, end) for progress in GRID]
        assert values[0] == start
        assert values[-1] == pytest.approx(end)
        steps = [later - earlier for earlier, later in itertools.pairwise(values)]
        assert all(step * (end - start) >= 0 for step in steps)


def test_a_linear_schedule_has_equal_steps_and_a_cosine_one_that_of_the_cosine() -> None:
    values = [linear_schedule(progress, 3.0, 1.0) for progress in GRID]
    assert values == pytest.approx([3.0 - 2.0 * progress for progress in GRID])
    values = [cosine_schedule(progress, 3.0, 1.0) for progress in GRID]
    assert values == pytest.approx([2.0 + math.cos(math.pi * progress) for progress in GRID])


def test_a_stepped_schedule_holds_each_value_equally_long() -> None:
    values = [stepped_schedule(index / 100, 8.0, 1.0, levels=4) for index in range(100)]
    assert [values.count(value) for value in dict.fromkeys(values)] == [25] * 4
    assert list(dict.fromkeys(values)) == pytest.approx([8.0, 4.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="levels must be at least 2, from start to end, got 1"):
        stepped_schedule(0.5, 1.0, 0.1, levels=1)
