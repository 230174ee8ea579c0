"""pruned.gate: shutting a gate, removing its channel and the oracle are one and the same, on any kind of network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit.lifecycle import binding_of
from deploykit.outputs import run_module
from deploykit_pruned.gate_layers import KEPT
from tests.plugins.gate_networks import IMAGE, Chain, answers, block, gated, original, size


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*block(3, 8))
        self.body = nn.Sequential(*block(8, 10), nn.Conv2d(10, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.more = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.sigmoid(self.body(x) + x)
        answer: Tensor = self.head((x + self.more(x)).mean((2, 3)))
        return answer


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8),
            nn.SiLU(), nn.Conv2d(8, 12, 1), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.net(x)
        return answer


class Grouped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*block(3, 8), *block(8, 12, groups=4), nn.Conv2d(12, 5, 3, groups=1), nn.Flatten(),
                         nn.Linear(5 * 36, 4))  # fmt: skip


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(13)
        self.mix = nn.Conv2d(13, 7, 3)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        both = self.norm(torch.cat([self.left(x), x, self.right(x)], dim=1))
        answer: Tensor = self.head(torch.relu(self.mix(torch.relu(both))).mean((2, 3)))
        return answer


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*block(3, 8))
        self.shown = nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shown = self.shown(self.trunk(x))
        return shown, self.head(shown.mean((2, 3)))


NETWORKS = [Chain, Residual, Depthwise, Grouped, Concat, TwoHeads]


def conv_channels(module: nn.Module) -> dict[str, int]:
    return {name: layer.out_channels for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("keep", [0.35, 0.6])
def test_shut_gates_and_removed_channels_answer_the_same(network: type[nn.Module], keep: float) -> None:
    torch.manual_seed(0)
    soft = gated(network(), keep=keep)
    deploykit.on_step(soft, 1.0)
    hard = deploykit.harden(soft)
    for masked, removed in zip(answers(soft), answers(hard.module), strict=True):
        torch.testing.assert_close(masked, removed, rtol=1e-5, atol=1e-5)
    assert size(hard.module) < size(original(soft))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_oracle_and_the_hard_form_agree(network: type[nn.Module]) -> None:
    torch.manual_seed(1)
    soft = gated(network(), seed=1, keep=0.4)
    hard = deploykit.harden(soft)
    expected = binding_of(soft).method.oracle(soft, (IMAGE,))
    signature = binding_of(soft).signature
    got = run_module(hard.module, {signature.inputs[0].name: IMAGE.numpy()}, signature)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def test_a_shut_channel_whose_batch_norm_would_leave_a_constant_leaves_nothing() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Sigmoid(), nn.Conv2d(6, 2, 3, padding=1)
    )
    soft = gated(network, keep=0.5)
    norm = soft.network.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight[2:].zero_()  # constant channels
        norm.bias.fill_(4.0)
    deploykit.on_step(soft, 1.0)
    torch.testing.assert_close(answers(soft)[0], answers(deploykit.harden(soft).module)[0], rtol=1e-5, atol=1e-5)


def test_coupled_channels_share_one_gate() -> None:
    soft = gated(Residual())
    groups = {group.name: group for group in soft.groups}
    assert len(soft.gates.weight) == 8 + 10
    assert len(groups) == 2
    shared = next(group for group in soft.groups if len(group.units) == 8)
    assert {"stem.0", "body.3", "more"} <= set(shared.outputs)
    assert {"body.0", "more", "head"} <= set(shared.inputs)


def test_channels_of_convolution_groups_go_together() -> None:
    soft = gated(Grouped(), keep=0.5)
    first = soft.groups[0]
    assert first.units == ((0, 2, 4, 6), (1, 3, 5, 7))
    hard = deploykit.harden(soft)
    grouped = hard.module.get_submodule("3")
    assert isinstance(grouped, nn.Conv2d)
    assert grouped.groups == 4
    assert grouped.in_channels % 4 == grouped.out_channels % 4 == 0


def test_outputs_of_the_network_keep_their_channels() -> None:
    soft = gated(TwoHeads(), keep=0.3)
    assert [group.name for group in soft.groups] == ["trunk.0"]
    assert "output of the network" in soft.left_alone["shown"]
    assert answers(deploykit.harden(soft).module)[0].shape == (3, 5, 8, 8)


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


@pytest.mark.parametrize("network", [Residual, Depthwise, Grouped, Concat])
def test_the_mac_count_of_coupled_layers_is_what_is_left(network: type[nn.Module]) -> None:
    soft = gated(network(), keep=0.5, budget="macs")
    hard = deploykit.harden(soft)
    measured = count_macs(hard.module)
    assert soft.budget.cost(soft.chosen()) == pytest.approx(measured, abs=1e-6)
    assert hard.promise.macs == measured
    assert measured <= 0.5 * count_macs(original(soft))


def test_hardening_what_was_hardened_changes_nothing() -> None:
    soft = gated(Chain(), keep=0.5)
    hard = deploykit.harden(soft)
    again = deploykit.harden(deploykit.prepare(hard.module, "pruned.gate", IMAGE, keep=1.0))
    assert torch.equal(answers(again.module)[0], answers(hard.module)[0])
    assert list(conv_channels(again.module).values()) == list(conv_channels(hard.module).values())


def test_gradients_reach_the_gates_and_every_weight() -> None:
    soft = deploykit.prepare(Residual(), "pruned.gate", IMAGE).train()
    torch.autograd.backward(soft(IMAGE).square().mean() + deploykit.penalty(soft))
    for name, parameter in soft.named_parameters():
        assert parameter.grad is not None, name
        # The bias in front of a batch norm has no effect in training, by construction.
        if name not in {"network.stem.0.layer.bias", "network.stem.0.bias", "network.body.0.layer.bias",
                        "network.body.3.layer.bias"}:  # fmt: skip
            assert parameter.grad.abs().max() > 0, name


def test_decisions_of_both_forms_agree_and_tell_their_margin() -> None:
    soft = gated(Residual(), keep=0.5)
    hard = deploykit.harden(soft)
    method = binding_of(soft).method
    left, right = method.decisions(soft, (IMAGE,)), method.decisions(hard.module, (IMAGE,))
    assert set(left) == set(right) == {f"kept {group.name}" for group in soft.groups}
    for name in left:
        assert np.array_equal(left[name].value, right[name].value)
        assert left[name].value.dtype == np.bool_
    values = np.concatenate([decision.value for decision in left.values()])
    margins = np.concatenate([decision.margin for decision in left.values()])
    # The worst kept and the best removed gate lie equally far from the cut.
    assert margins[values].min() == pytest.approx(margins[~values].min())
    assert margins.min() > 0


def test_the_written_file_is_smaller_batch_free_and_without_gates(tmp_path: Path) -> None:
    soft = gated(Chain(), keep=0.5)
    hard = deploykit.harden(soft)
    path = tmp_path / "net.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(hard.module, (IMAGE,), str(path), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    model = onnx.load(str(path))
    shapes = [tuple(tensor.dims) for tensor in model.graph.initializer]
    kept = [sum(bits) for bits in getattr(hard.module, KEPT).values()]
    assert {(kept[0], 3, 3, 3), (kept[1], kept[0], 3, 3), (kept[2], kept[1] * 16), (4, kept[2])} <= set(shapes)
    names = [tensor.name for tensor in model.graph.initializer] + [node.name for node in model.graph.node]
    assert not any("gate" in name for name in names)
    assert "Mul" not in {node.op_type for node in model.graph.node}
    sizes = sum(int(np.prod(shape)) * 4 for shape in shapes)
    assert hard.promise.weight_bytes is not None
    assert sizes <= hard.promise.weight_bytes
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 7):
        x = torch.rand(count, 3, 8, 8)
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(got, answers(hard.module, x)[0].numpy(), rtol=1e-4, atol=1e-5)
