"""Predicted times: bounds between measured sizes, and a correction that rests where the percentile is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit_serving.choice.prediction import HALF_LIFE, Correction, LatencyCurve
from deploykit_serving.selection.deployment import Latency

TIMES = st.dictionaries(st.integers(1, 64), st.floats(0.01, 1e4), min_size=1, max_size=6)


def curve(times: dict[int, float]) -> LatencyCurve:
    return LatencyCurve([Latency(batch=batch, ms={"p99": ms}) for batch, ms in sorted(times.items())], "p99")


@given(TIMES, st.floats(0.1, 200), st.floats(0.1, 200))
def test_a_larger_batch_is_never_predicted_to_be_faster(times: dict[int, float], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert curve(times).seconds(small) <= curve(times).seconds(large) * (1 + 1e-12)


@given(TIMES)
def test_at_measured_sizes_it_is_at_least_what_was_measured(times: dict[int, float]) -> None:
    for batch, ms in times.items():
        smaller = max(value for size, value in times.items() if size <= batch)
        assert curve(times).seconds(batch) == smaller / 1e3 >= ms / 1e3


@given(
    fixed=st.floats(0.1, 10), growth=st.floats(0.001, 10), power=st.floats(0.1, 1.0),
    sizes=st.sets(st.integers(1, 64), min_size=1, max_size=5), size=st.integers(1, 200),
)  # fmt: skip
def test_it_is_an_upper_bound_where_batching_pays(
    fixed: float, growth: float, power: float, sizes: set[int], size: int
) -> None:
    def true(batch: int) -> float:
        return fixed + growth * math.pow(batch, power)

    found = curve({batch: true(batch) for batch in sizes}).seconds(size) * 1e3
    assert found >= true(size) * (1 - 1e-9) or size < min(sizes)


def test_between_two_sizes_the_smaller_bound_counts() -> None:
    found = curve({1: 1.0, 8: 6.0})
    assert [round(found.seconds(size) * 1e3, 9) for size in (1, 2, 7, 8, 16)] == [1, 2, 6, 6, 12]
    # Eight cost more than eight times one: nothing between may be taken to be cheap.
    assert curve({1: 1.0, 8: 20.0}).seconds(2) == 0.02


def test_sizes_without_the_percentile_are_left_out_and_none_is_an_error() -> None:
    latencies = [Latency(batch=1, ms={"p50": 1.0, "p99": 2.0}), Latency(batch=8, ms={"p50": 5.0})]
    assert LatencyCurve(latencies, "p99").seconds(8) == pytest.approx(0.016)
    with pytest.raises(ValueError, match=r"p99\.9 is known at no batch size"):
        LatencyCurve(latencies, "p99.9")


@pytest.mark.parametrize("share", [0.9, 0.99])
def test_the_correction_rests_where_its_share_takes_longer(share: float) -> None:
    ratios = np.random.default_rng(0).lognormal(0.5, 0.3, 20_000)
    correction = Correction(share)
    above = 0
    for number, ratio in enumerate(ratios):
        now = number * 1e-3
        above += number >= 2000 and ratio > correction.factor(now)
        correction.observe(float(ratio), now)
    assert above / 18_000 == pytest.approx(1 - share, rel=0.25)


def test_a_slow_machine_is_noticed_soon_and_forgotten_slowly() -> None:
    correction = Correction(0.99)
    for number in range(8):
        correction.observe(2.0, number * 1e-3)
    assert 1.9 < correction.factor(0.008) < 2.3
    level = math.log(correction.factor(0.008))
    assert math.log(correction.factor(0.007 + HALF_LIFE)) == pytest.approx(level / 2, rel=0.01)
    for number in range(3000):
        correction.observe(1.0, 0.008 + number * 1e-3)
    assert correction.factor(3.1) < 1.12


@given(st.lists(st.floats(0.001, 1000), max_size=200))
def test_it_never_promises_more_than_was_measured(ratios: list[float]) -> None:
    correction = Correction(0.99)
    for number, ratio in enumerate(ratios):
        correction.observe(ratio, number * 0.1)
        assert correction.factor(number * 0.1) >= 1
