"""One deliberately broken method for each promise: the frame tells its author what is wrong."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit import Decision, HardForm, Lowering, Method, MethodCard, Promise, Signature, TensorSpec
from deploykit.errors import ContractError
from deploykit.hardening import state_digest

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 3)),), outputs=(TensorSpec(name="y", shape=("batch", 2)),)
)
Break = Callable[[Any], object]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.norm(self.layer(x)))  # type: ignore[no-any-return]


class Broken(Method[nn.Module]):
    """Hardens as a test says."""

    card = MethodCard("steps.broken", "breaks one promise", "tests:Broken")
    how: Break

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        return model

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        made = self.how(soft)
        return HardForm(made) if isinstance(made, nn.Module) else made  # type: ignore[return-value]

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {}

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {}


class Around(nn.Module):
    """A copy of a net with something done to its input and output."""

    def __init__(
        self, net: nn.Module, after: Callable[[Tensor], object], before: Callable[[Tensor], Any] | None = None
    ):
        super().__init__()
        self.net = copy.deepcopy(net)
        self.after, self.before = after, before

    def forward(self, x: Tensor) -> object:
        return self.after(self.net(x if self.before is None else self.before(x)))


class Counter(nn.Module):
    """Hands out a buffer that its next run changes."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        self.total += 1
        return self.total


class Tally(nn.Module):
    """Answers the same twice, and counts for the time it will not."""

    runs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return torch.zeros(len(x), 2) + (self.runs > 100)


def _share_attribute(soft: Any) -> Any:
    made = copy.deepcopy(soft)
    made.layer.plain = soft.layer.weight.detach()
    return made


def _flip_zeros(soft: Any) -> Any:
    signs = itertools.cycle([1.0, -1.0])
    return Around(soft, lambda y: torch.zeros_like(y) * next(signs))


def _share_parameter(soft: Any) -> Any:
    made = copy.deepcopy(soft)
    made.layer.weight = soft.layer.weight
    return made


def _share_view(soft: Any) -> Any:
    made = copy.deepcopy(soft)
    made.register_buffer("kept", soft.layer.weight.detach()[1:, :2])
    return made


def _share_buffer(soft: Any) -> Any:
    made = copy.deepcopy(soft)
    made.norm.running_mean = soft.norm.running_mean
    return made


def _share_module(soft: Any) -> Any:
    return nn.Sequential(soft.layer, nn.BatchNorm1d(2))


def _change_soft(soft: Any) -> Any:
    made = copy.deepcopy(soft)
    soft.layer.weight.sign_()
    return made


def _change_statistics(soft: Any) -> Any:
    soft.norm.running_var.add_(1)
    return copy.deepcopy(soft)


def _freeze_soft(soft: Any) -> Any:
    return copy.deepcopy(soft.requires_grad_(False))


def _keep_relaxation(soft: Any) -> Any:
    made: Any = nn.Sequential(copy.deepcopy(soft), nn.Identity())
    made[1].deploykit_relaxation = True
    return made


def _give_parameter(soft: Any) -> Any:
    made: Any = Around(soft, lambda y: made.answer)
    made.answer = nn.Parameter(torch.zeros(4, 2))
    return made


def _bad_lowering(soft: Any) -> HardForm:
    return HardForm(copy.deepcopy(soft), lowerings={"good": Lowering(), "bad": Lowering(_share_parameter(soft))})


# One line a promise reads better than a wrapped table.
# ruff: noqa: E501
PROMISES: dict[str, tuple[Break, str]] = {
    "no hard form": (lambda soft: "soft", "harden must return a HardForm, got str"),
    "nothing": (lambda soft: None, "harden must return a HardForm, got NoneType"),
    "its argument": (lambda soft: soft, "harden returned its argument; return a new module"),
    "shared parameter": (_share_parameter, "tensor 'layer.weight' shares memory with the soft form's 'layer.weight'"),
    "shared view": (_share_view, "tensor 'kept' shares memory with the soft form's 'layer.weight'; clone it in harden"),
    "shared buffer": (_share_buffer, "tensor 'norm.running_mean' shares memory with the soft form's 'norm.running_me"),
    "shared attribute": (_share_attribute, "tensor 'layer.plain' shares memory with the soft form's 'layer.weight'"),
    "a trace": (lambda soft: Tally(), "the hard form changes its own tensors when it runs; an answer must leave no trac"),
    "another zero": (_flip_zeros, "output 'y' differs between two runs on the same input"),
    "shared module": (_share_module, "the hard form's module '0' is the soft form's 'layer'; copy it"),
    "shared in a lowering": (_bad_lowering, "lowering 'bad': the hard form's tensor 'layer.weight' shares memory"),
    "changed weights": (_change_soft, "harden changed the soft form's tensors; copy before you write"),
    "changed statistics": (_change_statistics, "harden changed the soft form's tensors"),
    "frozen weights": (_freeze_soft, "harden froze or freed the soft form's parameters; do that on a copy"),
    "left relaxation": (_keep_relaxation, "Identity at '1' is a relaxation for training; put its hard twin there"),
    "random numbers": (
        lambda soft: Around(soft, lambda y: y + torch.rand(2)), "draws random numbers; take the decision once, in hard"
    ),
    "other chance": (
        lambda soft: Around(soft, lambda y: y + float(np.random.rand())), "output 'y' differs between two runs on the"
    ),
    "own state": (lambda soft: Counter(), "output 'y' differs between two runs on the same input"),
    "written input": (lambda soft: Around(soft, lambda y: y, lambda x: x.sign_()), "writes into its input; work on a co"),
    "tracked output": (_give_parameter, "output 'y' still tracks gradients"),
    "too many outputs": (lambda soft: Around(soft, lambda y: (y, y)), r"the model returned 2 outputs; wanted 1: y float"),
    "a dictionary": (lambda soft: Around(soft, lambda y: {"y": y}), "output 'y' is a dict; wanted a tensor"),
    "wrong dtype": (lambda soft: Around(soft, lambda y: y.double()), r"does not keep the signature: output 'y': wanted"),
    "wrong shape": (lambda soft: Around(soft, lambda y: y[:, :1]), r"does not keep the signature: .*got float32\[4, 1\]"),
    "wrong rank": (lambda soft: Around(soft, lambda y: y.sum()), "0 dimensions instead of 2"),
    "not a number": (lambda soft: Around(soft, lambda y: y / 0 * 0), "does not keep the signature: .*holds NaN or infin"),
    "no lowering": (lambda soft: HardForm(copy.deepcopy(soft), lowerings={}), "no lowering, so nothing could be written"),
}  # fmt: skip


def soft_form(how: Break) -> Any:
    method = Broken()
    method.how = how
    return deploykit.prepare(Net(), method, torch.randn(4, 3), signature=SIGNATURE).train()


@pytest.mark.parametrize("promise", PROMISES)
def test_a_broken_promise_is_told_to_its_author(promise: str) -> None:
    how, words = PROMISES[promise]
    soft = soft_form(how)
    soft.frozen.eval()
    with pytest.raises(ContractError, match=rf"^steps.broken: .*{words}|^steps.broken: {words}"):
        deploykit.harden(soft)
    assert soft.training
    assert soft.layer.training
    assert not soft.frozen.training, "a part that was in eval mode stays there"


def test_an_honest_method_passes_and_modes_come_back() -> None:
    soft = soft_form(copy.deepcopy)
    soft.frozen.eval()
    before = state_digest(soft)
    hard = deploykit.harden(soft)
    assert not any(module.training for module in hard.module.modules())
    assert (soft.training, soft.norm.training, soft.frozen.training) == (True, True, False)
    assert state_digest(soft) == before


def test_an_error_of_the_method_passes_through_and_modes_come_back() -> None:
    def fail(soft: nn.Module) -> object:
        assert not soft.training
        raise ZeroDivisionError("of the author")

    soft = soft_form(fail)
    with pytest.raises(ZeroDivisionError, match=r"of the author"):
        deploykit.harden(soft)
    assert soft.training


def test_a_method_without_a_card_goes_by_its_class() -> None:
    soft = soft_form(lambda soft: None)
    soft._deploykit_binding.method.card = None
    del soft._deploykit_binding.method.card
    with pytest.raises(ContractError, match=r"steps.broken: harden must return"):
        deploykit.harden(soft)


def test_the_digest_sees_names_dtypes_shapes_and_bytes() -> None:
    def digest(name: str, tensor: Tensor) -> str:
        module = nn.Module()
        module.register_buffer(name, tensor)
        return state_digest(module)

    zeros = torch.zeros(4)
    variants = [
        digest("a", zeros), digest("b", zeros), digest("a", zeros.reshape(2, 2)), digest("a", zeros.int()),
        digest("a", -zeros), digest("a", torch.tensor(True)), digest("a", torch.zeros(0)),
    ]  # fmt: skip
    assert len(set(variants)) == len(variants)
    assert digest("a", zeros.clone()) == variants[0]


@pytest.mark.parametrize("name", ["", "../up", "Upper", "a b", "a/b"])
def test_a_lowerings_name_must_be_fit_for_a_file(name: str) -> None:
    with pytest.raises(ContractError, match="a lowering's name becomes a file's name"):
        HardForm(module=nn.Identity(), lowerings={name: Lowering()})


@pytest.mark.parametrize("name", ["absent", "forbidden_operators", "weight_dtypes"])
def test_a_promise_names_things_in_a_tuple(name: str) -> None:
    with pytest.raises(ContractError, match=rf"a promise's {name} must be a tuple of texts such as .*, got 'gate'"):
        Promise(**{name: "gate"})  # type: ignore[arg-type]
