from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from deploykit_serving.profiling.significance import Difference, compare_pairs, compare_runs

Series = NDArray[np.float64]
Random = np.random.Generator
RUNS = 100


def _steady(random: Random, count: int) -> tuple[Series, Series]:
    noise = random.lognormal(0.0, 0.02, size=(2, count))
    return noise[0], noise[1]


def _shared(random: Random, count: int) -> tuple[Series, Series]:
    """A shared machine: drift and bursts of seconds hit both halves of a pair, others one half only."""
    common = np.linspace(0.0, random.normal(0.0, 0.1), count)
    at = 0
    while (at := at + 1 + int(random.exponential(60))) < count:
        length = 1 + int(random.exponential(15))
        common[at : at + length] += math.log(random.uniform(1.1, 1.7))
        at += length
    ours, theirs = (
        np.exp(
            common + _remembering(random, count, 0.6, 0.02) + (random.random(count) < 0.05) * random.exponential(0.3)
        )
        for _ in range(2)
    )
    return ours, theirs


def _heavy(random: Random, count: int) -> tuple[Series, Series]:
    """Heavy tails: now and then a call takes many times as long."""
    times = np.exp(random.standard_t(2.0, size=(2, count)) * 0.02)
    return times[0], times[1]


def _remembering(random: Random, count: int, memory: float, scale: float) -> Series:
    """Noise that resembles what it was just before."""
    noise, last = np.empty(count), 0.0
    for index, step in enumerate(random.normal(0.0, scale, count)):
        noise[index] = last = memory * last + step
    return noise


MACHINES = pytest.mark.parametrize("machine", [_steady, _shared, _heavy], ids=lambda machine: machine.__name__)


@MACHINES
def test_the_same_thing_twice_is_called_equal(machine: Callable[[Random, int], tuple[Series, Series]]) -> None:
    verdicts = [compare_pairs(*machine(np.random.default_rng(seed), 400)).verdict for seed in range(RUNS)]
    assert verdicts.count("equal") >= 95


@MACHINES
@pytest.mark.parametrize("ratio", [1.05, 1 / 1.05])
def test_five_per_cent_are_called_in_the_right_direction(
    machine: Callable[[Random, int], tuple[Series, Series]], ratio: float
) -> None:
    found = []
    for seed in range(RUNS):
        baseline, variant = machine(np.random.default_rng(seed), 400)
        found.append(compare_pairs(baseline, variant / ratio))
    called = [item for item in found if item.p < 0.01 and item.verdict == ("faster" if ratio > 1 else "slower")]
    assert len(called) >= 99
    assert np.mean([item.low <= ratio <= item.high for item in found]) >= 0.88  # 95 % less three standard errors
    assert np.median([item.ratio for item in found]) == pytest.approx(ratio, rel=0.003)


@pytest.mark.parametrize("count", [8, 11, 20, 31])
def test_p_is_wilcoxons_and_the_interval_its_inversion(count: int) -> None:
    logs = np.random.default_rng(count).normal(0.02, 0.05, count)
    found = compare_pairs(np.exp(logs), np.ones(count))
    assert found.p == pytest.approx(stats.wilcoxon(logs, method="exact").pvalue)
    # Slowly: the interval is all shifts that the test does not reject.
    averages = sorted((logs[i] + logs[j]) / 2 for i in range(count) for j in range(i, count))
    assert math.log(found.ratio) == pytest.approx(float(np.median(averages)))
    for end, inside in ((math.log(found.low), 1e-9), (math.log(found.high), -1e-9)):
        assert stats.wilcoxon(logs - end - inside, method="exact").pvalue > 0.05
        assert stats.wilcoxon(logs - end + inside, method="exact").pvalue <= 0.05


def test_swapping_the_two_turns_everything_round() -> None:
    baseline, variant = _shared(np.random.default_rng(0), 200)
    one, other = compare_pairs(baseline, variant / 1.1), compare_pairs(variant / 1.1, baseline)
    assert (one.verdict, other.verdict) == ("faster", "slower")
    assert one.p == other.p
    assert (one.ratio, one.low, one.high) == pytest.approx((1 / other.ratio, 1 / other.high, 1 / other.low))


def test_units_do_not_matter() -> None:
    baseline, variant = _steady(np.random.default_rng(0), 100)
    one, other = compare_pairs(baseline, variant), compare_pairs(baseline * 1e6, variant * 1e6)
    assert (one.ratio, one.low, one.high, one.p) == pytest.approx((other.ratio, other.low, other.high, other.p))


def test_a_difference_below_the_margin_is_equal_however_sure() -> None:
    noise = np.random.default_rng(0).lognormal(0.0, 0.001, size=(2, 400))
    found = compare_pairs(noise[0] * 1.005, noise[1])
    assert found.p < 1e-6
    assert found.verdict == "equal"
    assert compare_pairs(noise[0] * 1.005, noise[1], margin=0.002).verdict == "faster"


def test_too_wide_an_interval_is_undecided_and_not_equal() -> None:
    noise = np.random.default_rng(0).lognormal(0.0, 0.5, size=(2, 12))
    assert compare_pairs(noise[0], noise[1]).verdict == "undecided"


def test_identical_series_are_equal_with_p_1() -> None:
    assert compare_pairs(np.full(50, 3.0), np.full(50, 3.0)) == Difference(1.0, 1.0, 1.0, 1.0, "equal")
    runs = compare_runs([3.0] * 50, [3.0] * 50, between_runs=0.0)
    assert (runs.ratio, runs.p, runs.verdict) == (1.0, 1.0, "equal")
    assert (runs.low, runs.high) == pytest.approx((1.0, 1.0))
    assert compare_runs([3.3] * 50, [3.0] * 50, between_runs=0.0).verdict == "faster"


def _run(random: Random, count: int, between: float) -> Series:
    """Blocks of one run: its own level, memory, and bursts."""
    bursts = (random.random(count) < 0.1) * 0.03
    return np.exp(random.normal(0.0, between) + _remembering(random, count, 0.6, 0.01) + bursts)


@pytest.mark.parametrize("count", [12, 60, 120])
def test_two_runs_of_the_same_thing_are_seldom_called_different(count: int) -> None:
    wrong = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        wrong += compare_runs(_run(random, count, 0.01), _run(random, count, 0.01)).verdict in ("faster", "slower")
    assert wrong / 300 < 0.028  # 1 % and three standard errors


def test_two_runs_that_differ_by_a_tenth_are_told_apart() -> None:
    verdicts = []
    for seed in range(RUNS):
        random = np.random.default_rng(seed)
        verdicts.append(compare_runs(_run(random, 60, 0.01) * 1.1, _run(random, 60, 0.01)).verdict)
    assert verdicts.count("faster") >= 99


def test_doubt_between_runs_widens_the_interval_and_hides_what_it_may_explain() -> None:
    random = np.random.default_rng(0)
    baseline, variant = _run(random, 200, 0.0) * 1.04, _run(random, 200, 0.0)
    sure = compare_runs(baseline, variant, between_runs=0.0)
    unsure = compare_runs(baseline, variant, between_runs=0.05)
    assert sure.verdict == "faster"
    assert unsure.verdict == "undecided"
    assert unsure.low < sure.low < sure.ratio == unsure.ratio < sure.high < unsure.high


def test_the_doubt_of_a_run_repeats_and_is_that_of_its_median() -> None:
    """Against the truth for independent normal noise: the median's standard error is 1.2533 sd / sqrt(n)."""
    random = np.random.default_rng(1)
    half_widths = []
    for _ in range(40):
        series = np.exp(random.normal(0.0, 0.05, 400))
        found = compare_runs(series, np.full(400, 1.0), between_runs=0.0)
        assert found == compare_runs(series, np.full(400, 1.0), between_runs=0.0)
        half_widths.append(math.log(found.high / found.low) / 2)
    assert np.mean(half_widths) == pytest.approx(1.96 * 1.2533 * 0.05 / 20, rel=0.15)


def test_bad_series_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        compare_pairs(np.ones(9), np.ones(8))
    with pytest.raises(ValueError, match="at least 8 pairs to tell a difference from luck, got 7"):
        compare_pairs(np.ones(7), np.ones(7))
    with pytest.raises(ValueError, match="at least 8 blocks"):
        compare_runs([1.0] * 7, [1.0] * 9)
    with pytest.raises(ValueError, match="clock is too coarse"):
        compare_pairs(np.ones(9), np.zeros(9))
    with pytest.raises(ValueError, match=r"share from 0 to 1, 0\.01 for 1 %; got 5"):
        compare_runs([1.0] * 9, [1.0] * 9, between_runs=5.0)
