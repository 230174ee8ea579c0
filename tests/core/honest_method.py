"""A small task and a method that keeps every contract, to be broken in one place at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deploykit import Decision, HardForm, Method, Promise, Samples, Signature, Task, TensorSpec
from deploykit.decision_marks import mark_decision

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 4), minimum=-50),),
    outputs=(TensorSpec(name="y", shape=("batch", 3)),),
)


class Cloud(Task):
    """Points of three kinds."""

    far = 0.0

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    def samples(self, split: Any) -> Samples:
        x = np.random.default_rng(len(split)).standard_normal((40, 4)).astype(np.float32)
        x -= np.float32(self.far if split == "calibration" else 0)
        return Samples({"x": x}, {"kind": x[:, :3].argmax(1)})

    def network(self, name: str = "") -> nn.Module:
        return nn.Linear(4, 3)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(outputs["y"], targets["kind"])

    def metric(self, outputs: Any, samples: Samples) -> float:
        return float((outputs["y"].argmax(1) == samples.targets["kind"]).mean())


class FarCloud(Cloud):
    far = 100.0


class Soft(nn.Module):
    layer: Any

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x @ torch.tanh(self.layer.weight.T) + self.layer.bias
        return y


class Hard(nn.Module):
    """Weights of one bit, written as floats."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", torch.where(weight.T > 0, 1.0, -1.0).contiguous())
        self.register_buffer("bias", bias.clone())

    def score(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.score(x)
        best = mark_decision(y.argmax(1), "best")
        return y + 0 * best[:, None].to(y.dtype)


class Honest(Method[Any]):
    """One bit a weight: keeps every contract."""

    hard: Any = Hard
    promise = Promise(weight_bytes=128, macs=12)

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> Any:
        return Soft(model)

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(self.hard(soft.layer.weight, soft.layer.bias), self.promise)

    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        with torch.no_grad():
            weight = torch.tanh(form.layer.weight) if isinstance(form, Soft) else form.weight.T
            y = form(*inputs)
        best = y.topk(2, dim=1).values
        return {
            "bit": Decision((weight > 0).numpy(), weight.abs().numpy()),
            "best": Decision(y.argmax(1).numpy(), (best[:, 0] - best[:, 1]).numpy()),
        }

    def oracle(self, soft: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        weight, bias = soft.layer.weight.detach().numpy(), soft.layer.bias.detach().numpy()
        rows = [
            [
                sum(float(value) * (1 if w > 0 else -1) for value, w in zip(row, weight[k], strict=True)) + bias[k]
                for k in range(3)
            ]
            for row in inputs[0].numpy()
        ]
        return {"y": np.array(rows, np.float32)}
