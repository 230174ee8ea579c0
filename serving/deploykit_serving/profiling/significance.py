"""Is it faster, or was it luck? A test for pairs measured in turns, and one for two runs that were not.

Consecutive timings resemble each other, so that a test that takes each for new evidence is too sure of itself. Both
tests here therefore look at blocks of consecutive timings, long enough to be nearly independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.profiling.statistics import CONFIDENCE

MARGIN: Final = 0.01
SIGNIFICANCE: Final = 0.01
EQUAL_WITHIN: Final = 0.05
BETWEEN_RUNS: Final = 0.01
FEWEST: Final = 8
_MOST_BLOCKS: Final = 32
_RESAMPLES: Final = 1000
_NORMAL: Final = 1.959963984540054  # two-sided 95 %

Verdict = Literal["faster", "slower", "equal", "undecided"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How two things compare.

    Attributes:
        ratio: time of the baseline over time of the variant; above 1 the variant is faster.
        low: lower end of the 95 % interval of it.
        high: upper end.
        p: chance of a difference at least as large if both were the same, two-sided.
        verdict: ``faster`` or ``slower`` if p is below 0.01 and the ratio is more than the margin (1 %) away from 1;
            else ``equal`` if the interval lies within 5 % of 1, and ``undecided`` if it is wider: measure longer.
    """

    ratio: float
    low: float
    high: float
    p: float
    verdict: Verdict


def compare_pairs(baseline: NDArray[Any], variant: NDArray[Any], *, margin: float = MARGIN) -> Difference:
    """Compare two series measured in turns (:func:`deploykit_serving.profiling.interleaved.interleave`).

    The logarithms of the pairs' ratios are reduced to the medians of at most 32 blocks, fewer while the blocks still
    resemble their neighbours. On these: Wilcoxon's signed-rank test, exact, with the estimate and the interval that
    belong to it (Hodges and Lehmann). The order inside a pair was random, so that the ratios are symmetric around 1 if
    there is no difference, whatever disturbs the machine.

    Shapes:
        baseline, variant: (pairs,), times above 0 in the same units, in order of measurement.

    Raises:
        ValueError: the shapes differ, a time is not above 0, or there are fewer than 8 pairs.

    Source: Hollander, Wolfe, Chicken, Nonparametric Statistical Methods, sections 3.1 to 3.3.
    """
    if baseline.ndim != 1 or baseline.shape != variant.shape:
        raise ValueError(f"wanted two series of the same length, got shapes {baseline.shape} and {variant.shape}")
    logs = _independent_blocks(_logarithms(baseline, "pairs") - _logarithms(variant, "pairs"))
    count = len(logs)
    upper, lower = np.triu_indices(count)
    walsh = np.sort((logs[upper] + logs[lower]) / 2.0)
    below = _signed_rank_cdf(count)
    # As many Walsh averages on either side as still leave the confidence to the middle.
    outside = int(np.searchsorted(below, (1.0 - CONFIDENCE) / 2.0, side="right"))
    estimate, low, high = float(np.median(walsh)), float(walsh[outside - 1]), float(walsh[-outside])
    # Of the signed-rank statistic: Walsh averages above 0, ties with 0 by half.
    above = np.count_nonzero(walsh > 0) + 0.5 * np.count_nonzero(walsh == 0)
    smaller = min(above, len(walsh) - above)
    p = min(1.0, 2.0 * float(below[math.floor(smaller)]))
    return _judged(estimate, low, high, p, margin)


def compare_runs(
    baseline: Sequence[float] | NDArray[Any],
    variant: Sequence[float] | NDArray[Any],
    *,
    between_runs: float = BETWEEN_RUNS,
    margin: float = MARGIN,
) -> Difference:
    """Compare two runs that were made one after the other, or on different days, by the medians of their blocks.

    The doubt of each run's median comes from resampling stretches of consecutive blocks; to it is added what no look at
    one run can tell: how the median moves from run to run. The sum is taken for normal.

    Args:
        baseline, variant: ``blocks_ms`` of the two runs, in order; lengths may differ.
        between_runs: by how much, as a share, the median of one run scatters around that of all runs of the same
            thing (standard deviation). 1 % is our assumption for gated runs on one machine; without the canary
            take more.

    Raises:
        ValueError: a run has fewer than 8 blocks, a time is not above 0, or ``between_runs`` is negative.

    Source: Künsch, The jackknife and the bootstrap for general stationary observations, section 3 (moving blocks).
    """
    if not 0.0 <= between_runs < 1.0:
        raise ValueError(f"between_runs is a share from 0 to 1, 0.01 for 1 %; got {between_runs}")
    ours, theirs = (_logarithms(np.asarray(run, dtype=np.float64), "blocks") for run in (variant, baseline))
    estimate = float(np.median(theirs) - np.median(ours))
    doubt = math.sqrt(_doubt(ours) ** 2 + _doubt(theirs) ** 2 + 2.0 * between_runs**2)
    if doubt == 0.0:
        return _judged(estimate, estimate, estimate, float(estimate == 0.0), margin)
    p = math.erfc(abs(estimate) / doubt / math.sqrt(2.0))
    return _judged(estimate, estimate - _NORMAL * doubt, estimate + _NORMAL * doubt, p, margin)


def _judged(estimate: float, low: float, high: float, p: float, margin: float) -> Difference:
    verdict: Verdict = "undecided"
    if p < SIGNIFICANCE and abs(estimate) > math.log1p(margin):
        verdict = "faster" if estimate > 0 else "slower"
    elif -math.log1p(EQUAL_WITHIN) <= low and high <= math.log1p(EQUAL_WITHIN):
        verdict = "equal"
    return Difference(ratio=math.exp(estimate), low=math.exp(low), high=math.exp(high), p=p, verdict=verdict)


def _logarithms(times: NDArray[Any], what: str) -> NDArray[np.float64]:
    if times.ndim != 1 or len(times) < FEWEST:
        raise ValueError(f"wanted at least {FEWEST} {what} to tell a difference from luck, got {times.size}")
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise ValueError("times must be above 0; the clock is too coarse for what is measured: use larger blocks")
    logs: NDArray[np.float64] = np.log(times)
    return logs


def _independent_blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduce to medians of consecutive blocks: as many as stay below what luck lets neighbours resemble each other."""
    count = min(len(values), _MOST_BLOCKS)
    while True:
        blocks = np.array([np.median(part) for part in np.array_split(values, count)])
        if count // 2 < FEWEST or _resemblance(blocks) <= 2.0 / math.sqrt(count):
            return blocks
        count //= 2


def _resemblance(values: NDArray[np.float64]) -> float:
    """Return the autocorrelation at lag 1."""
    centred = values - values.mean()
    total = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / total if total > 0 else 0.0


def _signed_rank_cdf(count: int) -> NDArray[np.float64]:
    """Return P[T <= t] of the signed-rank statistic of ``count`` values for t = 0, 1, ...: counts of subsets' sums."""
    ways = np.ones(1)
    for rank in range(1, count + 1):
        wider = np.zeros(len(ways) + rank)
        wider[: len(ways)] += ways
        wider[rank:] += ways
        ways = wider / 2.0
    below: NDArray[np.float64] = np.minimum(np.cumsum(ways), 1.0)
    return below


def _doubt(logs: NDArray[np.float64]) -> float:
    """Return the standard deviation of the median over resampled stretches; a seed of its own, so that it repeats."""
    count = len(logs)
    length = math.ceil(math.sqrt(count))
    random = np.random.default_rng(0)
    starts = random.integers(0, count - length + 1, size=(_RESAMPLES, math.ceil(count / length)))
    picked = (starts[:, :, np.newaxis] + np.arange(length)).reshape(_RESAMPLES, -1)[:, :count]
    return float(np.median(logs[picked], axis=1).std(ddof=1))
