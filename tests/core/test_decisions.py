"""Decisions are compared choice by choice; near ties are counted apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deploykit import Decision, agreement


def test_near_ties_are_counted_apart() -> None:
    left = Decision(np.array([0, 1, 2, 3]), np.array([1.0, 1e-6, 1.0, 1.0]))
    right = Decision(np.array([0, 2, 3, 0]), np.array([1.0, 1.0, 1.0, 1e-5]))
    found = agreement(left, right)
    assert (found.total, found.different, found.near_ties) == (4, 1, 2)
    assert found.rate == 0.25


def test_without_a_margin_nothing_is_a_near_tie() -> None:
    found = agreement(Decision(np.array([True, False])), Decision(np.array([False, False])), band=1e9)
    assert (found.different, found.near_ties) == (1, 0)


@given(arrays.arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 3)), st.data())
def test_counts_are_those_of_a_plain_loop(left: np.ndarray, data: st.DataObject) -> None:
    count = len(left)
    right = data.draw(arrays.arrays(np.int64, count, elements=st.integers(0, 3)))
    margin = data.draw(arrays.arrays(np.float64, count, elements=st.floats(0, 0.2)))
    found = agreement(Decision(left, margin), Decision(right), band=0.1)
    different = sum(a != b and m > 0.1 for a, b, m in zip(left, right, margin, strict=True))
    ties = sum(a != b and m <= 0.1 for a, b, m in zip(left, right, margin, strict=True))
    assert (found.total, found.different, found.near_ties) == (count, different, ties)
    assert found.rate == (1.0 if not count else 1 - (different + ties) / count)


def test_what_is_no_decision_is_refused() -> None:
    with pytest.raises(TypeError, match=r"made of integers or booleans, got float64"):
        Decision(np.zeros(3))
    with pytest.raises(ValueError, match=r"margin has shape \(2,\), the decision \(3,\)"):
        Decision(np.zeros(3, int), np.zeros(2))
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\) cannot be compared"):
        agreement(Decision(np.zeros(3, int)), Decision(np.zeros(2, int)))
