"""Relaxed choices against torch's own, exact probabilities and scipy's distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from deploykit_relaxations.categorical import (
    gumbel_noise,
    gumbel_softmax,
    gumbel_softmax_straight_through,
    hard_choice,
    hard_one_hot,
    tempered_softmax,
)

seeds = st.integers(0, 2**31)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@given(seed=seeds, temperature=st.sampled_from([0.05, 1.0, 30.0]))
@settings(max_examples=30, deadline=None)
def test_the_softmax_is_a_plain_loop(seed: int, temperature: float) -> None:
    logits = _normal(seed, 2, 5)
    for row, found in zip(logits.tolist(), tempered_softmax(logits, temperature).tolist(), strict=True):
        powers = [math.exp(value / temperature) for value in row]
        assert found == pytest.approx([power / sum(powers) for power in powers], rel=1e-12)


@given(seed=seeds, shift=st.floats(-100, 100), temperature=st.sampled_from([0.05, 1.0, 30.0]))
@settings(max_examples=30, deadline=None)
def test_rows_sum_to_one_shifts_do_not_matter_and_order_carries_through(
    seed: int, shift: float, temperature: float
) -> None:
    logits, noise = _normal(seed, 3, 7), _normal(seed + 1, 3, 7)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(7))
    value = gumbel_softmax(logits, temperature, noise)
    torch.testing.assert_close(value.sum(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(gumbel_softmax(logits + shift, temperature, noise), value, rtol=0, atol=1e-10)
    permuted = gumbel_softmax(logits[:, order], temperature, noise[:, order])
    torch.testing.assert_close(permuted, value[:, order])


def test_with_the_same_noise_it_is_torchs_gumbel_softmax() -> None:
    logits = torch.randn(20, 6, requires_grad=True)
    weights = torch.randn(20, 6)
    for hard, ours in ((False, gumbel_softmax), (True, gumbel_softmax_straight_through)):
        torch.manual_seed(3)
        theirs = F.gumbel_softmax(logits, tau=0.7, hard=hard)
        torch.manual_seed(3)
        noise = -torch.empty_like(logits).exponential_().log()
        value = ours(logits, 0.7, noise)
        torch.testing.assert_close(value, theirs)
        (gradient,) = torch.autograd.grad((value * weights).sum(), logits)
        (expected,) = torch.autograd.grad((theirs * weights).sum(), logits)
        torch.testing.assert_close(gradient, expected)


def test_gradients_agree_with_finite_differences() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(gumbel_softmax, (logits, temperature, noise))
    assert torch.autograd.gradgradcheck(gumbel_softmax, (logits, temperature, noise))


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38])
def test_no_temperature_is_too_cold(temperature: float) -> None:
    logits = torch.tensor([[3.0, 50.0, -70.0], [1.0, 1.0, -math.inf]], requires_grad=True)
    value = tempered_softmax(logits, temperature)
    assert value.tolist() == [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    (gradient,) = torch.autograd.grad(value[0, 1], logits)
    assert torch.isfinite(gradient).all()


def test_ties_go_to_the_lowest_index() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2000, 7)).astype(np.float32))
    assert hard_choice(logits).tolist() == [row.index(max(row)) for row in logits.tolist()]
    one_hot = hard_one_hot(logits)
    assert torch.equal(one_hot.sum(-1), torch.ones(2000))
    assert torch.equal(one_hot.argmax(-1), hard_choice(logits))
    assert hard_choice(torch.tensor([-0.0, 0.0])) == 0


def test_straight_through_samples_are_exact_codes() -> None:
    logits, noise = torch.randn(500, 5), torch.randn(500, 5)
    assert torch.equal(gumbel_softmax_straight_through(logits, 0.3, noise), hard_one_hot(logits + noise))
    assert torch.equal(gumbel_softmax_straight_through(logits, 0.3, torch.zeros(())), hard_one_hot(logits))


def test_the_noise_is_gumbel_and_samples_the_softmax() -> None:
    generator = torch.Generator().manual_seed(5)
    noise = gumbel_noise((20_000, 3), generator)
    assert noise.shape == (20_000, 3)
    assert noise.dtype == torch.float32
    assert torch.isfinite(noise).all()
    assert scipy.stats.kstest(noise.flatten().numpy(), scipy.stats.gumbel_r.cdf).pvalue > 1e-3
    logits = torch.tensor([0.0, 1.0, -1.0])
    share = hard_one_hot(logits + noise).mean(0)
    torch.testing.assert_close(share, torch.softmax(logits, -1), rtol=0, atol=0.015)  # four standard deviations


def test_the_same_generator_state_gives_the_same_noise() -> None:
    first = gumbel_noise((4, 3), torch.Generator().manual_seed(1))
    assert torch.equal(first, gumbel_noise((4, 3), torch.Generator().manual_seed(1)))
    assert not torch.equal(first, gumbel_noise((4, 3), torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature must be above 0, got .*; for the limit 0 use the hard twin"):
        tempered_softmax(torch.zeros(2), temperature)
