from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deploykit_serving.profiling.statistics import (
    binomial_cdf,
    largest_supported,
    paired_ratio,
    percentile,
    samples_needed,
)

SHARES = st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99])
TIMES = st.lists(st.integers(1, 10**9), min_size=459, max_size=700)


@given(count=st.integers(1, 3000), share=st.floats(0.001, 0.999))
@settings(deadline=None)
def test_binomial_cdf_is_scipys(count: int, share: float) -> None:
    wanted = stats.binom.cdf(np.arange(count + 1), count, share)
    np.testing.assert_allclose(binomial_cdf(count, share), wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("q", "over", "count"),
    [
        (0.9, 0, 44), (0.9, 1, 64), (0.9, 10, 197),
        (0.99, 0, 459), (0.99, 1, 662), (0.99, 5, 1307), (0.99, 10, 2010), (0.99, 100, 12_571),
        (0.999, 0, 4603), (0.999, 1, 6636), (0.999, 10, 20_140),
    ],
)  # fmt: skip
def test_samples_needed_are_those_of_mlperf(q: float, over: int, count: int) -> None:
    assert samples_needed(q, over) == count


@given(q=SHARES, over=st.integers(0, 30))
@settings(deadline=None)
def test_samples_needed_is_the_smallest_count_by_scipy(q: float, over: int) -> None:
    count = samples_needed(q, over)
    assert stats.binom.cdf(over, count, 1 - q) <= 0.01 < stats.binom.cdf(over, count - 1, 1 - q)


@given(times=TIMES, q=SHARES)
@settings(max_examples=30, deadline=None)
def test_value_is_the_smallest_time_with_enough_at_or_below_it(times: list[int], q: float) -> None:
    found = percentile(np.array(times), q)
    enough = Fraction(str(q)) * len(times)
    wanted = next(time for time in sorted(times) if sum(other <= time for other in times) >= enough)
    assert found.value == wanted
    assert found.value == np.quantile(times, q, method="inverted_cdf")


@given(times=TIMES, q=SHARES)
@settings(max_examples=30, deadline=None)
def test_interval_is_scipys_and_holds_the_value(times: list[int], q: float) -> None:
    found = percentile(np.array(times), q)
    wanted = stats.quantile_test(times, q=0, p=q).confidence_interval(0.95)
    assert (found.low, found.high) == (wanted.low, wanted.high)
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


@given(times=TIMES, q=SHARES)
@settings(max_examples=30, deadline=None)
def test_bound_drops_as_many_as_early_stopping_allows(times: list[int], q: float) -> None:
    over = max(t for t in range(len(times)) if stats.binom.cdf(t, len(times), 1 - q) <= 0.01)
    assert percentile(np.array(times), q).bound == sorted(times)[len(times) - 1 - over]


@given(times=TIMES, q=SHARES, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_order_of_measurement_does_not_matter(times: list[int], q: float, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(times)
    assert percentile(np.array(times), q) == percentile(shuffled, q)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_interval_covers_the_truth_as_often_as_it_says(q: float) -> None:
    random = np.random.default_rng(1)
    runs = [percentile(random.exponential(size=800), q) for _ in range(600)]
    truth = -math.log(1 - q)
    hits = sum(run.low <= truth <= run.high for run in runs if run.low is not None and run.high is not None)
    over = sum(truth > run.bound for run in runs if run.bound is not None)
    assert hits / len(runs) > 0.93  # 95 % less three standard errors
    assert over / len(runs) < 0.025  # 1 % and three standard errors


def test_interval_and_bound_of_the_thousandth_cover_the_truth() -> None:
    random = np.random.default_rng(2)
    runs = [percentile(random.lognormal(size=6000), 0.999) for _ in range(300)]
    truth = stats.lognorm.ppf(0.999, 1.0)
    hits = sum(run.low <= truth <= run.high for run in runs if run.low is not None and run.high is not None)
    over = sum(truth > run.bound for run in runs if run.bound is not None)
    assert hits / len(runs) > 0.91  # 95 % less three standard errors
    assert over / len(runs) < 0.028


@given(times=st.lists(st.integers(1, 10**9), min_size=1, max_size=60), repeat=st.integers(80, 120))
@settings(max_examples=20, deadline=None)
def test_any_percentile_is_numpys(times: list[int], repeat: int) -> None:
    sample = np.array(times * repeat)
    for q in (0.5, 0.9, 0.999):
        found = percentile(sample, q)
        if len(sample) >= found.needed:
            assert found.value == np.quantile(sample, q, method="inverted_cdf")
        else:
            assert found.value is None


@given(count=st.integers(1, 20_000))
@settings(deadline=None)
def test_the_largest_percentile_a_count_supports_is_the_last_that_needs_no_more(count: int) -> None:
    share = largest_supported(count)
    assert samples_needed(share * (1 - 1e-9)) <= count
    assert samples_needed(share + (1 - share) * 1e-6) > count


def test_459_samples_support_the_99th_percentile_and_458_do_not() -> None:
    assert largest_supported(459) >= 0.99 > largest_supported(458)
    with pytest.raises(ValueError, match="at least 1 sample, got 0"):
        largest_supported(0)


@pytest.mark.parametrize(("q", "needed"), [(0.5, 7), (0.9, 44), (0.99, 459), (0.999, 4603)])
def test_percentile_is_refused_below_the_count_and_given_at_it(q: float, needed: int) -> None:
    refused = percentile(np.arange(needed - 1), q)
    assert (refused.value, refused.low, refused.high, refused.bound) == (None, None, None, None)
    assert (refused.samples, refused.needed) == (needed - 1, needed)
    given_ = percentile(np.arange(needed), q)
    assert given_.value is not None
    assert given_.bound == needed - 1


@pytest.mark.parametrize("q", [0.0, 1.0, 99.0])
def test_percentile_must_be_a_share(q: float) -> None:
    with pytest.raises(ValueError, match=r"share inside \(0, 1\), 0.99 for p99"):
        percentile(np.arange(10), q)


def test_percentile_wants_one_dimension() -> None:
    with pytest.raises(ValueError, match=r"shape \(n,\), got \(2, 5\)"):
        percentile(np.zeros((2, 5)), 0.5)


def test_samples_needed_refuses_a_negative_count() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        samples_needed(0.5, -1)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=6, max_size=200))
@settings(deadline=None)
def test_ratio_is_the_median_of_pairs_with_scipys_sign_interval(pairs: list[tuple[int, int]]) -> None:
    baseline, variant = np.array(pairs, dtype=np.float64).T
    found = paired_ratio(baseline, variant)
    wanted = stats.quantile_test(baseline / variant, q=1, p=0.5).confidence_interval(0.95)
    assert found.ratio == np.median(baseline / variant)
    assert (found.low, found.high) == (wanted.low, wanted.high)
    assert found.low <= found.ratio <= found.high


def test_ratio_does_not_see_drift_that_hits_both() -> None:
    drift = np.linspace(1, 50, 40)
    assert paired_ratio(2 * drift, drift).ratio == pytest.approx(2.0)
    assert paired_ratio(2 * drift, drift).faster


def test_equal_series_are_seldom_called_different() -> None:
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        found = paired_ratio(random.lognormal(size=60), random.lognormal(size=60))
        wrong += found.low > 1 or found.high < 1
    assert wrong / 400 < 0.085  # 5 % and three standard errors


def test_five_pairs_support_no_interval() -> None:
    with pytest.raises(ValueError, match="5 pairs support no 95% interval; measure at least 6"):
        paired_ratio(np.ones(5), np.ones(5))


def test_series_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="two series of the same length"):
        paired_ratio(np.ones(8), np.ones(7))


def test_times_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="clock is too coarse"):
        paired_ratio(np.ones(8), np.zeros(8))
