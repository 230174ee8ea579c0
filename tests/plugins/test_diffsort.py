"""The two forms of ``sorted.diffsort``."""

from __future__ import annotations

import copy
import doctest
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deploykit
from deploykit.errors import ConfigError, ContractError
from deploykit.lifecycle import binding_of, build
from deploykit_relaxations.sorting_networks import soft_sort
from deploykit_sorted import order_oracle
from deploykit_sorted.diffsort import DifferentiableSort
from deploykit_sorted.item_order import HardOrder, SoftOrder
from deploykit_sorted.order_oracle import counted_places
from deploykit_tasks.digit_order import DigitOrder

NAME = "sorted.diffsort"
FEATURES = 6


class Scorer(nn.Module):
    """Scores each item of a set by its features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layers(x).squeeze(-1)
        return scores


class First(nn.Module):
    """The item's only feature is its score."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 0]


def prepared(model: nn.Module | None = None, items: int = 5, **config: Any) -> SoftOrder:
    soft = deploykit.prepare(model or Scorer(), NAME, torch.randn(3, items, FEATURES), **config)
    assert isinstance(soft, SoftOrder)
    return soft.eval()


def method_of(soft: nn.Module) -> DifferentiableSort:
    method = binding_of(soft).method
    assert isinstance(method, DifferentiableSort)
    return method


@pytest.fixture(scope="module")
def task() -> DigitOrder:
    made = deploykit.make_task("digit-order")
    assert isinstance(made, DigitOrder)
    return made


# -- the hard form ------------------------------------------------------------------------------------------------


@given(items=st.integers(2, 9), largest=st.integers(0, 5), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_hard_form_counts_what_comes_before_ties_included(items: int, largest: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, largest + 1, (4, items, FEATURES), generator=generator).float()
    soft = prepared(First(), items)
    hard = deploykit.harden(soft, x)
    answer = hard.module(x)
    assert answer.dtype == torch.float32
    values = x[:, :, 0].tolist()
    for row in range(4):
        order = sorted(range(items), key=lambda item, row=row: values[row][item])  # type: ignore[misc]
        assert [order.index(item) for item in range(items)] == answer[row].tolist()
        assert counted_places(x[:, :, 0].numpy())[row].tolist() == answer[row].tolist()
    np.testing.assert_array_equal(method_of(soft).oracle(soft, (x,))["output"], answer.numpy())


def test_the_oracles_docstring_runs() -> None:
    results = doctest.testmod(order_oracle)
    assert results.attempted == 1
    assert results.failed == 0


def test_nothing_is_left_of_the_sorting_network() -> None:
    soft = prepared(network="bitonic")
    hard = deploykit.harden(soft)
    assert isinstance(hard.module, HardOrder)
    assert {name for name, _ in hard.module.named_modules()} == {name for name, _ in soft.named_modules()}
    assert not any(isinstance(module, SoftOrder) for module in hard.module.modules())
    assert hard.promise.macs == 5 * (FEATURES * 8 + 8)
    assert hard.promise.tolerance.exact
    assert hard.facts["sorting network"] == "dropped: bitonic, 6 layers and 11 swaps for 5 items"


def test_the_oracle_notices_wrong_weights_and_wrong_places() -> None:
    soft = prepared()
    x = torch.randn(40, 5, FEATURES)
    wanted = method_of(soft).oracle(soft, (x,))["output"]
    other = copy.deepcopy(soft)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert not np.array_equal(deploykit.harden(other).module(x).numpy(), wanted)
    order = deploykit.harden(soft).module.scored_order(x)[1].numpy()  # type: ignore[operator]
    assert not np.array_equal(order, wanted)  # an order is not the places, its inverse


# -- the soft form ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swap", ["logistic", "logistic_phi", "cauchy", "reciprocal", "optimal"])
@pytest.mark.parametrize("network", ["odd-even", "bitonic"])
def test_the_soft_form_answers_with_mean_places_that_become_places_when_steep(network: str, swap: str) -> None:
    x = torch.randperm(60, generator=torch.Generator().manual_seed(1)).reshape(2, 5, 6).float()
    soft, steep = (prepared(First(), network=network, swap=swap, steepness=s) for s in (0.05, 1e5))
    _, permutation = soft_sort(x[:, :, 0], soft.network, 0.05, soft.swap)
    torch.testing.assert_close(soft(x), (permutation * torch.arange(5.0)).sum(2))
    hard = deploykit.harden(steep)
    assert not torch.allclose(soft(x), hard.module(x), atol=0.1)
    torch.testing.assert_close(steep(x), hard.module(x), rtol=0, atol=1e-3)


def test_training_and_eval_mode_give_the_same_mean_places() -> None:
    soft = prepared()
    x = torch.randn(7, 5, FEATURES)
    assert torch.equal(soft(x), soft.train()(x))


def test_both_forms_decide_on_the_item_at_each_place() -> None:
    x = torch.tensor([[0.3, 0.1, 0.9], [2.0, 5.0, 1.0]]).unsqueeze(2).expand(2, 3, FEATURES)
    soft = prepared(First(), 3, steepness=200.0)
    method = method_of(soft)
    of_hard = method.decisions(deploykit.harden(soft).module, (x,))["order"]
    of_soft = method.decisions(soft, (x,))["order"]
    assert of_hard.value.tolist() == of_soft.value.tolist() == [[1, 0, 2], [2, 0, 1]]
    assert of_hard.margin is not None
    np.testing.assert_allclose(of_hard.margin, [[0.2, 0.2, 0.6], [1.0, 1.0, 3.0]], rtol=1e-5)
    assert of_soft.margin is not None
    assert (of_soft.margin > 0.9).all()
    undecided = method.decisions(soft, (torch.zeros(1, 3, FEATURES),))["order"]
    assert undecided.margin is not None
    assert undecided.margin.max() < 0.6


def test_forms_that_are_no_forms_are_refused() -> None:
    with pytest.raises(ContractError, match=r"sorted\.diffsort: a Linear is none of its forms"):
        DifferentiableSort().decisions(nn.Linear(2, 2), (torch.zeros(2, 2),))


def test_sharpness_is_the_mean_largest_share_of_a_place() -> None:
    soft = prepared(items=2, steepness=1e-9)
    assert method_of(soft).sharpness(soft).item() == pytest.approx(0.5)
    assert method_of(soft).sharpness(prepared(First(), steepness=1e7)).item() > 0.99


# -- the loss -----------------------------------------------------------------------------------------------------


def test_the_loss_is_the_cross_entropy_of_every_entry_of_the_permutation(task: DigitOrder) -> None:
    soft = prepared()
    x = torch.randn(3, 5, FEATURES)
    rank = torch.stack([torch.randperm(5) for _ in range(3)])
    loss = method_of(soft).loss(soft, (x,), {"rank": rank}, task)
    permutation = soft.permutation(x).detach().double().numpy()
    terms = [
        -np.log(permutation[row, item, place] if rank[row, item] == place else 1 - permutation[row, item, place])
        for row, item, place in np.ndindex(3, 5, 5)
    ]
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("swap", ["logistic", "optimal"])
def test_the_loss_is_finite_and_has_a_gradient_where_swaps_saturate(swap: str, task: DigitOrder) -> None:
    soft = prepared(swap=swap, steepness=1e6)
    loss = method_of(soft).loss(soft, (torch.randn(9, 5, FEATURES),), {"rank": torch.arange(5).repeat(9, 1)}, task)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    for parameter in soft.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_tasks_without_ranks_train_the_mean_places(task: DigitOrder) -> None:
    class Distance(DigitOrder):
        def loss(self, outputs: Any, targets: Any) -> Tensor:
            distance: Tensor = (outputs["rank"] - targets["place"]).abs().mean()
            return distance

    soft = build(deploykit.make_method(NAME), task).eval()
    images = task.example(4)[0]
    place = torch.zeros(4, 5)
    loss = method_of(soft).loss(soft, (images,), {"place": place}, Distance())  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(2.0, rel=1e-4)  # mean places of five items are 2 in the mean


def test_wrong_ranks_are_refused(task: DigitOrder) -> None:
    soft = prepared()
    x = torch.randn(3, 5, FEATURES)
    with pytest.raises(ConfigError, match=r"wanted targets 'rank' of whole numbers \[3, 5\].*got torch.int64 \[3, 4\]"):
        method_of(soft).loss(soft, (x,), {"rank": torch.zeros(3, 4, dtype=torch.int64)}, task)
    with pytest.raises(ConfigError, match=r"whole numbers.*got torch.float32 \[3, 5\]"):
        method_of(soft).loss(soft, (x,), {"rank": torch.zeros(3, 5)}, task)
    with torch.no_grad(), pytest.raises(ContractError, match=r"run it outside torch\.no_grad"):
        method_of(soft).loss(soft, (x,), {"rank": torch.zeros(3, 5, dtype=torch.int64)}, task)


def test_a_soft_form_is_copied_in_the_middle_of_a_step() -> None:
    soft = prepared()
    soft(torch.randn(2, 5, FEATURES))
    twin = copy.deepcopy(soft)
    with pytest.raises(ContractError, match="needs gradients"):
        twin.last_permutation()
    assert soft.last_permutation().requires_grad


def test_training_through_the_network_learns_the_order(task: DigitOrder) -> None:
    method = deploykit.make_method(NAME, {"epochs": 3})
    soft = build(method, task)
    plan = method.plan(soft, task)
    samples = task.samples("train").take(slice(0, 1500))
    images = torch.from_numpy(samples.inputs["images"].copy())
    rank = torch.from_numpy(samples.targets["rank"].copy())
    soft.train()
    for _ in range(3):
        for index in torch.split(torch.randperm(1500), 50):
            plan.optimizer.zero_grad()
            method.loss(soft, (images[index],), {"rank": rank[index]}, task).backward()  # type: ignore[no-untyped-call]
            plan.optimizer.step()
    test = task.samples("test")
    x = torch.from_numpy(test.inputs["images"].copy())
    hard = deploykit.harden(soft.eval(), images[:64])
    with torch.no_grad():
        scores = [task.metric({"rank": form(x).numpy()}, test) for form in (soft, hard.module)]
    assert scores[1] > 0.5  # 0.2 by chance, 0.63 when measured; 0.87 after the default 15 epochs on all 4 000 sets
    assert abs(scores[0] - scores[1]) < 0.03
    found = deploykit.agreement(method.decisions(soft, (x,))["order"], method.decisions(hard.module, (x,))["order"])
    assert found.rate > 0.9


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (nn.Linear(FEATURES, 1), r"float32 \[3, 5, 1\]"),
        (nn.Sequential(Scorer(), nn.Linear(5, 1)), r"float32 \[3, 1\]"),
        (nn.Sequential(nn.Flatten(), nn.Unflatten(1, (5, FEATURES)), nn.LSTM(FEATURES, 4)), "a tuple"),
    ],
)
def test_models_without_one_score_an_item_are_refused(model: nn.Module, got: str) -> None:
    signature = deploykit.lifecycle.infer_signature(Scorer(), torch.randn(3, 5, FEATURES))
    with pytest.raises(ContractError, match=rf"must return one tensor of scores.*got {got}.*score every item"):
        deploykit.prepare(model, NAME, torch.randn(3, 5, FEATURES), signature=signature)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'swap'.*'logistic_phi', 'cauchy'"):
        deploykit.make_method(NAME, {"swap": "gaussian"})
    with pytest.raises(ConfigError, match=r"'steepness'.*greater than 0"):
        deploykit.make_method(NAME, {"steepness": 0})
