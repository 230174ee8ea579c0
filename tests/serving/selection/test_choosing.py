"""The choice among random measurements, against an oracle that tries everything one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploykit_serving.profiling.schema import Comparison, Point
from deploykit_serving.selection.candidates import Candidate
from deploykit_serving.selection.choosing import Selection, choose
from deploykit_serving.selection.judging import Verdict
from deploykit_serving.selection.pareto import pareto_front
from deploykit_serving.selection.request import Budget, Request
from tests.serving.selection.made_catalogues import point

SAMPLES = 100
# A busy machine draws slowly, which is no fault of the strategies.
THOROUGH = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
_PERCENTILES = (0.5, 0.9, 0.99)
_TIMES = (1.0, 1.5, 2.0)


def _comparison(ratio: float) -> Comparison:
    return Comparison(
        variant="v", baseline="float", batch=1, ratio=ratio, low=ratio * 0.9, high=ratio * 1.1, pairs=99, block=9
    )


@st.composite
def candidates(draw: st.DrawFn, name: str = "") -> Candidate:
    # Few different values, so that ties are frequent.
    ms = draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]) | st.floats(0.1, 10.0))
    samples = draw(st.sampled_from([10_000, 10_000, 300, 5]))
    measured: Point = point(
        ms, batch=draw(st.sampled_from([1] * 9 + [2])), samples=samples, over=draw(st.floats(1.0, 2.0)),
        stable=draw(st.sampled_from([True] * 9 + [False])),
        invalid=draw(st.sampled_from([""] * 9 + ["the generator fell behind"])),
    )  # fmt: skip
    right = draw(st.integers(80, SAMPLES))
    return Candidate(
        name=name or draw(st.from_regex(r"[a-z]{1,3}/v@engine/[1-4]", fullmatch=True)),
        path=Path("made.bundle"),
        manifest_sha256="0" * 64,
        variant="v",
        runtime="engine",
        runtime_version="1",
        threads=1,
        metric=draw(st.sampled_from([None, right / SAMPLES, right / SAMPLES])),
        metric_name="accuracy",
        samples=SAMPLES,
        size=draw(st.sampled_from([100, 1000, 5000])),
        peak_mib=draw(st.sampled_from([None, 10.0, 100.0])),
        points=(measured,),
        comparisons=draw(
            st.sampled_from([(_comparison(2.0),), (_comparison(2.0),), (_comparison(1.05),), (_comparison(0.5),), ()])
        ),
        guarded=draw(st.booleans()),
        faults=draw(st.sampled_from([()] * 9 + [("never verified",)])),
    )


@st.composite
def catalogues(draw: st.DrawFn) -> list[Candidate]:
    count = draw(st.integers(0, 10))
    return [draw(candidates(name=f"b{index}/v@engine/1")) for index in range(count)]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return Request(
        Budget(
            draw(st.sampled_from(_PERCENTILES)),
            draw(st.sampled_from([0.01, 1.2, 2.2, 5.0, 30.0, 30.0]) | st.floats(0.1, 30.0)),
        ),
        floors=draw(st.sampled_from([{}, {}, {"accuracy": 0.9}, {"accuracy": 1.5}])),
        max_memory=draw(st.sampled_from([None, None, 50 * 2**20])),
        max_size=draw(st.sampled_from([None, None, 100, 2000])),
        prefer=draw(st.sampled_from(["metric", "latency"])),
        allow_slower=draw(st.booleans()),
    )


def oracle_meets(candidate: Candidate, request: Request) -> bool:
    """Whether a candidate holds all that is asked for, word by word from the issue."""
    measured = candidate.points[0]
    if candidate.faults or measured.batch != request.batch or measured.invalid or not measured.stable:
        return False
    index = _PERCENTILES.index(request.budget.percentile)
    bound = measured.percentiles[index].bound_ms
    if bound is None or bound > request.budget.ms:
        return False
    for floor in request.floors.values():
        if candidate.metric is None or candidate.metric < floor:
            return False
    if request.max_size is not None and candidate.size > request.max_size:
        return False
    if request.max_memory is not None and (
        candidate.peak_mib is None or candidate.peak_mib * 2**20 > request.max_memory
    ):
        return False
    return request.allow_slower or not candidate.guarded or any(item.low > 1 for item in candidate.comparisons)


def bound_of(candidate: Candidate, request: Request) -> float:
    bound = candidate.points[0].percentiles[_PERCENTILES.index(request.budget.percentile)].bound_ms
    assert bound is not None
    return bound


def oracle_best(found: list[Candidate], request: Request) -> Candidate | None:
    best: Candidate | None = None
    for candidate in found:
        if oracle_meets(candidate, request) and (best is None or _better(candidate, best, request)):
            best = candidate
    return best


def _better(one: Candidate, other: Candidate, request: Request) -> bool:
    """Whether one candidate goes before another."""
    by_metric = (one.metric or -1) - (other.metric or -1)
    by_latency = bound_of(other, request) - bound_of(one, request)
    for difference in (by_metric, by_latency) if request.prefer == "metric" else (by_latency, by_metric):
        if difference:
            return difference > 0
    if one.size != other.size:
        return one.size < other.size
    return one.name < other.name


@THOROUGH
@given(catalogues(), requests())
def test_the_choice_is_the_oracles_and_never_violates(found: list[Candidate], request: Request) -> None:
    selection = choose(found, request)
    wanted = oracle_best(found, request)
    assert (selection.chosen.candidate if selection.chosen else None) == wanted
    assert len(selection.verdicts) == len(found)
    for verdict in (*selection.front, *([selection.chosen] if selection.chosen else [])):
        assert oracle_meets(verdict.candidate, request)
    for verdict in selection.verdicts:
        assert verdict.meets == oracle_meets(verdict.candidate, request)
        assert verdict.meets or verdict.faults or verdict.misses


def test_the_oracle_sees_answers_and_impossible_budgets() -> None:
    """The properties above would hold of nothing if random catalogues never or always had an answer."""
    chosen: list[bool] = []

    @THOROUGH
    @given(catalogues(), requests())
    def look(found: list[Candidate], request: Request) -> None:
        chosen.append(oracle_best(found, request) is not None)

    look()
    share = sum(chosen) / len(chosen)
    print(share)
    assert 0.05 < share < 0.95


@THOROUGH
@given(catalogues(), requests())
def test_the_front_is_what_nobody_beats(found: list[Candidate], request: Request) -> None:
    meeting = [candidate for candidate in found if oracle_meets(candidate, request)]
    front = [verdict.candidate for verdict in choose(found, request).front]
    for candidate in meeting:
        beaten = any(
            (other.metric or -1) >= (candidate.metric or -1)
            and bound_of(other, request) <= bound_of(candidate, request)
            and (
                (other.metric or -1) > (candidate.metric or -1)
                or bound_of(other, request) < bound_of(candidate, request)
            )
            for other in meeting
        )
        assert not (beaten and candidate in front)
        if not beaten:
            same = [(other.metric, bound_of(other, request)) for other in front]
            assert same.count((candidate.metric, bound_of(candidate, request))) == 1
    metrics = [-1 if item.metric is None else item.metric for item in front]
    assert metrics == sorted(metrics, reverse=True)


def _worth(selection: Selection) -> tuple[float, ...]:
    """How good an answer is; larger is better."""
    verdict = selection.chosen
    if verdict is None:
        return (float("-inf"),)
    metric = -1.0 if verdict.candidate.metric is None else verdict.candidate.metric
    assert verdict.latency_ms is not None
    return (metric, -verdict.latency_ms) if selection.request.prefer == "metric" else (-verdict.latency_ms, metric)


@THOROUGH
@given(catalogues(), requests(), st.floats(1.0, 5.0), st.floats(0.0, 1.0))
def test_asking_for_less_never_gives_a_worse_answer(
    found: list[Candidate], request: Request, times: float, less: float
) -> None:
    looser = replace(
        request, budget=Budget(request.budget.percentile, request.budget.ms * times), max_memory=None, max_size=None,
        floors={name: floor - less for name, floor in request.floors.items()},
    )  # fmt: skip
    assert _worth(choose(found, looser)) >= _worth(choose(found, request))


@THOROUGH
@given(catalogues(), candidates(name="new/v@engine/1"), requests())
def test_a_further_candidate_never_worsens_the_answer(found: list[Candidate], new: Candidate, request: Request) -> None:
    assert _worth(choose([*found, new], request)) >= _worth(choose(found, request))


@THOROUGH
@given(catalogues(), requests(), st.randoms(use_true_random=False))
def test_the_order_of_the_catalogue_does_not_matter(found: list[Candidate], request: Request, random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, request) == choose(found, request)


@THOROUGH
@given(catalogues(), requests())
def test_the_nearest_misses_least(found: list[Candidate], request: Request) -> None:
    selection = choose(found, request)
    nearest = selection.nearest
    if selection.chosen is not None:
        assert nearest is None
        return
    amounts: list[tuple[float, str]] = []
    for verdict in selection.verdicts:
        if not verdict.faults:
            amounts.append((_largest_miss(verdict, request), verdict.candidate.name))
    assert (None if nearest is None else nearest.candidate.name) == (min(amounts)[1] if amounts else None)


def _largest_miss(verdict: Verdict, request: Request) -> float:
    candidate = verdict.candidate
    amounts = [(bound_of(candidate, request) - request.budget.ms) / request.budget.ms]
    amounts += [(floor - (candidate.metric or 0.0)) / floor for floor in request.floors.values()]
    if request.max_size is not None:
        amounts.append((candidate.size - request.max_size) / request.max_size)
    if request.max_memory is not None:
        amounts.append(((candidate.peak_mib or 0.0) * 2**20 - request.max_memory) / request.max_memory)
    return max(amounts)


@THOROUGH
@given(st.lists(st.tuples(st.none() | st.integers(0, 5).map(float), st.integers(1, 6).map(float)), max_size=12))
def test_the_front_of_points_against_every_pair(points: list[tuple[float | None, float]]) -> None:
    def beats(one: int, other: int) -> bool:
        (metric, latency), (theirs, longer) = points[one], points[other]
        up, down = (-1 if metric is None else metric), (-1 if theirs is None else theirs)
        if (up, latency) == (down, longer):
            return one < other
        return up >= down and latency <= longer

    wanted = [index for index in range(len(points)) if not any(beats(other, index) for other in range(len(points)))]
    front = pareto_front(points)
    assert sorted(front) == wanted
    metrics = [-1 if points[index][0] is None else points[index][0] for index in front]
    assert metrics == sorted(metrics, reverse=True)  # type: ignore[type-var]


def test_a_metric_counts_in_steps_of_one_sample() -> None:
    base = Candidate("a/v@engine/1", Path("a"), "0" * 64, "v", "engine", "1", 1, samples=3)
    assert replace(base, metric=2 / 3).rank == replace(base, metric=0.6666666).rank
    assert replace(base, metric=0.6).rank == replace(base, metric=2 / 3).rank
    assert replace(base, metric=1 / 3).rank != replace(base, metric=2 / 3).rank
    assert replace(base, metric=None).rank is None
    assert replace(base, metric=float("inf")).rank == float("inf")
    assert replace(base, metric=0.123, samples=0).rank == 0.123
