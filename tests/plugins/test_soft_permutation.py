"""SoftSort against loops, the hard permutation against sorted()."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit_relaxations.soft_permutation import hard_permutation, softmax_permutation


@given(seed=st.integers(0, 2**31), n=st.integers(1, 7), temperature=st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=30, deadline=None)
def test_each_column_is_a_softmax_of_closeness(seed: int, n: int, temperature: float) -> None:
    x = np.random.default_rng(seed).normal(size=n).tolist()
    found = softmax_permutation(torch.tensor(x, dtype=torch.float64), temperature)
    torch.testing.assert_close(found.sum(0), torch.ones(n, dtype=torch.float64))
    for place, value in enumerate(sorted(x)):
        powers = [math.exp(-abs(item - value) / temperature) for item in x]
        assert found[:, place].tolist() == pytest.approx([power / sum(powers) for power in powers], rel=1e-9)


@given(seed=st.integers(0, 2**31), n=st.integers(2, 9), shift=st.floats(-20, 20))
@settings(max_examples=30, deadline=None)
def test_shifts_do_not_matter_and_items_carry_their_row_with_them(seed: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, order = torch.from_numpy(rng.normal(size=(2, n))), torch.from_numpy(rng.permutation(n))
    soft = softmax_permutation(x, 0.5)
    torch.testing.assert_close(softmax_permutation(x + shift, 0.5), soft, rtol=0, atol=1e-10)
    torch.testing.assert_close(softmax_permutation(x[:, order], 0.5), soft[:, order])
    assert torch.equal(soft.argmax(1), hard_permutation(x).argmax(1))


@given(seed=st.integers(0, 2**31), n=st.integers(1, 20), values=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_the_hard_permutation_sorts_stably(seed: int, n: int, values: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).integers(0, values, n).astype(np.float32))
    permutation = hard_permutation(x)
    wanted = sorted(range(n), key=x.tolist().__getitem__)
    assert permutation.argmax(0).tolist() == wanted
    assert permutation.sum(0).tolist() == permutation.sum(1).tolist() == [1.0] * n
    assert (x @ permutation).tolist() == sorted(x.tolist())


def test_gradients_agree_with_finite_differences() -> None:
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: softmax_permutation(x, 0.7), (x,))
