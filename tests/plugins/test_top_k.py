"""Soft and hard top-k against a search over all corners and faces, root finding, and loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deploykit_relaxations.categorical import gumbel_noise, tempered_softmax
from deploykit_relaxations.sparse_probabilities import sparsemax
from deploykit_relaxations.top_k import (
    capped_simplex_projection,
    capped_simplex_straight_through,
    gumbel_top_k,
    gumbel_top_k_straight_through,
    hard_top_k,
    hard_top_k_mask,
)

seeds = st.integers(0, 2**31)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def nearest_capped(point: list[float], k: int) -> list[float]:
    """The nearest point with entries from 0 to 1 that sum to k, by trying which entries are 0, 1 or between."""
    best, best_distance = [0.0], math.inf
    for kind in itertools.product((0, 1, None), repeat=len(point)):
        free = [i for i, value in enumerate(kind) if value is None]
        full = sum(value == 1 for value in kind)
        if not free and full != k:
            continue
        tau = (sum(point[i] for i in free) + full - k) / len(free) if free else 0.0
        candidate = [point[i] - tau if value is None else float(value) for i, value in enumerate(kind)]
        distance = sum((a - b) ** 2 for a, b in zip(candidate, point, strict=True))
        if min(candidate) >= 0 and max(candidate) <= 1 and distance < best_distance:
            best, best_distance = candidate, distance
    return best


@given(seed=seeds, n=st.integers(1, 6), scale=st.sampled_from([0.1, 1.0, 4.0]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_projection_is_the_nearest_point(seed: int, n: int, scale: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    scores = scale * _normal(seed, n)
    assert capped_simplex_projection(scores, k).tolist() == pytest.approx(nearest_capped(scores.tolist(), k), abs=1e-9)


@pytest.mark.parametrize(("n", "k"), [(30, 1), (30, 7), (300, 200), (2000, 50)])
def test_the_projection_is_what_root_finding_gives(n: int, k: int) -> None:
    for scale in (0.01, 1.0, 20.0):
        scores = scale * np.random.default_rng(n + k).normal(size=n)

        def excess(tau: float, scores: np.ndarray = scores) -> float:
            return float(np.clip(scores - tau, 0, 1).sum() - k)

        tau = scipy.optimize.brentq(excess, scores.min() - 1, scores.max(), xtol=1e-14)
        found = capped_simplex_projection(torch.from_numpy(scores), k)
        np.testing.assert_allclose(found.numpy(), np.clip(scores - tau, 0, 1), rtol=0, atol=1e-9)


def test_for_one_element_the_projection_is_sparsemax() -> None:
    scores = 2 * torch.randn(100, 12, dtype=torch.float64)
    torch.testing.assert_close(capped_simplex_projection(scores, 1), sparsemax(scores))


def test_a_lead_of_one_makes_the_projection_the_hard_mask_to_the_last_bit() -> None:
    scores = torch.empty(500, 20).uniform_(-4, 0)
    best = torch.rand(500, 20).argsort(-1)[:, :6]
    scores = scores.scatter(1, best, torch.empty(500, 6).uniform_(1.0 + 1e-5, 5))
    assert torch.equal(capped_simplex_projection(scores, 6), hard_top_k_mask(scores, 6))
    # The support can be larger than k below that lead, which is why a budget is counted on the hard mask.
    assert (capped_simplex_projection(scores / 10, 6) > 0).sum(-1).max() > 6


@given(seed=seeds, n=st.integers(2, 30), scale=st.sampled_from([0.1, 1.0, 4.0]), shift=st.floats(-50, 50))
@settings(max_examples=40, deadline=None)
def test_sums_are_k_shifts_do_not_matter_and_order_carries_through(
    seed: int, n: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, n + 1))
    order = torch.from_numpy(rng.permutation(n))
    scores, noise = scale * _normal(seed, 2, n), _normal(seed + 1, 2, n)
    wanted = torch.full((2,), float(k), dtype=torch.float64)

    weights = capped_simplex_projection(scores, k)
    assert (weights >= 0).all()
    assert (weights <= 1).all()
    torch.testing.assert_close(weights.sum(-1), wanted)
    torch.testing.assert_close(capped_simplex_projection(scores + shift, k), weights, rtol=0, atol=1e-9)
    torch.testing.assert_close(capped_simplex_projection(scores[:, order], k), weights[:, order], rtol=0, atol=1e-9)

    sample = gumbel_top_k(scores, k, 0.5, noise)
    assert (sample >= 0).all()
    torch.testing.assert_close(sample.sum(-1), wanted)
    torch.testing.assert_close(gumbel_top_k(scores + shift, k, 0.5, noise), sample, rtol=0, atol=1e-9)
    torch.testing.assert_close(gumbel_top_k(scores[:, order], k, 0.5, noise[:, order]), sample[:, order])


def test_gradients_agree_with_finite_differences() -> None:
    scores = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(5, 6, dtype=torch.float64)
    for k in (1, 2, 5, 6):
        assert torch.autograd.gradcheck(lambda x, k=k: capped_simplex_projection(x, k), (scores,))
        assert torch.autograd.gradcheck(lambda x, k=k: gumbel_top_k(x, k, 0.8, noise), (scores,))


def test_straight_through_masks_have_the_hard_value_and_the_soft_gradient() -> None:
    scores = torch.randn(50, 8, requires_grad=True)
    noise, weights = torch.randn(50, 8), torch.randn(50, 8)
    pairs = [
        (capped_simplex_straight_through(scores, 3), capped_simplex_projection(scores, 3), hard_top_k_mask(scores, 3)),
        (
            gumbel_top_k_straight_through(scores, 3, 0.5, noise),
            gumbel_top_k(scores, 3, 0.5, noise),
            hard_top_k_mask(scores + noise, 3),
        ),
    ]
    for through, soft, hard in pairs:
        assert torch.equal(through, hard)
        (gradient,) = torch.autograd.grad((through * weights).sum(), scores)
        (wanted,) = torch.autograd.grad((soft * weights).sum(), scores)
        assert wanted.abs().max() > 0.1
        assert torch.equal(gradient, wanted)


@given(seed=seeds, n=st.integers(1, 40), values=st.integers(1, 4), data=st.data())
@settings(max_examples=60, deadline=None)
def test_hard_selection_is_a_stable_sort_however_many_ties(seed: int, n: int, values: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, values, (3, n)).astype(np.float32))
    for row, indices, mask in zip(
        scores.tolist(), hard_top_k(scores, k).tolist(), hard_top_k_mask(scores, k).tolist(), strict=True
    ):
        wanted = sorted(range(n), key=lambda index: -row[index])[:k]
        assert indices == wanted
        assert mask == [float(index in wanted) for index in range(n)]


def test_masked_scores_come_last_and_zeros_of_both_signs_tie() -> None:
    scores = torch.tensor([-math.inf, 0.0, -0.0, -math.inf, math.inf])
    assert hard_top_k(scores, 5).tolist() == [4, 1, 2, 0, 3]
    assert hard_top_k_mask(scores, 2).tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]
    masked = torch.tensor([0.2, -math.inf, 0.1, 0.0], requires_grad=True)
    weights = capped_simplex_projection(masked, 2)
    assert weights.tolist() == pytest.approx([0.7667, 0.0, 0.6667, 0.5667], abs=1e-4)
    (gradient,) = torch.autograd.grad(weights[0], masked)
    assert gradient.tolist() == pytest.approx([2 / 3, 0.0, -1 / 3, -1 / 3])


def test_the_relaxed_subset_is_the_papers_loop() -> None:
    scores, noise = _normal(1, 6), _normal(2, 6)
    left = [a + b for a, b in zip(scores.tolist(), noise.tolist(), strict=True)]
    total = [0.0] * 6
    for _ in range(3):
        powers = [math.exp(value / 0.6) for value in left]
        chosen = [power / sum(powers) for power in powers]
        total = [a + b for a, b in zip(total, chosen, strict=True)]
        left = [value + math.log(1 - share) for value, share in zip(left, chosen, strict=True)]
    assert gumbel_top_k(scores, 3, 0.6, noise).tolist() == pytest.approx(total, rel=1e-12)
    torch.testing.assert_close(gumbel_top_k(scores, 1, 0.6, noise), tempered_softmax(scores + noise, 0.6))


def test_a_cold_relaxed_subset_is_the_hard_mask_with_a_finite_gradient() -> None:
    scores = (torch.rand(300, 9).argsort(-1) * 200.0).requires_grad_()  # far apart: softmaxes of exactly 0 and 1
    weights = gumbel_top_k(scores, 4, 1e-2, torch.zeros(()))
    assert torch.equal(weights, hard_top_k_mask(scores, 4))
    (gradient,) = torch.autograd.grad(weights[:, 0].sum(), scores)
    assert torch.isfinite(gradient).all()


def test_hard_samples_are_draws_without_replacement() -> None:
    weights = [0.5, 0.3, 0.15, 0.05]
    noise = gumbel_noise((40_000, 4), torch.Generator().manual_seed(4))
    share = hard_top_k_mask(torch.tensor(weights).log() + noise, 2).mean(0)
    wanted = [0.0] * 4
    for first, second in itertools.permutations(range(4), 2):
        chance = weights[first] * weights[second] / (1 - weights[first])
        wanted[first] += chance
        wanted[second] += chance
    assert share.tolist() == pytest.approx(wanted, abs=0.01)  # four standard deviations


@pytest.mark.parametrize("k", [0, 4, -1])
def test_a_k_that_is_out_of_range_is_refused(k: int) -> None:
    scores = torch.zeros(2, 3)
    for function in (hard_top_k, hard_top_k_mask, capped_simplex_projection, capped_simplex_straight_through):
        with pytest.raises(ValueError, match=f"k must be from 1 to the 3 elements of a row, got {k}"):
            function(scores, k)
    with pytest.raises(ValueError, match=f"gumbel_top_k: k must be from 1 to the 3 elements of a row, got {k}"):
        gumbel_top_k(scores, k, 1.0, torch.zeros(()))


@pytest.mark.parametrize("temperature", [0.03, 0.1, 0.5])
def test_single_precision_keeps_what_a_sure_choice_leaves_over(temperature: float) -> None:
    scores = 0.5 * torch.rand(200, 6, dtype=torch.float64).argsort(-1).double()
    single = gumbel_top_k(scores.float(), 3, temperature, torch.zeros(()))
    double = gumbel_top_k(scores, 3, temperature, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-6)
