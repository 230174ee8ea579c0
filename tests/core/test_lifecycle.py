"""prepare, penalty, on_step, harden: from the user's own loop, and settings."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

import deploykit
from deploykit import Decision, HardForm, Method, MethodConfig, Signature
from deploykit.errors import ConfigError, ContractError, UnknownNameError
from deploykit.hardening import state_digest
from deploykit.lifecycle import binding_of, build, infer_signature
from deploykit.making import make_method, make_task, validated


class Halver(Method[nn.Module]):
    """Edits the model in place, as the contract allows."""

    class Config(MethodConfig):
        rate: float = Field(0.5, gt=0, le=1, description="what weights are multiplied with")
        rounds: int = Field(1, ge=1)

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(self.config.rate)
        return model

    def penalty(self, soft: nn.Module) -> Tensor:
        return sum((parameter.square().sum() for parameter in soft.parameters()), torch.zeros(()))

    def on_step(self, soft: nn.Module, progress: float) -> None:
        soft.progress = progress  # type: ignore[assignment]

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(module=copy.deepcopy(soft), facts={"samples": str(len(inputs[0]))})

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {}

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(left), (right > 0).any(dim=1)


def test_prepare_leaves_the_users_model_as_it_is() -> None:
    model = nn.Linear(3, 2)
    before = state_digest(model)
    soft: Any = deploykit.prepare(model, Halver(), torch.zeros(2, 3))
    assert state_digest(model) == before
    assert torch.equal(soft.weight, model.weight * 0.5)
    network = binding_of(soft).network
    assert network is not None
    assert state_digest(network) == before
    with torch.no_grad():
        model.weight.zero_()  # what the user does later does not reach the baseline either
    assert state_digest(network) == before


def test_the_binding_travels_through_a_deep_copy() -> None:
    soft: Any = deploykit.prepare(nn.Linear(3, 2), Halver(), torch.zeros(2, 3))
    assert binding_of(copy.deepcopy(soft)).signature == binding_of(soft).signature
    assert "_deploykit_binding" not in soft.state_dict()


def test_penalty_and_on_step_reach_the_method() -> None:
    soft: Any = deploykit.prepare(nn.Linear(3, 2), Halver(), torch.zeros(2, 3))
    expected = sum(float((parameter.detach().numpy() ** 2).sum()) for parameter in soft.parameters())
    assert deploykit.penalty(soft).item() == pytest.approx(expected)
    deploykit.on_step(soft, 0.25)
    assert soft.progress == 0.25
    for progress in (-0.01, 1.01, float("nan")):
        with pytest.raises(ContractError, match=r"progress must lie in \[0, 1\], got"):
            deploykit.on_step(soft, progress)


def test_the_default_penalty_is_zero() -> None:
    soft = deploykit.prepare(nn.Linear(3, 2), "plain.passthrough", torch.zeros(2, 3))
    assert float(deploykit.penalty(soft)) == 0.0


def test_calibration_reaches_harden_and_defaults_to_the_example() -> None:
    soft: Any = deploykit.prepare(nn.Linear(3, 2), Halver(), torch.zeros(2, 3))
    assert deploykit.harden(soft).facts["samples"] == "2"
    assert deploykit.harden(soft, torch.zeros(7, 3)).facts["samples"] == "7"


@pytest.mark.parametrize("example", [torch.zeros(1, 3), (torch.zeros(1, 3),), {"input": torch.zeros(1, 3)}])
def test_an_example_of_one_sample_is_refused(example: Any) -> None:
    with pytest.raises(ContractError, match=r"the example has one sample; give at least two"):
        deploykit.prepare(nn.Linear(3, 2), Halver(), example)


def test_a_card_without_a_task_is_told_to_its_author(monkeypatch: pytest.MonkeyPatch) -> None:
    specimens = importlib.import_module("deploykit.testing.specimen")
    method = Halver()
    method.card = deploykit.MethodCard("a.one", "s", "m:A")
    monkeypatch.setattr(specimens, "make_method", lambda name, config: method)
    with pytest.raises(ContractError, match=r"a\.one: its card names no task to test it on; write MethodCard"):
        specimens.specimen("a.one", "", {})


class Named(nn.Module):
    def forward(self, output: Tensor) -> Tensor:
        return output + 1


class Answers(nn.Module):
    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": features}


class Total(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean()


@pytest.mark.parametrize(
    ("model", "example", "words"),
    [
        (nn.Linear(3, 2), torch.zeros(0, 3), r"the example has no sample; give at least two"),
        (nn.Linear(3, 2), np.zeros((4, 3), np.float32), r"the example holds a ndarray; wanted torch tensors"),
        (nn.Linear(3, 2), torch.tensor(1.0), r"at least one tensor, each with the batch first"),
        (nn.Linear(3, 2), (), r"at least one tensor, each with the batch first"),
        (
            nn.Linear(3, 2),
            torch.zeros(4, 7),
            r"Linear does not run on the example \(float32\[4, 7\]\).*: mat1 and mat2",
        ),
        (nn.Linear(3, 2), torch.zeros(4, 3).double(), r"does not run on the example \(float64\[4, 3\]\)"),
        (lambda x: x, torch.zeros(4, 3), r"the model is a function; wanted a torch.nn.Module"),
        (
            Answers(),
            torch.zeros(4, 3),
            r"Answers returned a dict; wanted a tensor or a tuple of tensors: wrap the model",
        ),
        (Total(), torch.zeros(4, 3), r"Total returned float32\[\] for 4 samples; wanted one answer a sample"),
        (nn.Linear(3, 2).bfloat16(), torch.zeros(4, 3).bfloat16(), r"'input' is bfloat16.*instance with \.float\(\)"),
    ],
)
def test_a_model_and_an_example_that_do_not_fit(model: Any, example: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        deploykit.prepare(model, Halver(), example)


def test_an_input_called_output_keeps_its_name() -> None:
    signature = infer_signature(Named(), torch.zeros(2, 3))
    assert [spec.name for spec in (*signature.inputs, *signature.outputs)] == ["output", "output_of_model"]


@pytest.mark.parametrize("name", ["binarized.biper", "pruned.gate", "routed.fff"])
def test_a_model_in_half_precision_is_refused_before_it_is_trained(name: str) -> None:
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)).half()
    with pytest.raises(ContractError, match=rf"{name} cannot work on Sequential in float16: .* with \.float\(\)"):
        deploykit.prepare(model, name, torch.zeros(4, 6).half())


def test_a_module_that_was_not_prepared_is_refused() -> None:
    wanted = r"Linear is no soft form: make one with deploykit.prepare\(model, method, example\)"
    for ask in (deploykit.penalty, deploykit.harden, lambda module: deploykit.on_step(module, 0.5)):
        with pytest.raises(ContractError, match=wanted):
            ask(nn.Linear(3, 2))


def test_settings_beside_a_configured_method_are_refused() -> None:
    with pytest.raises(ContractError, match=r"settings \['rate'\] were given beside a configured method"):
        deploykit.prepare(nn.Linear(3, 2), Halver(), torch.zeros(2, 3), rate=0.1)


def test_the_signature_is_read_off_forward_and_example() -> None:
    signature = infer_signature(Pair(), (torch.zeros(2, 3), torch.zeros(2, 5, dtype=torch.int32)))
    assert [spec.text() for spec in signature.inputs] == ["left float32[batch, 3]", "right int32[batch, 5]"]
    assert [spec.text() for spec in signature.outputs] == ["output_0 float32[batch, 2]", "output_1 bool[batch]"]
    named = infer_signature(nn.Linear(3, 2), {"features": torch.zeros(2, 3)})
    assert named.inputs[0].name == "features"


def test_reading_the_signature_leaves_statistics_alone() -> None:
    model = nn.BatchNorm1d(3)
    before = state_digest(model)
    infer_signature(model, torch.randn(4, 3))
    assert state_digest(model) == before
    assert model.training


def test_a_soft_form_for_a_task_knows_the_network_it_replaces() -> None:
    task = make_task("digits")
    method = make_method("plain.passthrough")
    soft: Any = build(method, task)
    network: Any = binding_of(soft).network
    assert network is not None
    assert [type(part) for part in network] == [type(part) for part in soft]
    assert not network.training
    assert np.array_equal(binding_of(soft).example[0].numpy(), task.samples("train").inputs["image"][:2])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rat": 0.1}, r"steps.half has no setting 'rat'\. Did you mean 'rate'\?"),
        ({"zzz": 1}, r"steps.half has no setting 'zzz'\. It has: rate, rounds\."),
        ({"rate": 0.0}, "steps.half: setting 'rate': Input should be greater than 0, got 0.0"),
        ({"rate": "much"}, "steps.half: setting 'rate': Input should be a valid number.*, got 'much'"),
        ({"rate": 2, "rounds": 0}, "(?s)setting 'rate'.*setting 'rounds': Input should be greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validated(Halver.Config, settings, "steps.half")


def test_settings_from_a_command_line_are_texts() -> None:
    assert validated(Halver.Config, {"rate": "0.25", "rounds": "3"}, "steps.half") == Halver.Config(rate=0.25, rounds=3)
    with pytest.raises(ConfigError, match=r"plain.passthrough has no setting 'x'\. It has: no settings\."):
        make_method("plain.passthrough", {"x": 1})
    with pytest.raises(UnknownNameError, match=r"Did you mean 'plain.passthrough'"):
        make_method("plain.passthru")


def test_a_soft_form_is_a_module() -> None:
    class Forgetful(Halver):
        def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> Any:
            return None

    words = "Forgetful: {} must return the soft form, a torch.nn.Module, got NoneType"
    with pytest.raises(ContractError, match=words.format("prepare")):
        deploykit.prepare(nn.Linear(3, 2), Forgetful(), torch.zeros(2, 3))
    with pytest.raises(ContractError, match=words.format("build")):
        build(Forgetful(), make_task("digits"))
