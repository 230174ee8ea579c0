"""pruned.gate: the budget, training, decisions and refusals."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deploykit
from deploykit import lifecycle
from deploykit.errors import ContractError
from deploykit.lifecycle import binding_of
from deploykit.outputs import run_module
from deploykit_pruned.gate import TrainableGate
from deploykit_pruned.gate_layers import KEPT, GatedInput, GatedNet
from tests.plugins.gate_networks import IMAGE, Chain, answers, gated, original, size


@pytest.mark.parametrize("keep", [0.12, 0.3, 0.5, 0.7, 1.0])
def test_the_channel_budget_is_exact_when_all_gates_tie(keep: float) -> None:
    soft = deploykit.prepare(Chain(), "pruned.gate", IMAGE, keep=keep)
    assert isinstance(soft, GatedNet)
    assert (soft.gates.weight == soft.gates.weight[0]).all()
    total = 8 + 12 + 6
    wanted = int(keep * total + 1e-9)
    hard = deploykit.harden(soft)
    bits = getattr(hard.module, KEPT)
    assert sum(sum(row) for row in bits.values()) == wanted
    assert all(any(row) for row in bits.values())
    assert hard.facts["kept channels"] == f"{wanted} of {total}"


def test_the_chosen_set_is_the_best_and_the_first_among_equals() -> None:
    soft = gated(Chain(), keep=13 / 26)
    scores = soft.gates.weight.data
    scores[:8] = torch.tensor([-9.0, 3, 3, 3, -9, 3, 3, 3])
    scores[8:20] = 1.0
    scores[20:] = -5.0
    # 6 best; one for the last group, whatever its score; 6 of the 12 that tie, from the front.
    kept = soft.chosen()
    assert np.flatnonzero(kept).tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20]


@settings(deadline=None, max_examples=25)
@given(keep=st.floats(0.15, 0.99), seed=st.integers(0, 99), kind=st.sampled_from(["macs", "params"]))
def test_mac_and_parameter_budgets_hold_and_leave_no_room(keep: float, seed: int, kind: str) -> None:
    torch.manual_seed(seed)
    soft = gated(Chain(), seed, keep=keep, budget=kind)
    kept = soft.chosen()
    if kind == "params":
        measured = size(deploykit.harden(soft).module)
        total = size(original(soft))
    else:
        measured, total = count_macs(deploykit.harden(soft).module), count_macs(original(soft))
    assert soft.budget.total == total
    assert soft.budget.cost(kept) == pytest.approx(measured, abs=1e-6)
    assert measured <= keep * total
    for gate in np.flatnonzero(~kept):
        one_more = kept.copy()
        one_more[gate] = True
        assert soft.budget.cost(one_more) > soft.budget.limit


def count_macs(module: nn.Module) -> int:
    """Count by brute force: what each convolution and linear layer multiplies for one image."""
    total = 0

    def add(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        per_output = layer.get_parameter("weight")[0].numel()
        total += output[0].numel() * per_output

    handles = [m.register_forward_hook(add) for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    module.eval()(IMAGE)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("kind", ["channels", "macs", "params"])
def test_settling_keeps_the_choice_and_makes_the_gates_say_it(kind: str) -> None:
    soft = gated(Chain(), seed=3, keep=0.4, budget=kind)
    before = soft.chosen()
    deploykit.on_step(soft, 0.7)
    assert np.array_equal(soft.chosen(), before)
    assert np.array_equal(soft.gates().bool().numpy(), before)
    row = soft.gates.weight.clone()
    deploykit.on_step(soft, 0.8)
    assert torch.equal(soft.gates.weight, row)


def test_settling_all_tied_gates_meets_the_budget_too() -> None:
    soft = deploykit.prepare(Chain(), "pruned.gate", IMAGE, keep=0.5)
    deploykit.on_step(soft, 1.0)
    assert isinstance(soft, GatedNet)
    assert int(soft.gates().sum()) == 13


def test_training_that_starts_over_frees_the_gates() -> None:
    soft = gated(Chain()).train()
    deploykit.on_step(soft, 1.0)
    assert not deploykit.penalty(soft).requires_grad
    deploykit.on_step(soft, 0.0)
    assert deploykit.penalty(soft).requires_grad


def test_the_penalty_is_the_squared_miss_and_its_gradient_pulls_towards_the_budget() -> None:
    soft = gated(Chain(), keep=0.5, strength=4.0)
    soft.gates.weight.data.fill_(1.0)
    assert deploykit.penalty(soft).item() == pytest.approx(4.0 * 0.5**2)
    soft.train()
    torch.autograd.backward(deploykit.penalty(soft))
    # d/db of 4 (sum b / 26 - 0.5)^2 is 8 * 0.5 / 26 at b = 1, times the gate's slope of 1.
    torch.testing.assert_close(soft.gates.weight.grad, torch.full((26,), 4 / 26), rtol=1e-3, atol=0.0)
    soft.gates.weight.data.fill_(-1.0)
    (below,) = torch.autograd.grad(deploykit.penalty(soft), soft.gates.weight)
    assert (below < 0).all()


def test_in_training_gates_carry_a_tooth_in_eval_they_are_bits() -> None:
    soft = gated(Chain(), seed=4)
    assert set(soft.gates().unique().tolist()) == {0.0, 1.0}
    values = soft.train().gates()
    assert not torch.equal(values, values.round())
    assert (values - values.round()).abs().max() <= 1e-5


def test_decisions_of_a_foreign_or_tampered_module_are_refused() -> None:
    soft = gated(Chain())
    method = binding_of(soft).method
    with pytest.raises(ContractError, match="wanted its own soft or hard form, got Linear"):
        method.decisions(nn.Linear(2, 2), (IMAGE,))
    hard = deploykit.harden(soft).module
    kept = getattr(hard, KEPT)
    name = next(iter(kept))
    kept[name] = (*kept[name], True)
    with pytest.raises(ContractError, match=f"layer '{name}' has . channels, decided were"):
        method.decisions(hard, (IMAGE,))


def test_a_copied_soft_form_has_gates_of_its_own() -> None:
    soft = gated(Chain(), keep=0.5)
    twin = copy.deepcopy(soft)
    twin.gates.weight.data.neg_()
    readers = [module for module in twin.modules() if isinstance(module, GatedInput)]
    assert readers
    assert all(reader._gates[0] is twin.gates for reader in readers)
    assert not torch.equal(answers(soft)[0], answers(twin)[0])
    assert sum(name.endswith("gates.weight") for name in soft.state_dict()) == 1


class Both(nn.Sequential):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        answer: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return answer, answer.argmax(dim=1)


def test_an_output_without_gradient_beside_another_does_no_harm() -> None:
    x = torch.rand(3, 4)
    soft = deploykit.prepare(Both(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)), "pruned.gate", x)
    deploykit.on_step(soft, 1.0)
    hard = deploykit.harden(soft)
    torch.testing.assert_close(answers(soft.eval(), x), answers(hard.module, x), rtol=1e-5, atol=1e-6)


def test_a_layer_used_twice_is_gated_in_both_places() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.last = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.sigmoid(self.first(x))
            answer: Tensor = self.last(torch.sigmoid(self.again(torch.sigmoid(self.again(x)))))
            return answer

    x = torch.rand(4, 5)
    soft = deploykit.prepare(Twice(), "pruned.gate", x, keep=0.5)
    deploykit.on_step(soft, 1.0)
    hard = deploykit.harden(soft.eval())
    torch.testing.assert_close(answers(soft, x)[0], answers(hard.module, x)[0], rtol=1e-5, atol=1e-6)
    again = hard.module.get_submodule("again")
    assert isinstance(again, nn.Linear)
    assert again.in_features == again.out_features == 4


def test_a_few_epochs_on_digits_meet_the_budget_without_a_gap() -> None:
    torch.manual_seed(0)
    task = deploykit.make_task("digits")
    method = deploykit.make_method("pruned.gate", {"keep": 0.5})
    assert isinstance(method, TrainableGate)
    soft = lifecycle.build(method, task)
    assert isinstance(soft, GatedNet)
    plan = method.plan(soft, task)
    train, test = task.samples("train"), task.samples("test")
    images, labels = torch.from_numpy(train.inputs["image"]), torch.from_numpy(train.targets["label"])
    steps = [rows for _ in range(10) for rows in torch.split(torch.randperm(len(images)), 64)]
    for step, rows in enumerate(steps):
        deploykit.on_step(soft, step / (len(steps) - 1))
        plan.optimizer.zero_grad()
        torch.autograd.backward(method.loss(soft, (images[rows],), {"label": labels[rows]}, task))
        plan.optimizer.step()
    hard = deploykit.harden(soft)
    masked = run_module(soft.eval(), test.inputs, task.signature)
    removed = run_module(hard.module, test.inputs, task.signature)
    assert hard.facts["kept channels"] == "80 of 160"
    assert task.metric(removed, test) >= 0.96
    assert task.metric(removed, test) == task.metric(masked, test)
    np.testing.assert_allclose(masked["logits"], removed["logits"], rtol=1e-4, atol=1e-4)
