"""Distances between two hops, and the samples that travel with a bundle."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploykit import Decision, Tolerance
from deploykit.errors import BundleError
from deploykit_export.gap import count_decisions, fault, max_absolute, max_ulp, within
from deploykit_export.heldout import choose, pack, unpack


def one(*values: Any, dtype: Any = np.float32) -> dict[str, NDArray[Any]]:
    return {"y": np.array(values, dtype)}


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 40), st.booleans())
def test_ulps_are_counted_as_steps(start: float, steps: int, up: bool) -> None:
    limit = np.finfo(np.float32).max
    goal = np.float32(np.inf if up else -np.inf)
    value = start = np.float32(start)  # type: ignore[assignment]
    walked = 0
    for _ in range(steps):
        with np.errstate(over="ignore"):
            following = np.nextafter(value, goal)
        if abs(following) > limit:
            break
        value, walked = following, walked + 1
    assert max_ulp(one(value), one(start)) == max_ulp(one(start), one(value)) == walked


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulps_across_zero_and_over_everything(dtype: Any) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    huge = float(np.finfo(dtype).max)
    assert max_ulp(one(-0.0, dtype=dtype), one(0.0, dtype=dtype)) == 0
    assert max_ulp({"y": np.array([tiny])}, {"y": np.array([-tiny])}) == 2
    bits = {np.float16: 16, np.float32: 32, np.float64: 64}[dtype]
    steps = int(np.array([huge], dtype).view(f"u{bits // 8}")[0])  # floats from zero to the largest
    assert max_ulp(one(huge, dtype=dtype), one(-huge, dtype=dtype)) == 2 * steps
    assert max_ulp(one(np.nan, dtype=dtype), one(1.0, dtype=dtype)) > 1000  # type: ignore[operator]


def test_ulps_are_the_worst_of_all_float_outputs() -> None:
    left: Any = {"a": np.array([1, 2], np.float32), "n": np.array([1]), "e": np.zeros(0, np.float32)}
    right: Any = {
        "a": np.nextafter(np.array([1, 2], np.float32), np.float32(9)),
        "n": np.array([9]),
        "e": np.zeros(0, np.float32),
    }
    assert max_ulp(left, right) == 1
    assert max_ulp({"n": left["n"]}, {"n": right["n"]}) is None


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ((1.0, -3.0), (1.5, -2.0), 1.0), ((np.nan,), (1.0,), np.inf), ((1.0,), (np.nan,), np.inf),
        ((np.inf,), (1.0,), np.inf), ((np.inf,), (-np.inf,), np.inf), ((np.inf,), (np.inf,), 0.0),
        ((np.nan,), (np.nan,), 0.0), ((), (), 0.0), ((1.0,), (1.0, 2.0), np.inf),
    ],
)  # fmt: skip
def test_absolute_distance(left: tuple[float, ...], right: tuple[float, ...], distance: float) -> None:
    assert max_absolute(one(*left), one(*right)) == distance


def test_absolute_distance_of_bits_and_unsigned_numbers() -> None:
    assert max_absolute({"y": np.array([1], np.uint8)}, {"y": np.array([2], np.uint8)}) == 1.0
    assert max_absolute({"y": np.array([True])}, {"y": np.array([False])}) == 1.0


EXACT, CLOSE = Tolerance(), Tolerance(absolute=0.1, relative=0.01)


@pytest.mark.parametrize(
    ("left", "right", "tolerance", "close"),
    [
        (one(1.0), one(1.0), EXACT, True), (one(1.0), one(np.nextafter(np.float32(1), np.float32(2))), EXACT, False),
        (one(0.0), one(-0.0), EXACT, False), (one(np.nan), one(np.nan), EXACT, True),
        (one(1.0), one(1.0, dtype=np.float64), EXACT, False), (one(1.0), one(1.0, dtype=np.float64), CLOSE, False),
        (one(1.0, 1.0), one(1.0), CLOSE, False), (one(0.0), one(-0.0), CLOSE, True),
        (one(101.0), one(100.0), CLOSE, True), (one(101.2), one(100.0), CLOSE, False),
        (one(1.0), one(np.nan), CLOSE, False), (one(np.nan), one(np.nan), CLOSE, False),
        (one(np.inf), one(np.inf), CLOSE, True), (one(np.inf), one(-np.inf), CLOSE, False),
        (one(1.0), one(np.inf), CLOSE, False), (one(np.inf), one(1.0), CLOSE, False),
        (one(6e4, dtype=np.float16), one(-6e4, dtype=np.float16), CLOSE, False),
        (one(0, dtype=np.uint8), one(255, dtype=np.uint8), CLOSE, False),
        (one(2**62, dtype=np.int64), one(2**62 + 1, dtype=np.int64), Tolerance(absolute=0.5), False),
        (one(2**62, dtype=np.int64), one(2**62 + 1, dtype=np.int64), Tolerance(absolute=1), True),
        (one(-(2**63), dtype=np.int64), one(2**63 - 1, dtype=np.int64), CLOSE, False),
        (one(True, dtype=bool), one(False, dtype=bool), CLOSE, False),
        (one(True, dtype=bool), one(True, dtype=bool), CLOSE, True),
        ({}, one(1.0), CLOSE, False), (one(1.0), {**one(1.0), "z": np.zeros(1)}, EXACT, False),
    ],
)  # fmt: skip
def test_within(left: Any, right: Any, tolerance: Tolerance, close: bool) -> None:
    assert within(left, right, tolerance) is close


def test_what_one_form_alone_decides_differs_altogether() -> None:
    left = {"route": Decision(np.array([0, 1, 1])), "only": Decision(np.array([1])), "odd": Decision(np.zeros(2, int))}
    right = {"route": Decision(np.array([0, 2, 1])), "odd": Decision(np.zeros(3, int))}
    counts = count_decisions(left, right)
    assert {name: count.model_dump() for name, count in counts.items()} == {
        "odd": {"total": 3, "different": 3, "near_ties": 0},
        "only": {"total": 1, "different": 1, "near_ties": 0},
        "route": {"total": 3, "different": 1, "near_ties": 0},
    }


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 12))
def test_heldout_samples_cover_the_decisions(leaves: list[int], at_most: int) -> None:
    chosen = choose({"leaf": Decision(np.array(leaves))}, len(leaves), at_most)
    assert len(chosen) == len(set(chosen.tolist())) == min(len(leaves), at_most)
    assert list(chosen) == sorted(chosen)
    covered = {leaves[index] for index in chosen}
    assert len(covered) == min(len(set(leaves)), at_most)


def test_heldout_samples_cover_combinations_of_decisions() -> None:
    left, right = np.array([0, 0, 0, 1, 1, 0]), np.array([[0], [0], [0], [0], [1], [1]])
    chosen = choose({"a": Decision(left), "b": Decision(right), "fixed": Decision(np.arange(3))}, 6, 4)
    assert chosen.tolist() == [0, 3, 4, 5]
    assert choose({"fixed": Decision(np.arange(3))}, 6, 4).tolist() == [0, 1, 2, 3]


def test_samples_are_packed_and_unpacked() -> None:
    groups = {"input": one(1, 2), "output": {"y": np.array([True]), "z": np.zeros((0, 3), np.int8)}}
    found = unpack(pack(groups))
    assert set(found) == {"input", "output"}
    for group, arrays in groups.items():
        for name, array in arrays.items():
            assert found[group][name].dtype == array.dtype
            assert np.array_equal(found[group][name], array)
    assert pack(groups) == pack(groups)


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def _objects() -> bytes:
    buffer = io.BytesIO()
    arrays: Any = {"input/x": np.array([{}], dtype=object)}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"PK\3\4nonsense", pack({"input": one(1)})[:60], _npy(), _objects()],
    ids=["empty", "text", "zip magic", "truncated", "one array", "objects"],
)  # fmt: skip
def test_what_is_no_archive_of_plain_arrays_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"samples are not an npz of plain arrays"):
        unpack(data)


@pytest.mark.parametrize(
    ("left", "right", "tolerance", "words"),
    [
        (one(1.0), {"z": np.zeros(1)}, CLOSE, r"^outputs \['y'\] instead of \['z'\]$"),
        (one(1.0), one(1.0, dtype=np.float64), CLOSE, r"output 'y' is float32\[1\] instead of float64\[1\]"),
        (one(0.0, 1.0), one(-0.0, 1.0), EXACT, "not equal bit for bit: the signs of zeros or bits of NaN differ"),
        (one(0.0, 1.0), one(2.0, 1.0), EXACT, "not equal bit for bit: 1 of 2 numbers differ"),
        (one(0.0, np.nan), one(2.0, 1.0), CLOSE, "output 'y': 2 of 2 numbers are further off than promised"),
        (one(1.0), one(1.0), EXACT, "^$"),
    ],
)  # fmt: skip
def test_the_fault_is_said(left: Any, right: Any, tolerance: Tolerance, words: str) -> None:
    assert re.search(words, fault(left, right, tolerance))
