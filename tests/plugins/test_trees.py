from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deploykit_relaxations import (
    geometric_schedule,
    load_balance,
    node_bits,
    node_entropy,
    path_products,
    sigmoid_tree,
    straight_through_bits,
    tree_depth,
    tree_leaf,
)


def leaf_by_walking(scores: list[float]) -> int:
    """The leaf of one sample, node by node."""
    node = 0
    while node < len(scores):
        node = 2 * node + 2 if scores[node] >= 0 else 2 * node + 1
    return node - len(scores)


def probability_by_walking(right: list[float], leaf: int) -> float:
    """The probability of one leaf: the product along the way up."""
    node, product = leaf + len(right), 1.0
    while node > 0:
        parent = (node - 1) // 2
        product *= right[parent] if node == 2 * parent + 2 else 1 - right[parent]
        node = parent
    return product


@given(depth=st.integers(0, 5), seed=st.integers(0, 2**31), temperature=st.sampled_from([0.1, 1.0, 7.0]))
@settings(max_examples=30, deadline=None)
def test_soft_and_hard_trees_equal_walks_over_the_nodes(depth: int, seed: int, temperature: float) -> None:
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 2**depth - 1)))
    probabilities = sigmoid_tree(scores, temperature)
    for row in range(3):
        right = [1 / (1 + math.exp(-score / temperature)) for score in scores[row].tolist()]
        expected = [probability_by_walking(right, leaf) for leaf in range(2**depth)]
        np.testing.assert_allclose(probabilities[row].numpy(), expected, rtol=1e-12)
        assert tree_leaf(scores)[row] == leaf_by_walking(scores[row].tolist())


def test_hard_bits_give_the_one_hot_code_of_the_leaf() -> None:
    scores = torch.tensor(list(itertools.product([-1.0, 0.0, -0.0, 1.0], repeat=3)))
    one_hot = torch.nn.functional.one_hot(tree_leaf(scores), 4).float()
    assert torch.equal(path_products(node_bits(scores)), one_hot)
    assert torch.equal(path_products(straight_through_bits(scores)), one_hot)


def test_ties_and_negative_zero_go_right() -> None:
    assert tree_leaf(torch.tensor([[0.0], [-0.0], [-1e-45]])).tolist() == [1, 1, 0]
    assert node_bits(torch.tensor([0.0, -0.0, -1e-45])).tolist() == [1.0, 1.0, 0.0]


def test_straight_through_bits_have_the_gradient_of_the_sigmoid() -> None:
    scores = torch.randn(50, dtype=torch.float64, requires_grad=True)
    (through,) = torch.autograd.grad(straight_through_bits(scores, 0.5).sum(), scores)
    (soft,) = torch.autograd.grad(torch.sigmoid(scores / 0.5).sum(), scores)
    torch.testing.assert_close(through, soft)


def test_a_cold_tree_is_the_hard_tree() -> None:
    scores = torch.randn(40, 15)
    scores = scores + 0.1 * torch.where(scores >= 0, 1, -1)
    assert torch.equal(sigmoid_tree(scores, 1e-3).argmax(1), tree_leaf(scores))


def test_gradients_agree_with_finite_differences() -> None:
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    leaf = torch.tensor([0, 3, 3])

    def balance(s: Tensor) -> Tensor:
        return load_balance(sigmoid_tree(s, 0.7), leaf)

    assert torch.autograd.gradcheck(lambda s: sigmoid_tree(s, 0.7), (scores,))
    assert torch.autograd.gradcheck(lambda s: node_entropy(s, 0.7), (scores,))
    assert torch.autograd.gradcheck(balance, (scores,))


def test_entropy_is_log_two_undecided_and_zero_decided_without_nan() -> None:
    assert node_entropy(torch.zeros(2, 3)).item() == pytest.approx(math.log(2))
    assert node_entropy(torch.tensor([[-1e4, 1e4, 200.0]])).item() == 0.0
    assert node_entropy(torch.zeros(2, 0)).item() == 0.0


def test_balance_is_the_papers_double_sum() -> None:
    probabilities = torch.rand(5, 4, dtype=torch.float64)
    leaf = torch.tensor([0, 3, 3, 1, 3])
    total = 0.0
    for index in range(4):
        total += sum(probabilities[:, index].tolist()) * sum(int(value == index) for value in leaf.tolist())
    assert load_balance(probabilities, leaf).item() == pytest.approx(4 / 5**2 * total)
    even = torch.full((8, 4), 0.25)
    assert load_balance(even, torch.arange(8) % 4).item() == pytest.approx(1.0)


def test_schedule_falls_by_equal_factors_between_its_ends() -> None:
    values = [geometric_schedule(step / 10, 2.0, 0.02) for step in range(11)]
    assert values[0] == 2.0
    assert values[-1] == pytest.approx(0.02)
    factors = [later / earlier for earlier, later in itertools.pairwise(values)]
    assert factors == pytest.approx([factors[0]] * 10)


def test_trees_that_are_not_full_are_refused() -> None:
    assert [tree_depth(2**depth - 1) for depth in range(6)] == list(range(6))
    with pytest.raises(ValueError, match=r"2\^D - 1 inner nodes .* got 5"):
        tree_depth(5)
    with pytest.raises(ValueError, match="got 2"):
        sigmoid_tree(torch.zeros(1, 2))
