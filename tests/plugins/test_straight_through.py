"""The straight-through estimator: its value is the hard one to the last bit, its gradient the soft one's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit_relaxations.straight_through import clipped_straight_through, straight_through


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-3, 1.0, 1e4]))
@settings(max_examples=30, deadline=None)
def test_the_value_is_exactly_the_hard_one(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    hard = torch.from_numpy(rng.integers(-2, 3, 200).astype(np.float32))
    soft = torch.from_numpy((scale * rng.normal(size=200)).astype(np.float32))
    assert torch.equal(straight_through(hard, soft), hard)
    assert torch.equal(clipped_straight_through(hard, soft), hard)


def test_the_usual_spelling_is_not_exact_for_values_far_apart_which_is_why_ours_is_another() -> None:
    soft, hard = 100 * torch.randn(10_000), torch.randn(10_000)
    assert not torch.equal(soft + (hard - soft), hard)
    assert torch.equal(straight_through(hard, soft), hard)


def test_the_gradient_is_that_of_the_soft_argument_alone() -> None:
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(50, dtype=torch.float64)
    (through,) = torch.autograd.grad((straight_through(2 * x, torch.tanh(x)) * weights).sum(), x)
    (soft,) = torch.autograd.grad((torch.tanh(x) * weights).sum(), x)
    assert torch.equal(through, soft)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
def test_the_result_has_the_soft_dtype(dtype: torch.dtype) -> None:
    value = straight_through(torch.tensor([0, 1]).to(dtype), torch.tensor([0.25, 0.5]))
    assert value.dtype == torch.float32
    assert value.tolist() == [0.0, 1.0]


def test_clipping_stops_the_gradient_beyond_the_bound() -> None:
    soft = torch.tensor([-2.5, -2.0, 0.0, 1.9, 2.1], requires_grad=True)
    torch.autograd.backward(clipped_straight_through(torch.sign(soft), soft, bound=2.0).sum())
    assert soft.grad is not None
    assert soft.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("function", [straight_through, clipped_straight_through])
def test_shapes_that_differ_are_refused_even_if_they_broadcast(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=r"hard has shape \(3,\) and soft \(2, 3\); they must be the same shape"):
        function(torch.zeros(3), torch.zeros(2, 3))
