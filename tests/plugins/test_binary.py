"""Relaxed bits against torch's and scipy's distributions, and against a choice between two."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from deploykit_relaxations.binary import (
    gumbel_sigmoid,
    gumbel_sigmoid_straight_through,
    hard_bit,
    logistic_noise,
    tempered_sigmoid,
)
from deploykit_relaxations.categorical import gumbel_softmax
from deploykit_relaxations.trees import node_bits


def test_a_bit_is_a_choice_between_the_logit_and_nothing() -> None:
    logits = torch.randn(100, dtype=torch.float64)
    first, second = torch.randn(2, 100, dtype=torch.float64)
    two = torch.stack((logits, torch.zeros_like(logits)), dim=-1)
    chosen = gumbel_softmax(two, 0.4, torch.stack((first, second), dim=-1))[:, 0]
    torch.testing.assert_close(gumbel_sigmoid(logits, 0.4, first - second), chosen)


def test_it_is_torchs_relaxed_bernoulli() -> None:
    # The density of the binary Concrete distribution is where torch's and ours can be compared without their noise.
    logits, temperature = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    noise = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    value = gumbel_sigmoid(logits, temperature, noise)
    (slope,) = torch.autograd.grad(value.sum(), noise)
    density = torch.from_numpy(scipy.stats.logistic.pdf(noise.detach().numpy())) / slope
    relaxed = torch.distributions.RelaxedBernoulli(temperature, logits=logits, validate_args=False)
    log_density: Tensor = relaxed.log_prob(value.detach())  # type: ignore[no-untyped-call]
    torch.testing.assert_close(density, log_density.exp())


def test_gradients_agree_with_finite_differences() -> None:
    logits = torch.randn(7, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gumbel_sigmoid, (logits, temperature, torch.randn(7, dtype=torch.float64)))


def test_straight_through_has_the_hard_value_and_the_soft_gradient() -> None:
    logits = torch.randn(200, requires_grad=True)
    noise = torch.randn(200)
    value = gumbel_sigmoid_straight_through(logits, 0.4, noise)
    assert torch.equal(value, hard_bit(logits + noise))
    (through,) = torch.autograd.grad(value.sum(), logits)
    (soft,) = torch.autograd.grad(gumbel_sigmoid(logits, 0.4, noise).sum(), logits)
    assert torch.equal(through, soft)


def test_the_noise_is_logistic_and_samples_the_sigmoid() -> None:
    noise = logistic_noise((40_000, 1), torch.Generator().manual_seed(5))
    assert noise.dtype == torch.float32
    assert torch.isfinite(noise).all()
    assert scipy.stats.kstest(noise.flatten().numpy(), scipy.stats.logistic.cdf).pvalue > 1e-3
    logits = torch.tensor([-2.0, 0.0, 1.0])
    share = hard_bit(logits + noise).mean(0)
    torch.testing.assert_close(share, torch.sigmoid(logits), rtol=0, atol=0.01)  # four standard deviations


def test_a_tie_is_a_one_in_every_form() -> None:
    ties = torch.tensor([0.0, -0.0, -1e-45, math.inf, -math.inf])
    assert hard_bit(ties).tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert torch.equal(hard_bit(ties), node_bits(ties))
    assert hard_bit(torch.tensor([3, -1])).tolist() == [1, 0]


def test_a_temperature_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0; for the limit 0 use the hard twin"):
        tempered_sigmoid(torch.zeros(2), 0.0)
