from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deploykit_serving.profiling.dependence import effective_count
from deploykit_serving.profiling.statistics import percentile


def times_in_line(count: int, load: float, seed: int) -> NDArray[np.float64]:
    """Times in a queue with one server, Poisson arrivals and a service of 1: Lindley's recursion, after a warm-up."""
    gaps = np.random.default_rng(seed).exponential(1 / load, count + 300)
    waits = np.zeros(count + 300)
    for index in range(1, len(waits)):
        waits[index] = max(0.0, waits[index - 1] + 1.0 - gaps[index])
    return waits[300:] + 1.0


def test_independent_samples_are_worth_nearly_what_they_are() -> None:
    for seed in range(5):
        assert effective_count(np.random.default_rng(seed).normal(size=4000), 0.9) > 2000


def test_copies_are_worth_one_each() -> None:
    series = np.repeat(np.random.default_rng(0).normal(size=400), 10)
    assert 100 <= effective_count(series, 0.5) <= 500


def test_a_constant_or_tiny_series_has_no_say() -> None:
    assert effective_count(np.ones(100), 0.9) == 100
    assert effective_count(np.arange(3.0), 0.9) == 3


@pytest.mark.parametrize(("load", "q"), [(0.5, 0.9), (0.8, 0.9)])
def test_bounds_of_a_queue_hold_as_often_as_they_say(load: float, q: float) -> None:
    truth = float(np.quantile(times_in_line(200_000, load, 999), q))
    held = naive = 0
    for seed in range(60):
        series = times_in_line(12_000, load, seed)
        found = percentile(series, q, independent=effective_count(series, q))
        assert found.bound is not None
        held += found.bound >= truth
        plain = percentile(series, q)
        assert plain.low is not None
        assert plain.high is not None
        naive += plain.low <= truth <= plain.high
    assert held >= 55  # 99 of 100 are promised; the estimate of the dependence has a doubt of its own
    assert naive < 50  # taken for independent, the interval of 95 % holds far less often


def test_too_few_independent_samples_are_refused() -> None:
    series = times_in_line(2000, 0.9, 1)
    found = percentile(series, 0.99, independent=effective_count(series, 0.99))
    assert found.value is None
    assert found.samples < found.needed


def test_all_independent_is_the_same_as_not_saying() -> None:
    series = np.random.default_rng(3).lognormal(size=1234)
    for q in (0.1, 0.5, 0.9, 0.99):
        assert percentile(series, q, independent=1234) == percentile(series, q)


def test_more_independent_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted from 0 to 3 independent samples, got 4"):
        percentile(np.ones(3), 0.5, independent=4)
