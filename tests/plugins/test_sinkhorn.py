"""Sinkhorn in the log domain, its dustbins and its hard twin: against POT, brute force and the Hungarian algorithm."""

from __future__ import annotations

import doctest
import importlib
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import deploykit_relaxations.sinkhorn as relaxation
from deploykit_relaxations.sinkhorn import (
    NEVER,
    log_sinkhorn,
    log_sum_exp,
    marginal_error,
    mutual_best,
    with_dustbins,
)

ot: Any = importlib.import_module("ot")  # POT has no types
SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 2**31)


def drawn(seed: int, *shape: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_examples_in_docstrings() -> None:
    failed, attempted = doctest.testmod(relaxation)
    assert attempted > 15
    assert failed == 0


# -- the plan -----------------------------------------------------------------------------------------------------


@given(rows=SIZES, columns=SIZES, seed=SEEDS, temperature=st.sampled_from([0.2, 1.0, 5.0]))
@settings(max_examples=25, deadline=None)
def test_the_plan_is_that_of_pot(rows: int, columns: int, seed: int, temperature: float) -> None:
    cost = drawn(seed, rows, columns)
    a, b = (drawn(seed + k, size).abs() + 0.1 for k, size in ((1, rows), (2, columns)))
    a, b = a / a.sum(), b / b.sum()
    wanted = ot.sinkhorn(
        a.numpy(), b.numpy(), cost.numpy(), reg=temperature, method="sinkhorn_log", numItermax=5000, stopThr=1e-13
    )
    got = log_sinkhorn(-cost / temperature, a.log(), b.log(), iterations=5000).exp()
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-9)


def test_few_iterations_are_those_of_plain_scaling() -> None:
    scores, a, b = drawn(0, 4, 5), torch.full((4,), 5.0), torch.full((5,), 4.0)
    kernel = scores.exp().numpy()
    for _ in range(3):
        kernel = kernel * (5.0 / kernel.sum(1, keepdims=True))
        kernel = kernel * (4.0 / kernel.sum(0, keepdims=True))
    got = log_sinkhorn(scores, a.double().log(), b.double().log(), iterations=3).exp()
    np.testing.assert_allclose(got.numpy(), kernel, rtol=1e-12)


@given(rows=SIZES, columns=SIZES, seed=SEEDS, iterations=st.integers(1, 5), spread=st.sampled_from([1.0, 30.0, 3000.0]))
@settings(max_examples=40, deadline=None)
def test_columns_are_right_after_any_number_of_iterations(
    rows: int, columns: int, seed: int, iterations: int, spread: float
) -> None:
    ones, others = torch.full((rows,), 1.0 / rows).log(), torch.full((columns,), 1.0 / columns).log()
    log_plan = log_sinkhorn(drawn(seed, rows, columns, spread=spread).float(), ones, others, iterations)
    assert torch.isfinite(log_plan).all()
    torch.testing.assert_close(log_plan.exp().sum(0), others.exp(), rtol=0, atol=2e-3 if spread > 100 else 1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    scores = drawn(1, 3, 4).requires_grad_()
    a, b = drawn(2, 3).log_softmax(0), drawn(3, 4).log_softmax(0)
    torch.autograd.gradcheck(lambda s: log_sinkhorn(s, a, b, iterations=4), (scores,))
    torch.autograd.gradcheck(lambda s: log_sum_exp(s, 1), (scores,))


def test_the_logarithm_of_a_sum_is_that_of_torch_and_never_is_finite() -> None:
    x = drawn(4, 5, 6, spread=50.0)
    torch.testing.assert_close(log_sum_exp(x, 0), torch.logsumexp(x, 0, keepdim=True))
    nothing = torch.full((3,), NEVER)
    assert log_sum_exp(nothing, 0).item() == pytest.approx(NEVER, abs=2.0)
    assert nothing.exp().tolist() == nothing.double().exp().tolist() == [0.0, 0.0, 0.0]


def test_no_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 iteration, got 0"):
        log_sinkhorn(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2), 0)


# -- a fixed number of iterations is not a solution -----------------------------------------------------------------


def _sharpened(temperature: float, iterations: int, draws: int = 30) -> tuple[float, float, float]:
    """Return the mean error of row sums, the mean distance from the best assignment, and how often rows agree with it.

    Costs are 10 x 10 normal numbers.
    """
    scores = drawn(0, draws, 10, 10)
    best = np.stack([_hungarian(table) for table in scores.numpy()])
    ones = torch.zeros(draws, 10, dtype=torch.float64)
    log_plan = log_sinkhorn(scores / temperature, ones, ones, iterations)
    plan = log_plan.exp().numpy()
    agree = (plan.argmax(2) == best.argmax(2)).all(1).mean()
    error = marginal_error(log_plan, ones, ones).mean().item()
    return error, float(np.abs(plan - best).max((1, 2)).mean()), float(agree)


def _hungarian(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.zeros_like(scores)
    result[linear_sum_assignment(scores, maximize=True)] = 1.0
    return result


def test_colder_scores_at_the_same_number_of_iterations_move_away_from_the_assignment() -> None:
    warm, cool, cold, colder = (_sharpened(temperature, 20) for temperature in (1.0, 0.1, 0.01, 0.001))
    assert warm[0] < 0.01 < cool[0] < 0.2  # row sums drift off
    assert 0.5 < cold[0] < colder[0]
    assert cool[1] < cold[1] < colder[1]  # so does the plan, from the assignment it is thought to become
    assert cool[2] > cold[2] > colder[2]
    # The best of each row is no assignment then: two rows want the same column.
    ones = torch.zeros(30, 10, dtype=torch.float64)
    best = log_sinkhorn(drawn(0, 30, 10, 10) / 0.001, ones, ones, 20).argmax(2)
    assert sum(len(set(row.tolist())) < 10 for row in best) > 20


def test_iterations_that_grow_with_the_sharpness_reach_the_assignment() -> None:
    error, distance, agree = _sharpened(0.02, 5000, draws=15)
    assert error < 0.01
    assert distance < 0.25
    assert agree > 0.9


@given(size=st.integers(1, 5), seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_limit_is_the_best_of_all_permutations(size: int, seed: int) -> None:
    scores = drawn(seed, size, size)
    totals = {
        order: sum(scores[row, column].item() for row, column in enumerate(order))
        for order in itertools.permutations(range(size))
    }
    first, *others = sorted(totals.values(), reverse=True)
    if others and first - others[0] < 0.3:  # near a tie the limit is reached too slowly to look at
        return
    ones = torch.zeros(size, dtype=torch.float64)
    plan = log_sinkhorn(scores / 0.03, ones, ones, 2000).exp()
    assert tuple(plan.argmax(1).tolist()) == max(totals, key=lambda order: totals[order])
    assert tuple(mutual_best(plan[None], 0.2)[0].tolist()) == tuple(plan.argmax(1).tolist())


# -- dustbins -----------------------------------------------------------------------------------------------------


@given(rows=SIZES, columns=SIZES, seed=SEEDS, dustbin=st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_dustbins_are_transport_with_a_row_and_a_column_more(
    rows: int, columns: int, seed: int, dustbin: float
) -> None:
    scores = drawn(seed, rows, columns)
    cost = np.full((rows + 1, columns + 1), -dustbin)
    cost[:rows, :columns] = -scores.numpy()
    a, b = np.append(np.ones(rows), columns), np.append(np.ones(columns), rows)
    wanted = ot.sinkhorn(a, b, cost, reg=1.0, method="sinkhorn_log", numItermax=5000, stopThr=1e-13)
    everywhere = torch.ones(1, rows, dtype=torch.bool), torch.ones(1, columns, dtype=torch.bool)
    problem = with_dustbins(scores[None], torch.tensor(dustbin, dtype=torch.float64), *everywhere)
    np.testing.assert_allclose(log_sinkhorn(*problem, iterations=3000).exp()[0].numpy(), wanted, atol=1e-8)


@given(
    rows=st.lists(st.booleans(), min_size=1, max_size=5),
    columns=st.lists(st.booleans(), min_size=1, max_size=5),
    seed=SEEDS,
    iterations=st.sampled_from([1, 3, 40]),
)
@settings(max_examples=40, deadline=None)
def test_padding_changes_nothing_and_gets_nothing(
    rows: list[bool], columns: list[bool], seed: int, iterations: int
) -> None:
    scores, dustbin = drawn(seed, 1, len(rows), len(columns), spread=4.0), torch.tensor(0.3, dtype=torch.float64)
    valid = torch.tensor([rows]), torch.tensor([columns])
    log_plan = log_sinkhorn(*with_dustbins(scores, dustbin, *valid), iterations=iterations)
    assert torch.isfinite(log_plan).all()
    plan = log_plan.exp()[0]
    here, there = np.flatnonzero([*rows, True]), np.flatnonzero([*columns, True])
    gone, away = np.flatnonzero([not row for row in [*rows, True]]), np.flatnonzero([not c for c in [*columns, True]])
    assert plan[gone].abs().sum().item() == plan[:, away].abs().sum().item() == 0.0
    if len(here) == 1 or len(there) == 1:  # one image without points: all of the other go to the dustbin
        assert plan[:-1, :-1].sum().item() == 0.0
        assert plan.sum().item() == pytest.approx(len(here) + len(there) - 2)
        return
    few = scores[:, rows][:, :, columns]
    masks = torch.ones(1, sum(rows), dtype=torch.bool), torch.ones(1, sum(columns), dtype=torch.bool)
    alone = log_sinkhorn(*with_dustbins(few, dustbin, *masks), iterations=iterations).exp()[0]
    np.testing.assert_allclose(plan.numpy()[np.ix_(here, there)], alone.numpy(), atol=1e-10)


def test_two_images_without_points_give_numbers() -> None:
    nobody = torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.bool)
    for iterations in (1, 2, 50):
        scores = torch.randn(1, 3, 2, requires_grad=True)
        dustbin = torch.tensor(1.0, requires_grad=True)
        log_plan = log_sinkhorn(*with_dustbins(scores, dustbin, *nobody), iterations=iterations)
        assert torch.isfinite(log_plan).all()
        assert log_plan.exp().sum().item() == 0.0
        torch.autograd.backward(log_plan.exp().sum())
        assert scores.grad is not None
        assert dustbin.grad is not None
        assert torch.isfinite(scores.grad).all()
        assert torch.isfinite(dustbin.grad).all()


def test_a_lower_dustbin_leaves_more_mass_between_points() -> None:
    valid = torch.ones(1, 6, dtype=torch.bool)
    masses = [
        log_sinkhorn(*with_dustbins(drawn(0, 1, 6, 6), torch.tensor(bin_, dtype=torch.float64), valid, valid), 100)
        .exp()[0, :-1, :-1].sum().item()
        for bin_ in (-20.0, 0.0, 20.0)
    ]  # fmt: skip
    assert masses[0] == pytest.approx(6.0, abs=0.1)
    assert masses[0] > masses[1] > masses[2]
    assert masses[2] == pytest.approx(0.0, abs=1e-3)
