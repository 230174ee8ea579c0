"""The trainable gate function beside its hard twin."""

from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deploykit_relaxations import gates
from deploykit_relaxations.gates import step_gate, trainable_gate

weights = st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20)


def test_the_docstrings_run() -> None:
    results = doctest.testmod(gates)
    assert results.attempted >= 6
    assert results.failed == 0


@given(values=weights, slope=st.floats(0, 3), sawtooth=st.sampled_from([10.0, 1e3, 1e5]))
def test_the_soft_gate_stays_within_a_tooth_above_the_step(values: list[float], slope: float, sawtooth: float) -> None:
    weight = torch.tensor(values, dtype=torch.float64)
    excess = trainable_gate(weight, slope, sawtooth) - step_gate(weight)
    assert (excess >= -1e-15).all()
    assert (excess <= slope / sawtooth * (1 + 1e-6)).all()


@given(values=weights, slope=st.floats(1e-3, 3))
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
