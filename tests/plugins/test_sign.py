"""Signs with a useful gradient: their values are the hard twin's, their gradients the surrogate's."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

import deploykit_relaxations.sign as signs
from deploykit_relaxations.sign import (
    binarize_periodic,
    hard_sign,
    periodic_sign,
    round_straight_through,
    sign_triangle,
)


def test_examples_in_docstrings() -> None:
    failed, attempted = doctest.testmod(signs)
    assert attempted > 10
    assert failed == 0


def test_a_sign_is_never_zero() -> None:
    zeros = torch.tensor([0.0, -0.0])
    for sign in (hard_sign, sign_triangle, lambda x: periodic_sign(x, 20.0), lambda x: binarize_periodic(x, 20.0)):
        assert sign(zeros).tolist() == [1.0, 1.0]


def test_triangle_gradient_is_the_derivative_of_the_piecewise_quadratic() -> None:
    x = torch.linspace(-1.5, 1.5, 61, dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(sign_triangle(x).sum())

    def quadratic(v: float) -> float:
        v = min(1.0, max(-1.0, v))
        return 2 * v + v * v if v < 0 else 2 * v - v * v

    step = 1e-6
    wanted = [(quadratic(v + step) - quadratic(v - step)) / (2 * step) for v in x.detach().tolist()]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx(wanted, abs=1e-5)


def test_periodic_gradient_is_that_of_the_sine() -> None:
    w = torch.linspace(-1, 1, 41, requires_grad=True)
    value = binarize_periodic(w, 7.0)
    torch.autograd.backward(value.sum())
    assert w.grad is not None
    assert w.grad.tolist() == pytest.approx([7.0 * math.cos(7.0 * v) for v in w.detach().tolist()], abs=1e-4)
    assert torch.equal(value, periodic_sign(w, 7.0))


def test_periodic_sign_repeats_after_a_period_and_flips_after_half() -> None:
    frequency = 20.0
    w = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    clear = torch.sin(frequency * w.double()).abs() > 1e-3  # rounding w + period moves the phase by some 1e-5
    sign = periodic_sign(w, frequency)
    assert clear.sum() > 9_900
    assert torch.equal(periodic_sign(w + 2 * math.pi / frequency, frequency)[clear], sign[clear])
    assert torch.equal(periodic_sign(w + math.pi / frequency, frequency)[clear], -sign[clear])


def test_rounding_is_half_to_even_with_gradient_one() -> None:
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5], requires_grad=True)
    value = round_straight_through(x)
    torch.autograd.backward(value.sum())
    assert value.tolist() == [-2.0, 0.0, 0.0, 2.0, 2.0]
    assert x.grad is not None
    assert x.grad.tolist() == [1.0] * 5
