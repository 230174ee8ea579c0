"""From what a table adds up to what whole networks take: one ratio, a safety margin, and a small residual on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deploykit.latency_block import LatencyTableError
from deploykit.latency_table import Entry

NETWORKS: Final = 8
"""Fewest measured networks that a ratio is taken from."""
NOISE: Final = 0.03
"""Largest spread of one network's own samples, as a share of their median, that is still no noise."""
RESIDUAL_NETWORKS: Final = 30
"""Fewest measured networks that a residual is fitted to."""
_SIGMA: Final = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What predictions are multiplied by.

    Attributes:
        ratio: median of measured over predicted.
        networks: how many that rests on.
        margin: share by which a corrected prediction may still be too small, P95 over those networks; more than 0 only
            where some were.
    """

    ratio: float = 1.0
    networks: int = 0
    margin: float = 0.0

    def corrected(self, us: float) -> float:
        """Return a corrected prediction."""
        return us * self.ratio

    def budget(self, us: float) -> float:
        """Return what the table may add up to, so that the network meets a budget with the margin kept."""
        return us / (self.ratio * (1.0 + self.margin))


def calibrate(predicted: Sequence[float], measured: Sequence[Entry]) -> Calibration:
    """Take one ratio from whole networks that were measured as they will run.

    Networks that were never measured at rest are left out.

    Args:
        predicted: microseconds, by a table, above 0.
        measured: the same networks; medians above 0.

    Raises:
        LatencyTableError: there are fewer than eight, all in all or measured at rest; a time is not above 0; or they
            are too noisy, so that the ratio would make a good table worse (measured: an error of 2.7 % became 8.0 %).
    """
    _same_length(predicted, measured, NETWORKS, "a calibration")
    for place, (guess, entry) in enumerate(zip(predicted, measured, strict=True)):
        if not (guess > 0 and entry.median_us > 0):
            raise LatencyTableError(
                f"network {place} is predicted to take {guess:g} us and was measured to take {entry.median_us:g} us; "
                "both must be above 0: give times of whole networks, not differences"
            )
    rested = [pair for pair in zip(predicted, measured, strict=True) if pair[1].at_rest]
    if len(rested) < NETWORKS:
        raise LatencyTableError(
            f"a calibration takes at least {NETWORKS} networks measured at rest, and {len(measured) - len(rested)} of "
            f"{len(measured)} never were; measure again on a machine where nothing else runs"
        )
    sums, times = np.array([guess for guess, _ in rested], dtype=np.float64), _medians([entry for _, entry in rested])
    noise = float(np.median([_SIGMA * entry.mad_us / entry.median_us for _, entry in rested]))
    if noise > NOISE:
        raise LatencyTableError(
            f"these networks are too noisy to calibrate with: samples of one network spread by {noise:.1%} (at most "
            f"{NOISE:.0%} is taken); measure again on a machine where nothing else runs"
        )
    ratio = float(np.median(times / sums))
    return Calibration(ratio, len(rested), safety_margin(sums * ratio, times))


def safety_margin(predicted: ArrayLike, measured: ArrayLike, q: float = 0.95) -> float:
    """Return the percentile ``q`` of by how much networks took longer than predicted, as a share; at least 0.

    Shapes:
        predicted, measured: (networks,), in the same unit.
    """
    ratios = np.asarray(measured, dtype=np.float64) / np.asarray(predicted, dtype=np.float64)
    return max(0.0, float(np.quantile(ratios, q, method="higher")) - 1.0)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well predictions fit measurements of networks that nothing was fitted to.

    Attributes:
        mean, p95, worst: of the absolute error, as a share of what was measured.
        under: largest under-prediction, as a share of what was measured.
        tau: Kendall's tau-b, how far both put the networks into the same order.
    """

    mean: float
    p95: float
    worst: float
    under: float
    tau: float
    networks: int


def accuracy(predicted: ArrayLike, measured: ArrayLike) -> Accuracy:
    """Compare predictions with measurements.

    Shapes:
        predicted, measured: (networks,), in the same unit, above 0.

    Raises:
        LatencyTableError: there are fewer than two, or not as many of one as of the other.
    """
    ours = np.asarray(predicted, dtype=np.float64)
    theirs = np.asarray(measured, dtype=np.float64)
    _same_length(ours, theirs, 2, "an accuracy")
    errors = ours / theirs - 1.0
    return Accuracy(
        mean=float(np.abs(errors).mean()),
        p95=float(np.quantile(np.abs(errors), 0.95, method="higher")),
        worst=float(np.abs(errors).max()),
        under=max(0.0, float(-errors.min())),
        tau=kendall_tau(ours, theirs),
        networks=len(ours),
    )


def kendall_tau(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Kendall's tau-b of two series of one length; 0 where one is constant.

    Source: Kendall 1945, "The treatment of ties in ranking problems".
    """
    signs_a, signs_b = (np.sign(series[:, None] - series[None, :]) for series in (a, b))
    untied = float(np.sqrt((signs_a**2).sum() * (signs_b**2).sum()))
    return float((signs_a * signs_b).sum()) / untied if untied else 0.0


@dataclass(frozen=True, slots=True)
class Residual:
    """A regression of what the table and its calibration leave over; multiplies a prediction.

    Attributes:
        weights: (features,), of the standardised features.
        mean, scale: (features,), of the networks it was fitted to.
        constant: logarithm of the factor of an average network.
    """

    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    constant: float

    def factors(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return what each prediction is multiplied by, (networks,).

        Shapes:
            features: (networks, features).
        """
        table = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        factors: NDArray[np.float64] = np.exp(self.constant + table @ self.weights)
        return factors


def fit_residual(
    features: ArrayLike, predicted: Sequence[float], measured: Sequence[Entry], *, strength: float = 10.0
) -> Residual:
    """Fit ``log(measured / predicted)`` by ridge regression.

    A regression in the place of the table needs hundreds of networks; on top of it, with strong shrinkage, tens do.

    Shapes:
        features: (networks, features), for example counts of blocks.

    Args:
        strength: of the shrinkage towards no correction, in networks.

    Raises:
        LatencyTableError: fewer than thirty networks, or shapes that do not fit.
    """
    _same_length(predicted, measured, RESIDUAL_NETWORKS, "a residual")
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(measured):
        raise LatencyTableError(f"wanted features of shape ({len(measured)}, features), got {table.shape}")
    target = np.log(_medians(measured) / np.asarray(predicted, dtype=np.float64))
    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standard = (table - mean) / scale
    constant = float(target.mean())
    gram = standard.T @ standard + strength * np.eye(table.shape[1])
    weights = np.linalg.solve(gram, standard.T @ (target - constant))
    return Residual(weights=weights, mean=mean, scale=scale, constant=constant)


def _medians(measured: Sequence[Entry]) -> NDArray[np.float64]:
    return np.array([entry.median_us for entry in measured])


def _same_length(predicted: Sequence[float] | NDArray[np.float64], measured: object, least: int, what: str) -> None:
    count = len(measured)  # type: ignore[arg-type]
    if len(predicted) != count or count < least:
        raise LatencyTableError(
            f"{what} takes at least {least} networks with a prediction and a measurement each, got {len(predicted)} "
            f"predictions and {count} measurements"
        )
