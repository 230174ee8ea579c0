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
    """Return the largest absolute difference over all outputs; infinite where only one side has finite numbers."""
    if set(left) != set(right):
        return float("inf")
    worst = 0.0
    for name, array in left.items():
        if array.shape != right[name].shape:
            return float("inf")
        if array.size:
            one, other = _wide(array), _wide(right[name])
            same = one == other  # infinities too, which cannot be subtracted
            if object not in (one.dtype, other.dtype):
                same |= np.isnan(one) & np.isnan(other)
            with np.errstate(invalid="ignore"):
                difference = np.where(same, 0.0, np.abs(one - other)).astype(np.float64)
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max()))
    return worst


def max_ulp(left: Arrays, right: Arrays) -> int | None:
    """Return the largest distance in units in the last place over all float outputs, or ``None`` if there is none."""
    worst: int | None = None
    for name, array in left.items():
        if array.dtype.kind != "f" or not array.size or name not in right or array.shape != right[name].shape:
            continue
        one, other = _ordered(array), _ordered(right[name].astype(array.dtype))
        # Unsigned: the distance between two float64 of different signs does not fit an int64.
        distance = np.maximum(one, other).view(np.uint64) - np.minimum(one, other).view(np.uint64)
        worst = max(worst or 0, int(distance.max()))
    return worst


def within(left: Arrays, right: Arrays, tolerance: Tolerance) -> bool:
    """Tell whether ``left`` is as close to the reference ``right`` as promised; equality, bit for bit, if exact."""
    return not fault(left, right, tolerance)


def fault(left: Arrays, right: Arrays, tolerance: Tolerance) -> str:
    """Say what keeps ``left`` from being as close to the reference ``right`` as promised; nothing if it is.

    Both must have the same names, shapes and dtypes. An exact tolerance compares bytes: minus zero is not zero, and
    NaN equals itself. Any other tolerance takes no NaN at all and infinities only where the reference has the same.
    """
    if set(left) != set(right):
        return f"outputs {sorted(left)} instead of {sorted(right)}"
    for name, array in left.items():
        reference = right[name]
        if array.shape != reference.shape or array.dtype != reference.dtype:
            return (
                f"output {name!r} is {array.dtype}{list(array.shape)} instead of "
                f"{reference.dtype}{list(reference.shape)}"
            )
        if tolerance.exact:
            # Not array_equal: it calls NaN unequal to itself and minus zero equal to zero.
            if array.tobytes() != reference.tobytes():
                off = int((array != reference).sum())
                kind = f"{off} of {array.size} numbers differ" if off else "the signs of zeros or bits of NaN differ"
                return f"output {name!r} is not equal bit for bit: {kind}"
            continue
        one, other = _wide(array), _wide(reference)
        with np.errstate(invalid="ignore"):
            near = np.abs(one - other) <= tolerance.absolute + tolerance.relative * np.abs(other.astype(np.float64))
        # An infinite reference would allow any distance.
        close = (near.astype(bool) & (np.abs(other) < np.inf)) | (one == other)
        if off := int((~close.astype(bool)).sum()):
            return f"output {name!r}: {off} of {array.size} numbers are further off than promised"
    return ""


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    """Return numbers that can be subtracted: float16 would overflow, small integers wrap, int64 lose digits."""
    return array.astype(object if array.dtype.kind in "iu" and array.dtype.itemsize == 8 else np.float64)


def count_decisions(left: Decisions, right: Decisions) -> dict[str, DecisionCount]:
    """Compare the decisions of two forms; what only one form knows, or in another shape, differs altogether."""
    counts = {}
    for name in sorted({*left, *right}):
        if name in left and name in right and left[name].value.shape == right[name].value.shape:
            found = agreement(left[name], right[name])
            counts[name] = DecisionCount(
                total=found.total, different=found.different, near_ties=found.near_ties
            )  # fmt: skip
        else:
            total = max(form[name].value.size for form in (left, right) if name in form)
            counts[name] = DecisionCount(total=total, different=total, near_ties=0)
    return counts


def _ordered(array: NDArray[Any]) -> NDArray[np.int64]:
    """Map floats to integers that keep their order, so that neighbours differ by one."""
    bits = array.view({2: np.int16, 4: np.int32, 8: np.int64}[array.dtype.itemsize]).astype(np.int64)
    lowest = -(2 ** (8 * array.dtype.itemsize - 1))
    return np.where(bits < 0, lowest - bits, bits)
