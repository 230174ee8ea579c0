"""How many independent samples a series of dependent ones is worth.

Latencies of an open loop are not independent: who waits in line makes the next one wait. Their percentiles then rest on
far fewer samples than were taken, and an interval that takes them for independent is too narrow.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_DOUBT: Final = 2.0
"""Estimated from the series itself, the time comes out too small where it is long; what exceeds 1 is counted twice."""


def effective_count(series: NDArray[Any], q: float) -> int:
    """Return the number of independent samples that would leave the same doubt about a percentile.

    That is n over the integrated autocorrelation time of "is above the percentile", summed over pairs of lags while the
    pairs are positive.

    Shapes:
        series: (n,), in order of time.

    Args:
        q: the percentile as a share.

    Returns:
        from 1 to n.

    Source: Geyer, Practical Markov Chain Monte Carlo, section 3.3 (initial positive sequence).
    """
    count = len(series)
    if count < 4:
        return count
    times = [_integrated(np.asarray(series > np.quantile(series, level), dtype=np.float64)) for level in (0.5, q)]
    return max(1, int(count / (1.0 + _DOUBT * (max(times) - 1.0))))


def _integrated(series: NDArray[np.float64]) -> float:
    """Return the integrated autocorrelation time, in samples; at least 1."""
    centred = series - series.mean()
    power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    covariance = np.fft.irfft(power)[: len(centred)]
    if covariance[0] <= 0:
        return 1.0
    correlation = covariance / covariance[0]
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    until = int(negative[0]) if len(negative) else len(pairs)
    return max(1.0, float(2.0 * pairs[:until].sum() - 1.0))
