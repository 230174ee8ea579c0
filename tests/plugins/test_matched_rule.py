"""The hard twin of a Sinkhorn plan, mutual best pairs above a threshold: against looking at every pair."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from deploykit_relaxations.sinkhorn import mutual_best, mutual_margin

SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 2**31)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _pairs_by_looking(plan: NDArray[Any], threshold: float) -> list[int]:
    """Return each row's partner, comparing every value with all of its row and column."""
    rows, columns = plan.shape
    match = [-1] * rows
    for i, j in itertools.product(range(rows), range(columns)):
        row_best = all(plan[i, j] > plan[i, k] for k in range(j)) and all(
            plan[i, j] >= plan[i, k] for k in range(columns)
        )
        column_best = all(plan[i, j] > plan[k, j] for k in range(i)) and all(
            plan[i, j] >= plan[k, j] for k in range(rows)
        )
        if row_best and column_best and plan[i, j] > threshold:
            match[i] = j
    return match


@given(rows=SIZES, columns=SIZES, seed=SEEDS, levels=st.sampled_from([2, 4, 1000]))
@settings(max_examples=60, deadline=None)
def test_mutual_best_equals_looking_at_every_pair_and_is_a_matching(
    rows: int, columns: int, seed: int, levels: int
) -> None:
    # Few levels make many ties.
    plan = np.random.default_rng(seed).integers(0, levels, (1, rows, columns)).astype(np.float32) / levels
    match = mutual_best(torch.from_numpy(plan), 0.2)[0].tolist()
    assert match == _pairs_by_looking(plan[0], float(np.float32(0.2)))
    taken = [column for column in match if column >= 0]
    assert len(set(taken)) == len(taken)
    back = mutual_best(torch.from_numpy(plan).transpose(1, 2), 0.2)[0].tolist()
    assert all(back[column] == row for row, column in enumerate(match) if column >= 0)
    assert sum(row >= 0 for row in back) == len(taken)


def test_all_alike_matches_the_first_two_and_nothing_is_never_above_the_threshold() -> None:
    assert mutual_best(torch.full((1, 3, 3), 0.5), 0.2).tolist() == [[0, -1, -1]]
    assert mutual_best(torch.full((1, 3, 3), 0.2), 0.2).tolist() == [[-1, -1, -1]]
    assert mutual_best(torch.zeros(1, 2, 3), 0.0).tolist() == [[-1, -1]]


@given(rows=SIZES, columns=SIZES, seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_no_change_smaller_than_half_the_margin_changes_a_choice(rows: int, columns: int, seed: int) -> None:
    plan = drawn(seed, 1, rows, columns).softmax(2) * drawn(seed + 1, 1, rows, columns).softmax(1)
    plan = plan / plan.max()
    match, margin = mutual_best(plan, 0.2), mutual_margin(plan, 0.2)
    assert (margin >= 0).all()
    for row in range(rows):
        half = 0.499 * margin[0, row].item()
        for trial in range(5):
            moved = plan + half * (2 * torch.rand(plan.shape, generator=torch.Generator().manual_seed(trial)) - 1)
            assert mutual_best(moved, 0.2)[0, row] == match[0, row]
            signs = torch.randint(0, 2, plan.shape, generator=torch.Generator().manual_seed(trial)) * 2 - 1
            assert mutual_best(plan + half * signs, 0.2)[0, row] == match[0, row]


@given(rows=SIZES, columns=SIZES, seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_moving_one_value_by_the_margin_changes_the_choice(rows: int, columns: int, seed: int) -> None:
    plan = drawn(seed, 1, rows, columns).softmax(2) * drawn(seed + 1, 1, rows, columns).softmax(1)
    plan = plan / plan.max()
    match, margin = mutual_best(plan, 0.2), mutual_margin(plan, 0.2)
    for row in range(rows):
        column, far = int(match[0, row]), margin[0, row].item() + 1e-9
        steps = [(j, far) for j in range(columns)] if column < 0 else [(column, -far)]
        changed = []
        for j, step in steps:
            moved = plan.clone()
            moved[0, row, j] += step
            changed.append(int(mutual_best(moved, 0.2)[0, row]) != column)
        assert any(changed)
