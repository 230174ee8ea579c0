"""Gates beside their hard twins: the trainable gate, the smooth step and its codes, hard concrete."""

from __future__ import annotations

import doctest
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit_relaxations import gates
from deploykit_relaxations.binary import hard_bit, logistic_noise
from deploykit_relaxations.gates import (
    binary_code,
    binary_code_gate,
    hard_concrete,
    hard_concrete_gate,
    hard_concrete_open,
    smooth_step,
    step_gate,
    trainable_gate,
)

weights = st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20)


def test_the_docstrings_run() -> None:
    results = doctest.testmod(gates)
    assert results.attempted >= 6
    assert results.failed == 0


@given(values=weights, slope=st.floats(0, 3), sawtooth=st.sampled_from([10.0, 1e3, 1e5]))
@settings(deadline=None)
def test_the_soft_gate_stays_within_a_tooth_above_the_step(values: list[float], slope: float, sawtooth: float) -> None:
    weight = torch.tensor(values, dtype=torch.float64)
    excess = trainable_gate(weight, slope, sawtooth) - step_gate(weight)
    assert (excess >= -1e-15).all()
    assert (excess <= slope / sawtooth * (1 + 1e-6)).all()


@given(values=weights, slope=st.floats(1e-3, 3))
@settings(deadline=None)
def test_the_derivative_is_the_slope_everywhere(values: list[float], slope: float) -> None:
    weight = torch.tensor(values, requires_grad=True)
    torch.autograd.backward(trainable_gate(weight, slope).sum())
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.full_like(weight, slope), rtol=1e-6, atol=0.0)


def test_between_jumps_the_value_really_climbs_with_the_slope() -> None:
    # The derivative is no convention of the backward pass: finite differences in float64 see it too.
    weight = torch.tensor([-0.7, -0.3, 0.2, 0.9], dtype=torch.float64) + 3e-6
    step = 1e-6
    climbed = trainable_gate(weight + step, 2.0, 1e5) - trainable_gate(weight, 2.0, 1e5)
    torch.testing.assert_close(climbed / step, torch.full_like(weight, 2.0), rtol=1e-4, atol=0.0)


def test_the_step_shuts_at_zero_and_carries_no_gradient() -> None:
    weight = torch.tensor([0.0, -0.0, 1e-30], requires_grad=True)
    gate = step_gate(weight)
    assert gate.tolist() == [0.0, 0.0, 1.0]
    assert not gate.requires_grad


@pytest.mark.parametrize(("slope", "sawtooth"), [(-1.0, 1e5), (1.0, 0.0), (1.0, -3.0)])
def test_settings_out_of_range_are_refused(slope: float, sawtooth: float) -> None:
    with pytest.raises(ValueError, match="slope must be at least 0 and sawtooth above 0"):
        trainable_gate(torch.zeros(1), slope, sawtooth)


@given(values=weights, width=st.sampled_from([0.5, 1.0, 3.0]))
@settings(deadline=None)
def test_the_smooth_step_is_its_formula_piece_by_piece(values: list[float], width: float) -> None:
    found = smooth_step(torch.tensor(values, dtype=torch.float64), width).tolist()
    for t, value in zip(values, found, strict=True):
        if t <= -width / 2:
            assert value == 0.0
        elif t >= width / 2:
            assert value == 1.0
        else:
            assert value == pytest.approx(-2 / width**3 * t**3 + 3 / (2 * width) * t + 0.5, abs=1e-12)


def test_smooth_gradients_agree_with_finite_differences() -> None:
    logits = torch.linspace(-0.77, 0.77, 23, dtype=torch.float64, requires_grad=True)
    bits = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(23, dtype=torch.float64)
    assert torch.autograd.gradcheck(smooth_step, (logits,))
    assert torch.autograd.gradcheck(binary_code_gate, (bits,))
    assert torch.autograd.gradcheck(lambda x: hard_concrete(3 * x, noise), (logits,))
    assert torch.autograd.gradcheck(hard_concrete_open, (logits,))


def test_code_weights_are_products_and_saturated_ones_the_code() -> None:
    bits = torch.rand(5, 4, dtype=torch.float64)
    for row, found in zip(bits.tolist(), binary_code_gate(bits).tolist(), strict=True):
        for code, weight in enumerate(found):
            turns = [int(digit) for digit in f"{code:04b}"]
            wanted = math.prod(b if turn else 1 - b for b, turn in zip(row, turns, strict=True))
            assert weight == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(binary_code_gate(bits).sum(-1), torch.ones(5, dtype=torch.float64))
    hard = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    assert binary_code(hard).tolist() == list(range(16))
    assert torch.equal(binary_code_gate(hard), torch.eye(16))


def test_a_hard_concrete_gate_is_open_as_often_as_its_penalty_says() -> None:
    noise = logistic_noise((40_000, 1), torch.Generator().manual_seed(3))
    logits = torch.tensor([-3.0, -1.0, 0.0, 2.0])
    sample = hard_concrete(logits, noise)
    torch.testing.assert_close((sample > 0).float().mean(0), hard_concrete_open(logits), rtol=0, atol=0.01)
    # Mirrored, an open gate is a shut one, so the same formula counts the gates that are fully open.
    torch.testing.assert_close((sample < 1).float().mean(0), hard_concrete_open(-logits), rtol=0, atol=0.01)


def test_without_noise_and_temperature_hard_concrete_is_what_is_deployed() -> None:
    logits = torch.linspace(-5, 5, 101)
    gate = hard_concrete_gate(logits)
    assert torch.equal(hard_concrete(logits, torch.zeros(()), temperature=1.0), gate)
    edge = math.log(1 / 11)  # sigmoid(edge) * 1.2 - 0.1 = 0
    assert torch.equal(gate == 0, logits < edge)
    assert torch.equal(gate == 1, logits > -edge)


def test_a_cold_hard_concrete_gate_is_the_bit_of_logit_and_noise() -> None:
    total, noise = torch.randn(500), torch.randn(500)
    total = total + 0.1 * torch.sign(total)
    assert torch.equal(hard_concrete(total - noise, noise, temperature=1e-3), hard_bit(total))


def test_gate_settings_out_of_range_are_refused() -> None:
    x = torch.zeros(1)
    with pytest.raises(ValueError, match="width must be above 0, got 0; for the limit 0 use hard_bit"):
        smooth_step(x, 0.0)
    for function in (hard_concrete_gate, hard_concrete_open, lambda x, **s: hard_concrete(x, x, **s)):
        with pytest.raises(ValueError, match=r"low must be below 0 and high above 1, got 0 and 1\.1"):
            function(x, low=0.0)
        with pytest.raises(ValueError, match=r"low must be below 0 and high above 1, got -0\.1 and 1$"):
            function(x, high=1.0)
