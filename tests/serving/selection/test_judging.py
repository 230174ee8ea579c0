"""Borders: exactly at a budget or a floor, the comparison that counts, and what breaks a tie."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from deploykit_serving.profiling.schema import Comparison, PercentileEntry
from deploykit_serving.selection.candidates import Candidate
from deploykit_serving.selection.choosing import choose
from deploykit_serving.selection.judging import counted, judge
from deploykit_serving.selection.request import Budget, Request
from tests.serving.selection.made_catalogues import entry, point

CANDIDATE = Candidate(
    "a/v@engine/1", Path("a.bundle"), "0" * 64, "v", "engine", "1", 1, metric=0.9, samples=100, size=1000,
    peak_mib=1.0, points=(point(1.0, over=1.25),),
)  # fmt: skip


def meets(request: Request, candidate: Candidate = CANDIDATE) -> bool:
    return judge(candidate, request).meets


def test_exactly_what_was_asked_for_is_enough_and_the_next_number_is_not() -> None:
    easy = Budget(0.5, 9.0)
    assert meets(Request(Budget(0.5, 1.25)))
    assert not meets(Request(Budget(0.5, math.nextafter(1.25, 0.0))))
    assert meets(Request(easy, floors={"accuracy": 0.9}))
    assert not meets(Request(easy, floors={"accuracy": math.nextafter(0.9, 1.0)}))
    assert meets(Request(easy, max_size=1000))
    assert not meets(Request(easy, max_size=999))
    assert meets(Request(easy, max_memory=2**20))
    assert not meets(Request(easy, max_memory=2**20 - 1))


def test_the_largest_compared_batch_that_is_not_larger_decides() -> None:
    compared = [
        Comparison(variant="v", baseline="float", batch=batch, ratio=ratio, low=ratio, high=ratio, pairs=99, block=9)
        for batch, ratio in ((2, 0.5), (8, 2.0), (64, 0.5))
    ]
    points = tuple(point(1.0, batch=batch) for batch in (1, 2, 7, 8, 63, 64, 128))
    candidate = replace(CANDIDATE, points=points, comparisons=tuple(compared), guarded=True)
    fast = [batch for batch in (1, 2, 7, 8, 63, 64, 128) if meets(Request(Budget(0.5, 9.0), batch=batch), candidate)]
    assert fast == [8, 63]


def test_of_equal_metric_and_latency_the_smaller_file_then_the_first_name() -> None:
    request = Request(Budget(0.5, 9.0))
    large = replace(CANDIDATE, name="a/v@engine/1", size=2000)
    small = [replace(CANDIDATE, name=f"{letter}/v@engine/1") for letter in "cb"]
    selection = choose([large, *small], request)
    assert [item.candidate.name[0] for item in selection.verdicts] == ["b", "c", "a"]
    assert [item.candidate.name[0] for item in selection.front] == ["b"]


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
@pytest.mark.parametrize("field", ["value_ms", "high_ms", "bound_ms"])
def test_what_is_no_number_is_no_latency(field: str, value: float | None) -> None:
    broken = entry(0.5, 1.0).model_copy(update={field: value})
    assert counted(broken) is None
    candidate = replace(CANDIDATE, points=(point(1.0, percentiles=(broken,)),))
    assert judge(candidate, Request(Budget(0.5, 1e9))).faults


def test_the_largest_end_counts() -> None:
    ends = PercentileEntry(q=0.5, samples=9, needed=7, value_ms=1.0, low_ms=0.5, high_ms=3.0, bound_ms=2.0)
    assert counted(ends) == 3.0


def test_memory_that_is_no_number_meets_no_limit() -> None:
    assert not meets(Request(Budget(0.5, 9.0), max_memory=1e12), replace(CANDIDATE, peak_mib=math.nan))
