"""Soft sorting networks against the authors' package, and hard ones against numpy's stable sort."""

from __future__ import annotations

import doctest
import itertools
from typing import Any, get_args

import diffsort  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deploykit_relaxations import sorting_networks
from deploykit_relaxations.sorting_networks import (
    NetworkKind,
    SwapKind,
    hard_ranks,
    hard_sort,
    network_layers,
    network_sort,
    soft_ranks,
    soft_sort,
    swap_probability,
)

NETWORKS: tuple[NetworkKind, ...] = get_args(NetworkKind)
SWAPS: tuple[SwapKind, ...] = get_args(SwapKind)
MONOTONIC: tuple[SwapKind, ...] = ("cauchy", "reciprocal", "optimal")


def spread(items: int, gap: float, seed: int, rows: int = 4) -> Tensor:
    """Rows in random order whose sorted neighbours are between ``gap`` and three times that apart."""
    random = np.random.default_rng(seed)
    values = random.uniform(gap, 3 * gap, size=(rows, items)).cumsum(axis=1)
    return torch.from_numpy(random.permuted(values, axis=1) - values.mean())


def one_hot(order: Tensor) -> Tensor:
    """P of a hard order: column j has its 1 at the item of place j."""
    return torch.nn.functional.one_hot(order, order.shape[-1]).transpose(-1, -2).double()


def test_the_docstrings_run() -> None:
    results = doctest.testmod(sorting_networks)
    assert results.attempted >= 20
    assert results.failed == 0


# -- the networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("items", range(2, 13))
def test_a_network_sorts_all_rows_of_zeros_and_ones_and_so_sorts_anything(items: int, network: NetworkKind) -> None:
    rows = torch.tensor(list(itertools.product([0, 1], repeat=items)))
    values, order = network_sort(rows, network)
    assert torch.equal(values, rows.sort(1).values)
    assert torch.equal(rows.gather(1, order), values)
    assert torch.equal(order.sort(1).values, torch.arange(items).expand(len(rows), items))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("items", [2, 3, 5, 8, 13, 16])
def test_swaps_of_a_layer_touch_different_wires_and_point_upwards(items: int, network: NetworkKind) -> None:
    for layer in network_layers(items, network):
        wires = [wire for pair in layer for wire in pair]
        assert len(set(wires)) == len(wires)
        assert all(0 <= low < high < items for low, high in layer)


def test_networks_have_the_layers_they_should() -> None:
    assert [len(network_layers(items, "odd-even")) for items in (2, 3, 5, 16)] == [2, 3, 5, 16]
    assert [len(network_layers(2**power, "bitonic")) for power in range(1, 6)] == [1, 3, 6, 10, 15]


# -- soft sorts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize(
    ("network", "items"), [("odd-even", n) for n in (2, 3, 5, 8, 11)] + [("bitonic", n) for n in (2, 4, 8, 16)]
)
def test_values_and_permutation_are_those_of_the_authors_package(
    network: NetworkKind, items: int, swap: SwapKind
) -> None:
    x = torch.randn(6, items)
    theirs = diffsort.DiffSortNet(network.replace("-", "_"), items, steepness=7.0, distribution=swap)
    wanted_values, wanted = theirs(x)
    values, permutation = soft_sort(x, network, 7.0, swap)
    torch.testing.assert_close(values, wanted_values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(permutation, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_those_of_the_authors_package(network: NetworkKind, swap: SwapKind) -> None:
    x = torch.randn(3, 8, requires_grad=True)
    weights = torch.randn(3, 8, 8)
    theirs = diffsort.DiffSortNet(network.replace("-", "_"), 8, steepness=3.0, distribution=swap)
    (wanted,) = torch.autograd.grad((theirs(x)[1] * weights).sum(), x)
    (got,) = torch.autograd.grad((soft_sort(x, network, 3.0, swap)[1] * weights).sum(), x)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@given(
    items=st.integers(2, 9),
    network=st.sampled_from(NETWORKS),
    swap=st.sampled_from(SWAPS),
    steepness=st.sampled_from([0.1, 10.0, 1e4]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_permutations_are_doubly_stochastic_and_give_the_values(
    items: int, network: NetworkKind, swap: SwapKind, steepness: float, seed: int
) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 3, items)))
    values, permutation = soft_sort(x, network, steepness, swap)
    ones = torch.ones(2, 3, items, dtype=torch.float64)
    torch.testing.assert_close(permutation.sum(-1), ones, rtol=0, atol=1e-13)
    torch.testing.assert_close(permutation.sum(-2), ones, rtol=0, atol=1e-13)
    assert permutation.min() > -1e-14
    torch.testing.assert_close((x.unsqueeze(-2) @ permutation).squeeze(-2), values, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(values.sum(-1), x.sum(-1))
    assert soft_ranks(permutation).sum(-1).numpy() == pytest.approx(items * (items - 1) / 2)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("swap", MONOTONIC)
def test_the_distance_to_the_hard_sort_falls_with_the_steepness_and_the_gap(
    swap: SwapKind, network: NetworkKind
) -> None:
    x = spread(7, gap=0.5, seed=1)
    hard_values, order = network_sort(x, network)
    errors = []
    for steepness in (1e3, 1e4, 1e5):
        values, permutation = soft_sort(x, network, steepness, swap)
        errors.append([(values - hard_values).abs().max(), (permutation - one_hot(order)).abs().max()])
    ratios = np.divide(errors[:-1], errors[1:])
    assert ratios == pytest.approx(np.full((2, 2), 10.0), rel=0.02)
    # Half the gap is as good as half the steepness for P, which has no unit.
    torch.testing.assert_close(soft_sort(x / 2, network, 2e3, swap)[1], soft_sort(x, network, 1e3, swap)[1])


@pytest.mark.parametrize("swap", ["logistic", "logistic_phi"])
def test_logistic_swaps_reach_the_hard_sort_exponentially(swap: SwapKind) -> None:
    x = spread(7, gap=0.5, seed=2)
    values, order = hard_sort(x)
    soft, permutation = soft_sort(x, steepness=200.0, swap=swap)
    torch.testing.assert_close(soft, values, rtol=0, atol=1e-12)
    torch.testing.assert_close(permutation, one_hot(order), rtol=0, atol=1e-12)


@pytest.mark.parametrize("swap", SWAPS)
def test_ties_never_harden(swap: SwapKind) -> None:
    _, permutation = soft_sort(torch.tensor([[1.0, 1.0]], dtype=torch.float64), steepness=1e9, swap=swap)
    assert permutation.tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
    # Here one of the equal values meets the smaller one first, which moves it a little in units of 1 / steepness.
    tied = torch.tensor([[2.0, 0.0, 2.0]], dtype=torch.float64)
    steep, steeper = (soft_sort(tied, "odd-even", steepness, swap)[1][0, :, 2] for steepness in (1e5, 1e7))
    torch.testing.assert_close(steep, steeper, rtol=0, atol=1e-3)
    assert steeper[1] < 1e-3
    assert 0.3 < steeper[0] < 0.7
    if swap not in MONOTONIC:
        assert steeper.tolist() == pytest.approx([0.5, 0.0, 0.5])


@pytest.mark.parametrize("swap", SWAPS)
def test_only_the_monotonic_swaps_never_fall_when_an_input_rises(swap: SwapKind) -> None:
    b = torch.linspace(-4, 4, 4001, dtype=torch.float64, requires_grad=True)
    alpha = swap_probability(b, steepness=3.0, kind=swap)
    smaller = (1 - alpha) * b  # of a = 0 and b
    (slope,) = torch.autograd.grad(smaller.sum(), b)
    assert (bool((slope >= -1e-12).all())) == (swap in MONOTONIC)


@pytest.mark.parametrize("swap", SWAPS)
def test_gradients_agree_with_finite_differences_and_are_finite_at_ties(swap: SwapKind) -> None:
    x = spread(4, gap=0.3, seed=3, rows=2).requires_grad_()
    arguments: tuple[Any, ...] = ("bitonic", 2.0, swap)
    assert torch.autograd.gradcheck(lambda tensor: soft_sort(tensor, *arguments), (x,))
    tied = torch.zeros(1, 4, requires_grad=True)
    (soft_sort(tied, "odd-even", 10.0, swap)[1] * torch.randn(4, 4)).sum().backward()  # type: ignore[no-untyped-call]
    assert tied.grad is not None
    assert torch.isfinite(tied.grad).all()
    assert tied.grad.abs().max() > 0


# -- hard twins ---------------------------------------------------------------------------------------------------


@given(items=st.integers(2, 12), largest=st.integers(0, 4), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_ties_stay_in_order_in_the_real_sort_and_in_the_odd_even_network(items: int, largest: int, seed: int) -> None:
    tied = np.random.default_rng(seed).integers(0, largest + 1, size=(5, items))
    wanted = np.argsort(tied, axis=1, kind="stable")
    for values, order in (hard_sort(torch.from_numpy(tied)), network_sort(torch.from_numpy(tied))):
        np.testing.assert_array_equal(order.numpy(), wanted)
        np.testing.assert_array_equal(values.numpy(), np.sort(tied, axis=1))
    np.testing.assert_array_equal(hard_ranks(torch.from_numpy(wanted)).numpy(), np.argsort(wanted, axis=1))


def test_a_bitonic_network_may_exchange_ties() -> None:
    tied = torch.tensor(list(itertools.product([0, 1], repeat=4)))
    values, order = network_sort(tied, "bitonic")
    assert torch.equal(values, tied.sort(1).values)
    assert not np.array_equal(order.numpy(), np.argsort(tied.numpy(), axis=1, kind="stable"))


def test_soft_ranks_of_a_hard_permutation_are_the_hard_ranks() -> None:
    _, order = hard_sort(torch.randn(5, 6))
    assert torch.equal(soft_ranks(one_hot(order)), hard_ranks(order).double())


# -- what is refused ----------------------------------------------------------------------------------------------


def test_single_items_and_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="needs at least two items, got 1"):
        soft_sort(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="no sorting network 'bubble'; there are: odd-even, bitonic"):
        network_layers(4, "bubble")
    with pytest.raises(ValueError, match="no soft swap 'gaussian'; there are: logistic, "):
        swap_probability(torch.zeros(2), kind="gaussian")  # type: ignore[arg-type]
