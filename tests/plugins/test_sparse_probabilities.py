"""Sparse probabilities against the package entmax, a search over all supports, and the definition itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import entmax  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deploykit_relaxations.categorical import hard_one_hot
from deploykit_relaxations.sparse_probabilities import entmax15, entmax_bisect, sparsemax, support_mask

Function = Callable[[Tensor], Tensor]
FUNCTIONS: dict[str, tuple[Function, float]] = {
    "sparsemax": (sparsemax, 2.0),
    "entmax15": (entmax15, 1.5),
    "bisect 1.2": (lambda logits: entmax_bisect(logits, 1.2), 1.2),
    "bisect 1.5": (lambda logits: entmax_bisect(logits, 1.5), 1.5),
    "bisect 2": (lambda logits: entmax_bisect(logits, 2.0), 2.0),
    "bisect 3": (lambda logits: entmax_bisect(logits, 3.0), 3.0),
}
every_function = pytest.mark.parametrize(("function", "alpha"), list(FUNCTIONS.values()), ids=list(FUNCTIONS))


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def nearest_on_the_simplex(point: list[float]) -> list[float]:
    """The nearest point of the simplex, by trying every support."""
    best, best_distance = [0.0], math.inf
    for size in range(1, len(point) + 1):
        for support in itertools.combinations(range(len(point)), size):
            tau = (sum(point[i] for i in support) - 1) / size
            candidate = [point[i] - tau if i in support else 0.0 for i in range(len(point))]
            distance = sum((a - b) ** 2 for a, b in zip(candidate, point, strict=True))
            if min(candidate) >= 0 and distance < best_distance:
                best, best_distance = candidate, distance
    return best


@given(seed=st.integers(0, 2**31), n=st.integers(1, 5), scale=st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=40, deadline=None)
def test_sparsemax_is_the_nearest_point_of_the_simplex(seed: int, n: int, scale: float) -> None:
    logits = scale * _normal(seed, n)
    assert sparsemax(logits).tolist() == pytest.approx(nearest_on_the_simplex(logits.tolist()), abs=1e-12)


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.1, 1.0, 5.0, 100.0]))
@settings(max_examples=25, deadline=None)
@every_function
def test_value_and_gradient_are_those_of_the_package_entmax(
    function: Function, alpha: float, seed: int, scale: float
) -> None:
    logits = (scale * _normal(seed, 3, 11)).requires_grad_()
    weights = _normal(seed + 1, 3, 11)
    value, expected = function(logits), entmax.entmax_bisect(logits, alpha=alpha, n_iter=60)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)
    # An entry within rounding of the edge of the support has no gradient to compare.
    edge = ((expected > 0) & (expected < 1e-6)).any() or ((value > 0) != (expected > 0)).any()
    if not edge:
        (gradient,) = torch.autograd.grad((value * weights).sum(), logits)
        (wanted,) = torch.autograd.grad((expected * weights).sum(), logits)
        torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-8)


def test_the_sorting_algorithms_agree_too() -> None:
    logits = 3 * torch.randn(200, 50)
    torch.testing.assert_close(sparsemax(logits), entmax.sparsemax(logits), rtol=0, atol=1e-6)
    torch.testing.assert_close(entmax15(logits), entmax.entmax15(logits), rtol=0, atol=1e-6)
    assert torch.equal(support_mask(sparsemax(logits)) == 1, entmax.sparsemax(logits) > 0)


@every_function
def test_no_other_probabilities_reach_a_higher_objective(function: Function, alpha: float) -> None:
    def objective(p: Tensor, logits: Tensor) -> Tensor:
        entropy = (p - p**alpha).sum(-1) / (alpha * (alpha - 1))  # Tsallis
        return (p * logits).sum(-1) + entropy

    others = torch.distributions.Dirichlet(torch.full((4,), 0.5, dtype=torch.float64)).sample((20_000,))
    for logits in _normal(3, 10, 4):
        p = function(logits)
        near = 0.999 * p + 0.001 * others
        reached = objective(p, logits) + 1e-12
        assert (objective(others, logits) <= reached).all()
        assert (objective(near, logits) <= reached).all()


@every_function
def test_gradients_agree_with_finite_differences(function: Function, alpha: float) -> None:
    logits = (0.7 * _normal(0, 4, 5)).requires_grad_()
    assert (function(logits) == 0).any() or alpha < 1.5
    assert torch.autograd.gradcheck(function, (logits,))
    assert torch.autograd.gradgradcheck(function, (logits,))


@given(seed=st.integers(0, 2**31), shift=st.floats(-1000, 1000))
@settings(max_examples=15, deadline=None)
@every_function
def test_rows_sum_to_one_shifts_do_not_matter_and_order_carries_through(
    function: Function, alpha: float, seed: int, shift: float
) -> None:
    logits = 2 * _normal(seed, 3, 9)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(9))
    value = function(logits)
    assert (value >= 0).all()
    torch.testing.assert_close(value.sum(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(function(logits + shift), value, rtol=0, atol=1e-9)
    torch.testing.assert_close(function(logits[:, order]), value[:, order], rtol=0, atol=1e-12)


@every_function
def test_a_lead_of_one_over_alpha_minus_one_is_exactly_the_hard_choice(function: Function, alpha: float) -> None:
    best = torch.randint(0, 9, (200, 1))
    lead = 1 / (alpha - 1)
    logits = torch.empty(200, 9).uniform_(-3, 0).scatter(1, best, lead * (1 + 1e-6))
    assert torch.equal(function(logits), hard_one_hot(logits))
    shorter = torch.zeros(1, 9).scatter(1, best[:1], lead * 0.9)
    assert not torch.equal(function(shorter), hard_one_hot(shorter))


@every_function
def test_masks_ties_and_long_rows_stay_finite(function: Function, alpha: float) -> None:
    masked = torch.tensor([[0.5, -math.inf, 0.5], [-math.inf, 1e30, -1e30]], requires_grad=True)
    value = function(masked)
    torch.testing.assert_close(value, torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]))
    (gradient,) = torch.autograd.grad(value[0, 0], masked)
    assert torch.isfinite(gradient).all()
    long = function(torch.randn(2, 20_000))
    torch.testing.assert_close(long.sum(-1), torch.ones(2))
    even = function(torch.zeros(1, 1000))
    torch.testing.assert_close(even, torch.full((1, 1000), 1e-3))


@pytest.mark.parametrize("alpha", [1.0, 0.5, math.nan])
def test_an_order_that_is_not_sparse_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must be above 1, got .*; for 1 use tempered_softmax"):
        entmax_bisect(torch.zeros(2), alpha)
