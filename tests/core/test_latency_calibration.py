"""From a table's sums to whole networks: one ratio, a margin, and how good the result is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.latency_block import LatencyTableError
from deploykit.latency_calibration import Calibration, accuracy, calibrate, fit_residual, kendall_tau, safety_margin
from deploykit.latency_table import Entry


def test_a_calibration_finds_the_ratio_and_leaves_a_margin() -> None:
    predicted = [100.0 + 10 * i for i in range(9)]
    factors = [1.08, 1.1, 1.1, 1.1, 1.12, 1.1, 1.1, 1.1, 1.1]
    measured = [Entry(median_us=us * f, mad_us=0.5) for us, f in zip(predicted, factors, strict=True)]
    found = calibrate(predicted, measured)
    assert found.ratio == pytest.approx(1.1)
    assert found.networks == 9
    assert found.margin == pytest.approx(1.12 / 1.1 - 1)
    assert found.corrected(200.0) == pytest.approx(220.0)
    assert found.corrected(found.budget(500.0)) * (1 + found.margin) == pytest.approx(500.0)
    assert Calibration().budget(500.0) == 500.0


def test_a_calibration_is_refused_where_it_would_do_harm() -> None:
    predicted = [100.0] * 8
    with pytest.raises(LatencyTableError, match=r"takes at least 8 networks.*got 7 predictions and 7"):
        calibrate(predicted[:7], [Entry(median_us=100.0)] * 7)
    with pytest.raises(LatencyTableError, match=r"too noisy to calibrate with: samples of one network spread by 7.4%"):
        calibrate(predicted, [Entry(median_us=100.0, mad_us=5.0)] * 8)
    with pytest.raises(LatencyTableError, match="at least 8 networks measured at rest, and 1 of 8 never were"):
        calibrate(predicted, [Entry(median_us=100.0, at_rest=False), *[Entry(median_us=100.0)] * 7])


def test_networks_that_were_never_at_rest_are_left_out() -> None:
    calm, restless = [Entry(median_us=110.0)] * 8, [Entry(median_us=300.0, mad_us=90.0, at_rest=False)] * 9
    found = calibrate([100.0] * 17, [*restless, *calm])
    assert found.ratio == pytest.approx(1.1)
    assert found.networks == 8
    assert found.margin == pytest.approx(0.0)


@pytest.mark.parametrize(("predicted", "measured"), [(100.0, 0.0), (100.0, -2.0), (0.0, 100.0), (math.nan, 100.0)])
def test_times_that_are_not_above_zero_are_refused(predicted: float, measured: float) -> None:
    entries = [*[Entry(median_us=100.0)] * 7, Entry(median_us=measured)]
    with pytest.raises(LatencyTableError, match=rf"network 7 is predicted .*{measured:g} us; both must be above 0"):
        calibrate([*[100.0] * 7, predicted], entries)


def test_a_margin_is_never_below_zero() -> None:
    assert safety_margin([2.0, 2.0], [1.0, 1.5]) == 0.0
    assert safety_margin([1.0] * 101, np.linspace(1.0, 2.0, 101)) == pytest.approx(0.95)


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20))
def test_kendalls_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import kendalltau

    a, b = (np.array(series, dtype=np.float64) for series in zip(*pairs, strict=True))
    theirs = float(kendalltau(a, b).statistic)
    assert kendall_tau(a, b) == pytest.approx(0.0 if math.isnan(theirs) else theirs, abs=1e-12)


def test_accuracy_is_as_by_hand() -> None:
    found = accuracy([90.0, 110.0, 300.0], [100.0, 100.0, 300.0])
    assert (found.mean, found.p95, found.worst, found.under) == pytest.approx((0.2 / 3, 0.1, 0.1, 0.1))
    assert found.tau == pytest.approx(2 / math.sqrt(3 * 2))  # one tie in what was measured
    with pytest.raises(LatencyTableError, match="an accuracy takes at least 2"):
        accuracy([1.0], [1.0])


def test_a_residual_learns_what_the_table_leaves_over_and_little_else() -> None:
    draw = np.random.default_rng(0)
    features = draw.integers(0, 5, size=(200, 3)).astype(np.float64)
    truth = np.exp(0.02 * features[:, 0])
    measured = [Entry(median_us=100.0 * factor) for factor in truth]
    fitted = fit_residual(features[:100], [100.0] * 100, measured[:100])
    errors = np.abs(100.0 * fitted.factors(features[100:]) / (100.0 * truth[100:]) - 1)
    assert errors.mean() < 0.25 * np.abs(100.0 / (100.0 * truth[100:]) - 1).mean()
    unshaken = fit_residual(features[:100], [100.0] * 100, measured[:100], strength=1e9)
    assert np.ptp(unshaken.factors(features)) < 1e-6
    with pytest.raises(LatencyTableError, match="a residual takes at least 30 networks"):
        fit_residual(features[:29], [100.0] * 29, measured[:29])
    with pytest.raises(LatencyTableError, match=r"features of shape \(30, features\), got \(31, 3\)"):
        fit_residual(features[:31], [100.0] * 30, measured[:30])
