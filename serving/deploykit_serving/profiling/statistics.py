"""Percentiles and ratios that say how far they can be trusted, and are refused where they cannot.

All intervals are distribution-free: they rest on ranks only. They assume independent samples; consecutive latencies
are not quite that, so intervals of one run are a lower bound of the doubt, and comparisons are made on interleaved
blocks instead (:mod:`deploykit_serving.profiling.interleaved`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
EARLY_STOPPING_CONFIDENCE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of a sample, in the sample's own units.

    Attributes:
        q: which one, as a share: 0.99 for p99.
        samples: how many independent measurements it rests on.
        needed: how many it takes at the least; with fewer, the four numbers below are ``None``.
        value: the smallest measurement that at least a share ``q`` of all are not larger than.
        low: lower end of the two-sided 95 % interval, a measurement.
        high: upper end of it.
        bound: with 99 % confidence the true percentile is not above this (MLPerf's early-stopping estimate).
    """

    q: float
    samples: int
    needed: int
    value: float | None
    low: float | None
    high: float | None
    bound: float | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast one series is as another: the median over pairs, with a 95 % interval.

    Attributes:
        ratio: time of the baseline over time of the variant; above 1 the variant is faster.
        pairs: how many pairs it rests on.
    """

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def faster(self) -> bool:
        """Whether the variant is faster beyond doubt: the whole interval lies above 1."""
        return self.low > 1.0


def percentile(
    samples: NDArray[Any], q: float, confidence: float = CONFIDENCE, *, independent: int | None = None
) -> Percentile:
    """Estimate a percentile, or refuse it where the sample is too small.

    Args:
        independent: how many independent samples these are worth, see
            :func:`deploykit_serving.profiling.dependence.effective_count`; by default all of them. Intervals and bound
            are those of that many, and with too few the percentile is refused.

    Shapes:
        samples: (n,), any order.

    Raises:
        ValueError: ``q`` is not inside (0, 1), or ``samples`` is not one-dimensional.

    Source: order-statistic interval, e.g. Conover, Practical Nonparametric Statistics, section 3.2; MLPerf Inference
    rules, early stopping with d = 0 and c = 0.99. MLPerf drops the ``t - 1`` largest and reports the largest of the
    rest; our ``t`` counts from 0, so we drop ``t``.
    """
    _check_share(q)
    if samples.ndim != 1:
        raise ValueError(f"wanted samples of shape (n,), got {samples.shape}")
    count = len(samples) if independent is None else independent
    if not 0 <= count <= len(samples):
        raise ValueError(f"wanted from 0 to {len(samples)} independent samples, got {count}")
    needed = samples_needed(q)
    if count < needed:
        return Percentile(q, count, needed, None, None, None, None)
    ordered = np.sort(samples)
    below = binomial_cdf(count, q)
    tail = (1.0 - confidence) / 2.0
    # At least `needed` samples leave room for both ends: P(all below) = q ** n <= 0.01 < tail.
    low = max(int(np.searchsorted(below, tail, side="right")), 1)
    high = min(int(np.searchsorted(below, 1.0 - tail, side="left")) + 1, count)
    over = int(np.searchsorted(binomial_cdf(count, 1.0 - q), 1.0 - EARLY_STOPPING_CONFIDENCE, side="right")) - 1
    each = len(samples) / count  # samples that stand for one independent one
    return Percentile(
        q=q,
        samples=count,
        needed=needed,
        value=float(ordered[math.ceil(round(len(samples) * q, 9)) - 1]),
        low=float(ordered[math.ceil(round(low * each, 9)) - 1 if independent is None else int((low - 1) * each)]),
        high=float(ordered[math.ceil(round(high * each, 9)) - 1]),
        bound=float(ordered[math.ceil(round((count - max(over, 0)) * each, 9)) - 1]),
    )


def samples_needed(q: float, over: int = 0, confidence: float = EARLY_STOPPING_CONFIDENCE) -> int:
    """Return the smallest sample with which "at most ``over`` of them are larger" supports a bound on percentile ``q``.

    That is the smallest n with P[Binomial(n, 1 - q) <= over] <= 1 - confidence: 459 for p99 with none over.

    Raises:
        ValueError: ``q`` is not inside (0, 1), or ``over`` is negative.
    """
    _check_share(q)
    if over < 0:
        raise ValueError(f"wanted a count of at least 0, got {over}")
    low, high = over, over + 1
    while _at_most(high, 1.0 - q, over) > 1.0 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _at_most(middle, 1.0 - q, over) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def largest_supported(count: int) -> float:
    """Return the highest percentile, as a share, that ``count`` samples support: 459 support 0.99 and nothing above.

    Raises:
        ValueError: fewer than one sample.
    """
    if count < 1:
        raise ValueError(f"wanted at least 1 sample, got {count}")
    return float((1.0 - EARLY_STOPPING_CONFIDENCE) ** (1.0 / count))


def paired_ratio(baseline: NDArray[Any], variant: NDArray[Any], confidence: float = CONFIDENCE) -> Ratio:
    """Compare two series that were measured in turns, pair by pair.

    The value is the median of the ratios of pairs, the interval that of the sign test: exact for any distribution,
    without a random number, and blind to drift that hits both halves of a pair.

    Shapes:
        baseline, variant: (pairs,), times above 0 in the same units.

    Raises:
        ValueError: the shapes differ, a time is not above 0, or there are fewer than 6 pairs (for 95 %).
    """
    if baseline.ndim != 1 or baseline.shape != variant.shape:
        raise ValueError(f"wanted two series of the same length, got shapes {baseline.shape} and {variant.shape}")
    count = len(baseline)
    needed = math.ceil(1.0 - math.log2(1.0 - confidence))
    if count < needed:
        raise ValueError(f"{count} pairs support no {confidence:.0%} interval; measure at least {needed}")
    if (baseline <= 0).any() or (variant <= 0).any():
        raise ValueError("times must be above 0; the clock is too coarse for what is measured: use larger blocks")
    ratios = np.sort(baseline / variant)
    outside = int(np.searchsorted(binomial_cdf(count, 0.5), (1.0 - confidence) / 2.0, side="right"))
    return Ratio(
        ratio=float(np.median(ratios)),
        low=float(ratios[outside - 1]),
        high=float(ratios[count - outside]),
        pairs=count,
    )


def binomial_cdf(count: int, share: float) -> NDArray[np.float64]:
    """Return P[Binomial(count, share) <= k] for k = 0 .. count; shape (count + 1,)."""
    k = np.arange(count + 1)
    factorials = np.fromiter((math.lgamma(i + 1.0) for i in range(count + 1)), dtype=np.float64, count=count + 1)
    logs = factorials[count] - factorials - factorials[::-1] + k * math.log(share) + (count - k) * math.log1p(-share)
    below: NDArray[np.float64] = np.minimum(np.cumsum(np.exp(logs)), 1.0)
    return below


def _at_most(count: int, share: float, over: int) -> float:
    chances = (
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(share) + (count - k) * math.log1p(-share)
        for k in range(min(over, count) + 1)
    )  # fmt: skip
    return math.fsum(math.exp(chance) for chance in chances)


def _check_share(q: float) -> None:
    if not 0.0 < q < 1.0:
        raise ValueError(f"a percentile is given as a share inside (0, 1), 0.99 for p99; got {q}")
