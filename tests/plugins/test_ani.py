"""Neural images of four bits: what is rounded, when, to what, and what it costs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import deploykit
from deploykit import make_method, make_task
from deploykit.decisions import agreement
from deploykit.errors import ConfigError, ContractError
from deploykit_quantized.ani import weight_bytes
from deploykit_quantized.ani_oracle import rounded_weight
from deploykit_quantized.block_layers import BlockLinear, FakeQuantizedLinear, hard_layers, soft_layers
from deploykit_relaxations.fake_quantizers import fake_quantize
from tests.plugins.ani_networks import NAME, answers, everywhere, hardened, method_of, quality, trained

ROWS = torch.rand(5, 40)


def prepared(model: nn.Module, **settings: Any) -> nn.Module:
    return deploykit.prepare(model, NAME, ROWS, **settings)


def test_layers_with_a_block_of_inputs_are_rounded_and_others_are_not() -> None:
    model = nn.Sequential(nn.Linear(40, 8), nn.ReLU(), nn.Linear(8, 40), nn.Linear(40, 3, bias=False))
    soft = prepared(model)
    assert [layer.path for layer in soft_layers(soft)] == ["0", "3"]
    assert [type(layer) for layer in soft.children()] == [FakeQuantizedLinear, nn.ReLU, nn.Linear, FakeQuantizedLinear]
    hard = deploykit.harden(soft).module
    assert [type(layer) for layer in hard.children()] == [BlockLinear, nn.ReLU, nn.Linear, BlockLinear]
    assert {name for name, _ in hard.named_parameters()} == {"2.weight", "2.bias"}
    assert {name for name, _ in hard.named_buffers()} == {"0.codes", "0.scales", "0.bias", "3.codes", "3.scales"}


def test_rounding_begins_when_its_time_has_come() -> None:
    model = nn.Sequential(nn.Linear(40, 8))
    soft = prepared(model, quantize_from=0.5)
    deploykit.on_step(soft, 0.49)
    assert torch.equal(soft(ROWS), model(ROWS))
    deploykit.on_step(soft, 0.5)
    rounded = fake_quantize(model[0].weight, axis=1, block=32)  # type: ignore[arg-type]
    assert torch.equal(soft(ROWS), nn.functional.linear(ROWS, rounded, model[0].bias))  # type: ignore[arg-type]
    assert not torch.equal(soft(ROWS), model(ROWS))


def test_a_layer_that_stands_in_two_places_stays_one() -> None:
    layer = nn.Linear(40, 40)
    soft = prepared(nn.Sequential(layer, nn.ReLU(), layer))
    assert soft[0] is soft[2]  # type: ignore[index]
    hard = deploykit.harden(soft).module
    assert hard[0] is hard[2]  # type: ignore[index]
    method_of(soft).on_step(soft, 1.0)
    np.testing.assert_allclose(answers(hard, ROWS), answers(soft, ROWS), atol=1e-6)
    np.testing.assert_allclose(method_of(soft).oracle(soft.requires_grad_(False), (ROWS,))["output"],
                               answers(hard, ROWS), atol=1e-6)  # fmt: skip


def test_what_it_cannot_work_on_is_refused() -> None:
    with pytest.raises(
        ContractError, match=r"no nn.Linear with at least 32 inputs.*the widest of its 2 has 31: choose"
    ):
        deploykit.prepare(nn.Sequential(nn.Linear(4, 31), nn.Linear(31, 31)), NAME, torch.rand(2, 4))
    with pytest.raises(ContractError, match="it has no Linear layer: choose a smaller block or a wider model"):
        deploykit.prepare(nn.Sequential(nn.Flatten()), NAME, torch.rand(2, 4))
    with pytest.raises(ContractError, match="layer '0' is float64; latent weights must be float32"):
        deploykit.prepare(nn.Sequential(nn.Linear(40, 2)).double(), NAME, ROWS.double())


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="blocks of 16, 32, 64, 128 and 256 inputs, got 48"):
        make_method(NAME, {"block": 48})
    with pytest.raises(ConfigError, match="quantize_from"):
        make_method(NAME, {"quantize_from": 1.5})
    assert make_method(NAME, {"block": "64"}).config.block == 64  # as the command line gives it


def test_the_plan_takes_the_tasks_epochs_unless_told_otherwise() -> None:
    task = make_task("photograph")
    soft = deploykit.prepare(task.network("siren-small"), NAME, task.example(), signature=task.signature)
    assert method_of(soft).plan(soft, task).epochs == task.epochs
    plan = make_method(NAME, {"epochs": 3}).plan(soft, task)
    assert plan.epochs == 3
    for _ in range(3 * 8):
        plan.optimizer.step()
        assert plan.scheduler is not None
        plan.scheduler.step()
    assert plan.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_codes_are_those_found_by_hand_and_both_forms_name_them() -> None:
    soft, hard = trained(0.2), hardened()
    of_soft = method_of(soft).decisions(soft, (everywhere()[:2],))
    of_hard = method_of(soft).decisions(hard.module, (everywhere()[:2],))
    assert list(of_soft) == ["code/2", "code/4", "code/6"]
    for layer in soft_layers(soft):
        codes, _ = rounded_weight(layer.weight.detach().numpy(), 32)
        name = f"code/{layer.path}"
        assert of_soft[name].value[0].tolist() == of_hard[name].value[0].tolist() == codes.tolist()
        assert set(np.unique(codes)) <= set(range(-7, 8))
        assert {-7, 7} & set(np.unique(codes))
        assert agreement(of_soft[name], of_hard[name]).rate == 1.0


def test_margins_tell_which_codes_a_small_step_would_change() -> None:
    soft = prepared(nn.Sequential(nn.Linear(40, 4)))
    (layer,) = soft_layers(soft)
    with torch.no_grad():
        layer.weight.copy_(torch.full((4, 40), 0.2))
        layer.weight[:, 0] = layer.weight[:, 32] = 7.0
        layer.weight[2, 5] = 1.5 - 1e-3
    before = method_of(soft).decisions(soft, (ROWS,))["code/0"]
    assert before.margin is not None
    assert before.margin[0, 2, 5] == pytest.approx(1e-3, abs=1e-6)
    with torch.no_grad():
        layer.weight[2, 5] += 2e-3
    after = method_of(soft).decisions(soft, (ROWS,))["code/0"]
    assert np.argwhere(before.value != after.value).tolist() == [[0, 2, 5]]
    assert agreement(before, after, band=2e-3).near_ties == 1


def test_the_hard_form_is_a_siren_computed_from_the_latent_weights_in_numpy() -> None:
    state = {name: value.numpy().astype(np.float64) for name, value in trained(0.2).state_dict().items()}
    h = everywhere()[::37].numpy().astype(np.float64)
    for layer in (0, 2, 4, 6):
        weight = state[f"{layer}.weight"]
        if layer > 0:
            weight = rounded_weight(weight.astype(np.float32), 32)[1]
        h = h @ weight.T + state[f"{layer}.bias"]
        h = np.sin(30 * h) if layer < 6 else h
    np.testing.assert_allclose(answers(hardened().module, everywhere()[::37]), h, atol=2e-5)


def test_hardening_loses_nothing_once_training_rounds() -> None:
    soft = trained(0.2)
    assert quality(hardened().module) == pytest.approx(quality(soft), abs=1e-3)


def test_training_with_rounding_beats_rounding_after_training() -> None:
    floats = copy.deepcopy(trained(1.0))
    after = quality(deploykit.harden(floats).module)
    for layer in soft_layers(floats):
        layer.quantizing.fill_(False)
    assert quality(floats) > quality(hardened().module) > after + 1.0


def test_scales_a_block_beat_one_scale_a_layer() -> None:
    one, blocks = copy.deepcopy(trained(1.0)), copy.deepcopy(trained(1.0))
    with torch.no_grad():
        for layer in soft_layers(one):
            layer.weight.copy_(fake_quantize(layer.weight))
            layer.quantizing.fill_(False)
    assert quality(deploykit.harden(blocks).module) > quality(one) + 1.0


def test_the_baseline_is_the_trained_model_with_floats() -> None:
    soft = copy.deepcopy(trained(0.2))
    baseline = method_of(soft).baseline(soft)
    for layer in soft_layers(soft):
        layer.quantizing.fill_(False)
    assert torch.equal(baseline(everywhere()), soft(everywhere()))
    assert {type(module) for module in baseline.modules()} & {FakeQuantizedLinear, BlockLinear} == set()


def test_promised_bytes_and_work_are_the_formulas() -> None:
    promise = hardened().promise
    codes = (64 * 64 + 64 * 64 + 64) / 2
    scales = 4 * (64 * 2 + 64 * 2 + 2)
    floats = 4 * (2 * 64 + 3 * 64 + 1)
    assert weight_bytes(hardened().module) - 64 * 8 == codes + scales + floats == 6_444
    assert promise.weight_bytes == 6_444 + 64 * 8
    assert promise.macs == 2 * 64 + 2 * 64 * 64 + 64
    assert promise.weight_dtypes == ("int4", "uint8")
    assert promise.small_initializer == 128
    assert hardened().facts["weights of four bits"] == "8,256 in 3 layers, 258 scales of 32 bits"
    assert hardened().facts["bits a number"] == f"{8 * 6_444 / 8_577:.2f}, scales included"


def test_a_short_last_block_counts_as_a_whole_one() -> None:
    hard = deploykit.harden(prepared(nn.Sequential(nn.Linear(40, 3)))).module
    (layer,) = hard_layers(hard)
    assert layer.file_bytes == 3 * 2 * 32 / 2 + 4 * (3 * 2 + 3)


def test_any_model_with_linear_layers_will_do() -> None:
    task = make_task("digits")
    soft = deploykit.prepare(task.network("mlp"), NAME, task.example(), signature=task.signature, block=64)
    hard = deploykit.harden(soft)
    x = torch.from_numpy(task.samples("test").inputs["image"][:40])
    wanted = method_of(soft).oracle(soft.requires_grad_(False), (x,))["logits"]
    np.testing.assert_allclose(answers(hard.module, x), wanted, rtol=1e-5, atol=1e-5)
