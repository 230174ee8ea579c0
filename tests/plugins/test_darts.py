"""The supernet of ``searched.darts``: mixtures, choices, and what becomes of them."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import deploykit
from deploykit.lifecycle import binding_of
from deploykit_searched import Choice, Nothing, SearchCell, derive, genotype_of
from deploykit_searched.cells import FixedCell
from deploykit_searched.choices import mixture
from deploykit_searched.layer_exchange import layers
from deploykit_searched.operators import Operator, operator
from tests.plugins.darts_networks import (
    ALL,
    answers,
    cell_supernet,
    cells,
    choices,
    images,
    make_one_hot,
    method_of,
)

_NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""A seed has no simpler form, and each example takes a while."""


def edge(names: tuple[str, ...] = ALL, *, stride: int = 1) -> Choice:
    made = {name: operator(name, 3, 3, stride=stride) for name in names}
    return Choice({name: item for name, item in made.items() if item is not None}).eval()


# -- derivation equals the supernet with all weight on what was chosen ------------------------------------------------


@given(seed=st.integers(0, 2**31), cells=st.integers(1, 4), nodes=st.integers(1, 3))
@settings(max_examples=12, deadline=None, phases=_NO_SHRINKING)
def test_the_inherited_network_is_the_one_hot_supernet_bit_for_bit(seed: int, cells: int, nodes: int) -> None:
    soft = cell_supernet(seed, cells=cells, nodes=nodes)
    derived = derive(soft)
    make_one_hot(soft)
    assert not any(choice.settled for choice in choices(soft).values())  # so that the mixtures really run
    np.testing.assert_array_equal(answers(derived, images()), answers(soft, images()))


@given(seed=st.integers(0, 2**31), cells=st.integers(1, 4), nodes=st.integers(1, 3))
@settings(max_examples=8, deadline=None, phases=_NO_SHRINKING)
def test_the_hard_form_equals_the_oracle_and_the_settled_supernet(seed: int, cells: int, nodes: int) -> None:
    soft = cell_supernet(seed, cells=cells, nodes=nodes)
    hard, x = deploykit.harden(soft), images(2)
    with torch.no_grad():
        expected = method_of(soft).oracle(soft, (x,))["output"]
    np.testing.assert_allclose(answers(hard.module, x), expected, rtol=1e-4, atol=1e-5)
    for choice in choices(soft).values():
        choice.settled.fill_(True)
    np.testing.assert_allclose(answers(soft, x), expected, rtol=1e-4, atol=1e-5)


def test_the_mixture_is_far_from_what_is_derived_of_it() -> None:
    """Else the two tests above would hold for a supernet that mixes nothing."""
    soft = cell_supernet()
    assert np.abs(answers(soft, images()) - answers(derive(soft), images())).max() > 0.1


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [name for name in ALL if name != "none"])
def test_each_operator_equals_its_oracle_merged_or_not(name: str, stride: int) -> None:
    from deploykit_searched.darts_oracle import evaluate
    from deploykit_searched.operators import merged

    made = operator(name, 3, 3, stride=stride)
    assert made is not None
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.3, 3.0)
    x = torch.randn(2, 3, 9, 8)
    expected = evaluate(made.eval(), x.double().numpy())
    assert expected.shape == (2, 3, *(-(-size // stride) for size in (9, 8)))
    np.testing.assert_allclose(answers(made, x), expected, rtol=1e-4, atol=1e-5)
    if isinstance(made, Operator):
        short = merged(made).eval()
        assert not any(isinstance(part, nn.BatchNorm2d) for part in short.modules())
        np.testing.assert_allclose(answers(short, x), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_of_a_window_counts_only_what_is_inside_the_image() -> None:
    pool = operator("avg_3", 1, 1, norm=False)
    assert pool is not None
    np.testing.assert_array_equal(answers(pool, torch.ones(1, 1, 4, 4)), np.ones((1, 1, 4, 4)))


# -- content ------------------------------------------------------------------------------------------------------


def test_the_hard_form_holds_the_chosen_operators_and_nothing_else() -> None:
    soft = cell_supernet(4)
    hard, genotype = deploykit.harden(soft), genotype_of(soft)
    fixed = layers(hard.module, FixedCell)
    assert {f"{path}.edges.{name}" for path, cell in fixed.items() for name in cell.edges} == set(genotype.operators)
    for kind in (Choice, SearchCell, Nothing, nn.BatchNorm2d):
        assert not layers(hard.module, kind)
    names = [*hard.module.state_dict()]
    assert not [name for name in names if "alpha" in name or "temperature" in name or "settled" in name]
    wanted = sum(
        sum(item.numel() for item in choices(soft)[path].candidates[name].parameters())
        for path, name in genotype.operators.items()
    )
    convolutions = {path: item for path, item in layers(hard.module, nn.Conv2d).items() if ".edges." in path}
    assert sum(item.weight.numel() for item in convolutions.values()) == wanted
    assert len(genotype.operators) == 2 * 2 * 3 < len(choices(soft)) == 2 * (2 + 3 + 4)


# -- the relaxation -----------------------------------------------------------------------------------------------


@given(
    alphas=st.lists(st.floats(-30, 30, width=32), min_size=len(ALL), max_size=len(ALL)),
    temperature=st.floats(0.01, 10),
)
@settings(max_examples=40, deadline=None)
def test_weights_are_a_point_of_the_simplex(alphas: list[float], temperature: float) -> None:
    choice = edge()
    choice.alpha.data = torch.tensor(alphas)
    choice.temperature.fill_(temperature)
    weights = choice.weights()
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    found = choice.preference()
    assert 0 <= found.margin < math.inf
    assert choice.names[found.index] != "none"
    assert alphas[found.index] == max(alphas[1:])  # the first candidate is `none`


def test_a_mixture_is_the_expectation_over_single_operators() -> None:
    choice, x = edge().double(), torch.randn(2, 3, 9, 8).double()
    nn.init.normal_(choice.alpha)
    weights = choice.weights().detach()
    expected = torch.zeros_like(x)
    for index in range(len(ALL)):
        one_hot = torch.zeros(len(ALL)).double()
        one_hot[index] = 1.0
        expected += weights[index] * mixture(choice.candidates, one_hot, x).detach()
    torch.testing.assert_close(choice(x).detach(), expected, rtol=1e-12, atol=1e-12)


def test_the_architecture_gradient_equals_finite_differences() -> None:
    soft = cell_supernet(1, nodes=2, operators=("none", "skip", "sep_3", "max_3")).double()
    deploykit.on_step(soft, 0.3)  # at another temperature than 1
    x, target = images(3).double(), torch.tensor([0, 1, 2])

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(soft(x), target)

    value: Any = loss()
    value.backward()
    step, largest = 1e-6, 0.0
    for path, choice in choices(soft).items():
        assert choice.alpha.grad is not None
        for index in range(len(choice.alpha)):
            with torch.no_grad():
                choice.alpha[index] += step
                up = loss().item()
                choice.alpha[index] -= 2 * step
                down = loss().item()
                choice.alpha[index] += step
            slope = choice.alpha.grad[index].item()
            assert slope == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-8), path
            largest = max(largest, abs(slope))
    assert largest > 1e-3


def test_cooling_and_settling_follow_progress_alone() -> None:
    soft = cell_supernet()
    choice = choices(soft)["cells.0.edges.0"]
    seen = []
    for progress in (0.0, 0.3, 0.6, 0.61, 1.0, 0.3):
        deploykit.on_step(soft, progress)
        seen.append((round(choice.temperature.item(), 4), bool(choice.settled)))
    assert seen == [(1.0, False), (0.3162, False), (0.1, False), (0.1, True), (0.1, True), (0.3162, False)]


def test_once_settled_only_what_was_chosen_runs() -> None:
    soft = cell_supernet(2)
    deploykit.on_step(soft, 1.0)
    ran: set[str] = set()
    for path, choice in choices(soft).items():
        for name, candidate in choice.candidates.items():
            candidate.register_forward_hook(lambda *_, path=path, name=name: ran.add(f"{path} {name}"))
    answers(soft, images())
    assert ran == {f"{path} {name}" for path, name in genotype_of(soft).operators.items()}


# -- selection ----------------------------------------------------------------------------------------------------


def test_none_takes_weight_but_is_never_chosen() -> None:
    choice = edge(("none", "skip", "sep_3"))
    choice.alpha.data = torch.tensor([5.0, 0.0, 1.0])
    found = choice.preference()
    weights = choice.weights()
    assert choice.chosen() == "sep_3"
    assert found.log_odds == pytest.approx(weights[2].logit().item(), rel=1e-5)
    assert found.log_odds < 0.0
    assert found.margin == pytest.approx((weights[2] / weights[1]).log().item(), rel=1e-5)


def test_ties_go_to_the_first_candidate_and_to_the_lowest_states() -> None:
    soft = cell_supernet()
    for choice in choices(soft).values():
        choice.alpha.data.zero_()
    genotype = genotype_of(soft)
    assert set(genotype.operators.values()) == {ALL[1]}
    assert genotype.edges["cells.0"] == ((0, 1), (0, 1), (0, 1))
    decisions = method_of(soft).decisions(soft, (images(),))
    edges = decisions["edge/cells.0"]
    assert edges.margin is not None
    assert edges.margin.tolist() == [math.inf] * 2 + [0.0] * 7  # the first node must keep both
    operators = decisions["operator/cells.0"]
    assert operators.value.tolist() == [1, 1, 1, 1, -1, 1, 1, -1, -1]
    assert operators.margin is not None
    assert not operators.margin.any()
    with torch.no_grad():
        expected = method_of(soft).oracle(soft, (images(2),))["output"]
    np.testing.assert_allclose(answers(deploykit.harden(soft).module, images(2)), expected, rtol=1e-4, atol=1e-5)


def test_a_node_keeps_the_edges_of_the_largest_weights() -> None:
    soft = cell_supernet(operators=("none", "skip", "sep_3"), nodes=2)
    cell = cells(soft)["cells.0"]
    rows = [[0, 1, 0], [0, 0, 1], [0, 3, 0], [9, 0, 4], [0, 0, 2]]  # the fourth edge is mostly `none`
    for choice, row in zip(cell.edges, rows, strict=True):
        assert isinstance(choice, Choice)
        choice.alpha.data = torch.tensor(row, dtype=torch.float32)
    assert cell.kept() == ((0, 1), (0, 2))
    odds = [cell.choice(1, source).weights()[index].logit().item() for source, index in enumerate([1, 2, 2])]
    assert cell.margins()[1] == pytest.approx([odds[0] - odds[1], odds[2] - odds[1], odds[2] - odds[1]], rel=1e-4)
    assert genotype_of(soft).operators["cells.0.edges.4"] == "sep_3"
    assert "cells.0.edges.3" not in genotype_of(soft).operators


@given(seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None, phases=_NO_SHRINKING)
def test_the_order_of_candidates_does_not_matter(seed: int) -> None:
    soft = cell_supernet(seed, nodes=2)
    other = copy.deepcopy(soft)
    order = torch.randperm(len(ALL), generator=torch.Generator().manual_seed(seed)).tolist()
    for choice in choices(other).values():
        names = choice.names
        choice.candidates = nn.ModuleDict({names[index]: choice.candidates[names[index]] for index in order})
        choice.alpha.data = choice.alpha.data[order]
    assert genotype_of(other) == genotype_of(soft)
    np.testing.assert_allclose(answers(other, images()), answers(soft, images()), rtol=1e-4, atol=1e-5)


# -- measures -------------------------------------------------------------------------------------------------------


def test_sharpness_grows_to_one() -> None:
    soft = cell_supernet()
    seen = []
    for progress in (0.0, 0.3, 0.6, 0.9):
        deploykit.on_step(soft, progress)
        found = method_of(soft).sharpness(soft)
        seen.append(found.item())
    assert seen == sorted(seen)
    assert 1 / len(ALL) < seen[0] < seen[2] < seen[3] == 1.0


def test_the_baseline_of_cells_is_the_supernet_with_all_candidates() -> None:
    soft = cell_supernet(3)
    baseline = method_of(soft).baseline(soft)
    np.testing.assert_allclose(answers(baseline, images()), answers(soft, images()), rtol=1e-4, atol=1e-5)
    assert not {item.data_ptr() for item in baseline.parameters()} & {item.data_ptr() for item in soft.parameters()}
    assert binding_of(soft).network is not None
