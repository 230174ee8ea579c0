"""Differences between two hops: outputs in absolute terms and in units in the last place, and decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.decisions import Decisions, agreement
from deploykit.hard_form import Tolerance
from deploykit.signature import Arrays
from deploykit_export.proof_report import DecisionCount


def max_absolute(left: Arrays, right: Arrays) -> float:
    """Return the largest absolute difference over all outputs; infinite where only one is finite."""
    worst = 0.0
    for name, array in left.items():
        if array.shape != right[name].shape:
            return float("inf")
        if array.size:
            one, other = array.astype(np.float64), right[name].astype(np.float64)
            same = (one == other) | (np.isnan(one) & np.isnan(other))  # infinities too, which cannot be subtracted
            with np.errstate(invalid="ignore"):
                difference = np.where(same, 0.0, np.abs(one - other))
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max()))
    return worst


def max_ulp(left: Arrays, right: Arrays) -> int | None:
    """Return the largest distance in units in the last place over all float outputs, or ``None`` if there is none."""
    worst: int | None = None
    for name, array in left.items():
        if array.dtype.kind != "f" or not array.size or array.shape != right[name].shape:
            continue
        one, other = _ordered(array), _ordered(right[name].astype(array.dtype))
        # Unsigned: the distance between two float64 of different signs does not fit an int64.
        distance = np.maximum(one, other).view(np.uint64) - np.minimum(one, other).view(np.uint64)
        worst = max(worst or 0, int(distance.max()))
    return worst


def within(left: Arrays, right: Arrays, tolerance: Tolerance) -> bool:
    """Tell whether ``left`` is as close to the reference ``right`` as promised; equality, bit for bit, if exact."""
    for name, array in left.items():
        reference = right[name]
        if array.shape != reference.shape or array.dtype != reference.dtype:
            return False
        if tolerance.exact:
            # Not array_equal: it calls NaN unequal to itself and minus zero equal to zero.
            if array.tobytes() != reference.tobytes():
                return False
        elif not np.allclose(array, reference, rtol=tolerance.relative, atol=tolerance.absolute):
            return False
    return True


def count_decisions(left: Decisions, right: Decisions) -> dict[str, DecisionCount]:
    """Compare the decisions that both forms know under the same name and shape."""
    counts = {}
    for name in left:
        if name in right and left[name].value.shape == right[name].value.shape:
            found = agreement(left[name], right[name])
            counts[name] = DecisionCount(
                total=found.total, different=found.different, near_ties=found.near_ties
            )  # fmt: skip
    return counts


def _ordered(array: NDArray[Any]) -> NDArray[np.int64]:
    """Map floats to integers that keep their order, so that neighbours differ by one."""
    bits = array.view({2: np.int16, 4: np.int32, 8: np.int64}[array.dtype.itemsize]).astype(np.int64)
    lowest = -(2 ** (8 * array.dtype.itemsize - 1))
    return np.where(bits < 0, lowest - bits, bits)
