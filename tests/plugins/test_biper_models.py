"""BiPer on models that are no plain chain: residual additions, several inputs and heads, calls instead of modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit import HardForm, Signature, TensorSpec, agreement, make_task
from deploykit.lifecycle import binding_of
from deploykit_binarized.biper_layers import InputLayer
from deploykit_binarized.integer_layers import IntegerLayer


def signature_of(example: Tensor, outputs: int) -> Signature:
    image = TensorSpec(name="image", shape=("batch", *example.shape[1:]), minimum=0.0, maximum=1.0)
    return Signature(inputs=(image,), outputs=(TensorSpec(name="logits", shape=("batch", outputs)),))


def oracle_and_hard(soft: nn.Module, x: Tensor) -> tuple[np.ndarray[Any, Any], HardForm]:
    hard = deploykit.harden(soft, x)
    return np.asarray(binding_of(soft).method.oracle(soft, (x,))["logits"]), hard


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU())
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu, self.pool, self.head = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += x
        y = self.pool(self.relu(y))
        y = nn.functional.dropout(y.view(y.size(0), -1), training=self.training)
        return torch.log_softmax(self.head(y), dim=1)


def test_residual_net_keeps_integer_layers_and_promises_less() -> None:
    task = make_task("digits")
    x = torch.from_numpy(task.samples("test").inputs["image"][:16].copy())
    soft = deploykit.prepare(Residual(), "binarized.biper", x, signature=task.signature)
    deploykit.on_step(soft, 1.0)
    soft.train()(x)
    soft.eval()
    wanted, hard = oracle_and_hard(soft, x)
    assert hard.promise.tolerance == deploykit.FLOAT32
    assert "add" in hard.facts["float steps"]
    with torch.no_grad():
        np.testing.assert_allclose(hard.module(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
    layers = [module for module in hard.module.modules() if isinstance(module, IntegerLayer)]
    assert [layer.weight.dtype for layer in layers] == [torch.int8] * 4
    left, right = binding_of(soft).method.decisions(soft, (x,)), binding_of(soft).method.decisions(hard.module, (x,))
    assert all(agreement(left[name], right[name]).different == 0 for name in left)


class TwoHeads(nn.Module):
    """Two inputs and outputs, one layer called twice, calls instead of modules, integer pixels, a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.left, self.right = nn.Linear(16, 3), nn.Linear(16, 2)
        self.offset = nn.Parameter(torch.randn(1, 16))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        maps = [self.conv2(self.conv1(pixels.float()).relu()) for pixels in (x, y)]
        z = nn.functional.max_pool2d(torch.cat(maps), 2).flatten(1) + self.offset
        a, b = z.chunk(2)
        return self.left(a), self.right(b * 2)


def test_calls_branches_and_integer_pixels() -> None:
    pixels = tuple(torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8) for _ in range(2))
    soft = deploykit.prepare(TwoHeads(), "binarized.biper", pixels)
    deploykit.on_step(soft, 1.0)
    method, hard = binding_of(soft).method, deploykit.harden(soft)
    with torch.no_grad():
        returned = hard.module(*pixels)
    for got, wanted in zip(returned, method.oracle(soft, pixels).values(), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-4, atol=1e-5)
    names = ["bits/conv2", "bits/conv2#2", "bits/left", "bits/right"]
    assert sorted(method.decisions(soft.eval(), pixels)) == sorted(method.decisions(hard.module, pixels)) == names
    assert [layer.grid.step for layer in soft.modules() if isinstance(layer, InputLayer)] == [pytest.approx(255 / 127)]


def test_functional_pools_and_dropouts_keep_the_chain_exact() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            pooled = nn.functional.max_pool2d(torch.relu(self.conv(x)), 2)
            y: Tensor = self.head(nn.functional.dropout(pooled.view(x.shape[0], -1), 0.9, self.training))
            return y

    x = torch.rand(4, 1, 8, 8)
    soft = deploykit.prepare(Functional(), "binarized.biper", x, signature=signature_of(x, 3))
    wanted, hard = oracle_and_hard(soft.eval(), x)
    assert hard.promise.tolerance.exact, hard.facts
    with torch.no_grad():
        assert np.array_equal(hard.module(x).numpy(), wanted)
        assert torch.equal(soft(x), soft(x))
        assert not torch.equal(soft.train()(x), soft(x))


@pytest.mark.parametrize(("low", "high", "foldable"), [(-2.0, -1.0, False), (0.5, 1.0, False), (-2.0, 0.0, True)])
def test_clipping_that_changes_signs_is_not_folded_away(low: float, high: float, foldable: bool) -> None:
    x = torch.rand(4, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Hardtanh(low, high), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    soft = deploykit.prepare(net, "binarized.biper", x, signature=signature_of(x, 3))
    wanted, hard = oracle_and_hard(soft, x)
    assert hard.promise.tolerance.exact is foldable
    with torch.no_grad():
        np.testing.assert_allclose(hard.module(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
