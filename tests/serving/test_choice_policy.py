"""The server's own policy against its promises, for any candidates, budgets and waits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.choice import Asked, Candidate
from deploykit_serving.choice.policy import at_turn, choose, fastest, steps_down

SECONDS = st.floats(1e-4, 1.0)
CANDIDATES = st.lists(
    st.tuples(st.none() | st.floats(-1, 1), SECONDS), min_size=1, max_size=6
).map(lambda pairs: [Candidate(str(number), *pair) for number, pair in enumerate(pairs)])  # fmt: skip
TIMES = st.floats(0, 2.0)


def asked(budget: float | None, wait: float = 0.0, elapsed: float = 0.0) -> Asked:
    return Asked(batch=1, budget=budget, elapsed=elapsed, wait=wait, queued=3 if wait else 0)


def metric(candidate: Candidate | None) -> float:
    if candidate is None:
        return -math.inf
    return -1e9 if candidate.metric is None else candidate.metric


@given(CANDIDATES, st.floats(0.001, 3), TIMES, TIMES)
def test_never_one_that_misses_while_another_meets(
    candidates: list[Candidate], budget: float, wait: float, elapsed: float
) -> None:
    request = asked(budget, wait, elapsed)
    meeting = [item for item in candidates if elapsed + wait + item.seconds <= budget]  # the oracle
    chosen = choose(candidates, request, 1.0)
    assert (chosen is None) == (not meeting)
    if chosen is not None:
        assert chosen in meeting
        assert metric(chosen) == max(map(metric, meeting))


@given(CANDIDATES, st.floats(0.001, 3), st.floats(0.001, 3), TIMES)
def test_a_larger_budget_never_gets_a_worse_metric(
    candidates: list[Candidate], one: float, other: float, wait: float
) -> None:
    small, large = (metric(choose(candidates, asked(budget, wait), 1.0)) for budget in sorted((one, other)))
    assert small <= large


@given(CANDIDATES, st.floats(0.001, 3), TIMES, TIMES)
def test_a_longer_wait_never_gets_a_better_metric(
    candidates: list[Candidate], budget: float, one: float, other: float
) -> None:
    short, long = (metric(choose(candidates, asked(budget, wait), 1.0)) for wait in sorted((one, other)))
    assert long <= short


@given(CANDIDATES, TIMES, st.floats(0.001, 2))
def test_without_a_budget_nothing_is_refused_and_nothing_slower_than_the_first_answers(
    candidates: list[Candidate], wait: float, patience: float
) -> None:
    first = candidates[0]
    chosen = choose(candidates, asked(None, wait), patience)
    assert chosen is not None
    assert chosen is first or chosen.seconds < first.seconds
    if not wait or wait + first.seconds <= patience:
        assert chosen is first
    elif wait + fastest(candidates).seconds <= patience:
        assert wait + chosen.seconds <= patience
    else:
        assert chosen.seconds == fastest(candidates).seconds


@given(CANDIDATES, TIMES, TIMES, st.floats(0.001, 2))
def test_without_a_budget_a_longer_wait_never_gets_a_slower_variant(
    candidates: list[Candidate], one: float, other: float, patience: float
) -> None:
    # With the best metric first and every faster one worse, as select writes them.
    candidates = sorted(candidates, key=lambda item: -item.seconds)
    candidates = [replace(item, metric=item.seconds) for item in candidates]
    short, long = (choose(candidates, asked(None, wait), patience) for wait in sorted((one, other)))
    assert short is not None
    assert long is not None
    assert long.seconds <= short.seconds


@given(CANDIDATES, st.data(), st.floats(0.001, 3), TIMES)
def test_at_its_turn_it_never_gets_slower_and_meets_what_can_be_met(
    candidates: list[Candidate], data: Any, budget: float, elapsed: float
) -> None:
    planned = data.draw(st.sampled_from(candidates))
    chosen = at_turn(candidates, planned, budget, elapsed)
    assert chosen.seconds <= planned.seconds
    if elapsed + planned.seconds <= budget:
        assert chosen is planned
    elif elapsed + fastest(candidates).seconds <= budget:
        assert elapsed + chosen.seconds <= budget
    else:
        assert chosen.seconds == fastest(candidates).seconds


THREE = [Candidate("slow", 0.99, 0.4), Candidate("middle", 0.95, 0.1), Candidate("fast", 0.9, 0.01)]


@pytest.mark.parametrize(
    ("budget", "wait", "wanted", "down"),
    [
        (1.0, 0.0, "slow", False),
        (0.3, 0.0, "middle", False),
        (0.45, 0.1, "middle", True),
        (0.45, 0.42, "fast", True),
        (0.45, 0.45, None, False),
        (None, 0.0, "slow", False),
        (None, 0.1, "slow", False),
        (None, 0.15, "middle", True),
        (None, 9.0, "fast", True),
    ],
)
def test_steps(budget: float | None, wait: float, wanted: str | None, down: bool) -> None:
    chosen = choose(THREE, asked(budget, wait), 0.5)
    assert (chosen and chosen.name) == wanted
    if chosen is not None:
        assert steps_down(THREE, asked(budget, wait), 0.5, chosen) is down


def test_an_unknown_metric_is_the_last_and_equal_ones_go_by_time() -> None:
    candidates = [Candidate("unknown", None, 0.1), Candidate("a", 0.5, 0.3), Candidate("b", 0.5, 0.2)]
    assert [choose(candidates, asked(budget), 1.0) for budget in (1.0, 0.15)] == [candidates[2], candidates[0]]
