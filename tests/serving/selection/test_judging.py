"""Borders: exactly at a budget or a floor, the comparison that counts, and what breaks a tie."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from deploykit.errors import ConfigError
from deploykit_serving.profiling.schema import Comparison, Load, PercentileEntry
from deploykit_serving.selection.candidates import Candidate
from deploykit_serving.selection.choosing import choose
from deploykit_serving.selection.judging import counted, find_point, judge
from deploykit_serving.selection.request import Budget, Prefer, Request
from tests.serving.selection.made_catalogues import entry, point

CANDIDATE = Candidate(
    "a/v@engine/1", Path("a.bundle"), "0" * 64, "v", "engine", "1", 1, metric=0.9, metric_name="accuracy", samples=100,
    size=1000, peak_mib=1.0, points=(point(1.0, over=1.25),),
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


def test_a_floor_holds_only_the_metric_of_its_name() -> None:
    (said,) = judge(CANDIDATE, Request(Budget(0.5, 9.0), floors={"psnr": 0.1})).faults
    assert said == "its metric is 'accuracy', which no floor of 'psnr' can be held to"
    verdict = judge(CANDIDATE, Request(Budget(0.5, 9.0), floors={"psnr": 99.0}))
    assert verdict.faults
    assert not verdict.misses


def test_metrics_of_different_names_are_not_compared() -> None:
    psnr = replace(CANDIDATE, name="b/v@engine/1", metric=31.0, metric_name="psnr")
    for prefer in get_args(Prefer):
        with pytest.raises(ConfigError, match=r"(?s)different names cannot be compared; .*accuracy: a/v.*psnr: b/v"):
            choose([CANDIDATE, psnr], Request(Budget(0.5, 9.0), prefer=prefer))
    chosen = choose([CANDIDATE, psnr], Request(Budget(0.5, 9.0), floors={"accuracy": 0.5})).chosen
    assert chosen is not None
    assert chosen.candidate is CANDIDATE
    # What is rejected anyway, or has no metric, is compared with nothing.
    rest = [replace(psnr, faults=("never verified",)), replace(psnr, name="c/v@engine/1", metric=None)]
    assert choose([CANDIDATE, *rest], Request(Budget(0.5, 9.0))).chosen == chosen


@pytest.mark.parametrize("metric", [math.inf, -math.inf, math.nan])
def test_a_metric_that_is_no_finite_number_is_never_chosen(metric: float) -> None:
    candidate = replace(CANDIDATE, metric=metric)
    for floors in ({}, {"accuracy": 0.1}):
        (said,) = judge(candidate, Request(Budget(0.5, 9.0), floors=floors)).faults
        assert said == f"its metric is {metric}, no finite number: verify it again"


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("field", ["value_ms", "high_ms", "bound_ms"])
def test_a_time_that_is_not_above_0_is_no_latency(field: str, value: float) -> None:
    broken = entry(0.5, 1.0).model_copy(update={field: value})
    assert counted(broken) is None
    candidate = replace(CANDIDATE, points=(point(1.0, percentiles=(broken,)),))
    (said,) = judge(candidate, Request(Budget(0.5, 1e9))).faults
    assert said == "p50 at batch 1, closed:1 is no time above 0: deploykit profile a.bundle"


def test_memory_counts_only_for_the_batch_and_the_place_it_was_measured_in() -> None:
    candidate = replace(CANDIDATE, points=tuple(point(1.0, batch=batch) for batch in (1, 4, 8)), memory_batch=4)
    asked = {batch: Request(Budget(0.5, 9.0), batch=batch, max_memory=1e12) for batch in (1, 4, 8)}
    assert [meets(request, candidate) for request in asked.values()] == [True, True, False]
    verdict = judge(candidate, replace(asked[8], max_memory=1.0))
    assert verdict.faults == (
        "its memory was measured at batch 4 and may be more at batch 8; ask without --max-memory",
    )
    assert not verdict.misses
    for runtime in ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx"):
        (said,) = judge(replace(candidate, runtime=runtime), asked[1]).faults
        assert said == f"device memory is not measured, and {runtime} works in it; ask without --max-memory"
        assert meets(replace(asked[1], max_memory=None), replace(candidate, runtime=runtime))


@pytest.mark.parametrize(("p", "faster"), [(None, True), (0.009, True), (0.01, False), (0.2, False), (math.nan, False)])
def test_an_interval_above_1_is_not_enough_where_chance_would_do(p: float | None, faster: bool) -> None:
    compared = Comparison(variant="v", baseline="float", batch=1, ratio=1.2, low=1.1, high=1.3, pairs=99, block=9, p=p)
    candidate = replace(CANDIDATE, comparisons=(compared,), guarded=True)
    verdict = judge(candidate, Request(Budget(0.5, 9.0)))
    assert verdict.meets == faster
    if not faster:
        assert f"(95 % interval 1.10 to 1.30, p = {p:.2g}, wanted below 0.01); --allow-slower" in verdict.faults[0]
    slower = replace(candidate, comparisons=(compared.model_copy(update={"low": 0.9, "p": 0.001}),))
    assert not meets(Request(Budget(0.5, 9.0)), slower)


def test_open_loops_of_different_streams_are_not_mixed() -> None:
    measured = [(1, 90.0, 5.0), (4, 50.0, 2.0), (4, 95.0, 3.0), (1, 60.0, 4.0)]
    points = [point(ms, load=Load(kind="open", streams=streams, rate=rate)) for streams, rate, ms in measured]
    answered = {}
    for rate in (40.0, 61.0, 91.0, 96.0):
        found = find_point(points, 1, Load(kind="open", rate=rate))
        answered[rate] = None if found is None else (found.load.streams, found.load.rate)
    assert answered == {40.0: (1, 60.0), 61.0: (1, 90.0), 91.0: (4, 95.0), 96.0: None}
    candidate = replace(CANDIDATE, points=tuple(points))
    assert judge(candidate, Request(Budget(0.5, 9.0), load=Load(kind="open", rate=91.0))).load == points[2].load


def test_a_closed_loop_says_what_it_does_not_see() -> None:
    hint = choose([CANDIDATE], Request(Budget(0.5, 9.0))).hint
    assert hint == (
        "a closed loop does not see stalls between its calls, and a/v@engine/1 was measured in no open one: "
        "deploykit profile a.bundle --load 0.8, then select --load open:RATE"
    )
    opened = replace(CANDIDATE, points=(*CANDIDATE.points, point(1.0, load=Load(kind="open", rate=9.0))))
    assert choose([opened], Request(Budget(0.5, 9.0))).hint == ""
    assert choose([CANDIDATE], Request(Budget(0.5, 0.1))).hint == ""
