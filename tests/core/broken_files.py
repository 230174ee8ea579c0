"""Broken methods that show on inputs nobody chose, in the files written from them, and in sizes that are free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deploykit import Decision, Dim, HardForm, Lowering, Signature, TensorSpec
from deploykit.decision_marks import mark_decision
from deploykit.decisions import NEAR_TIE
from tests.core.honest_method import Cloud, Hard, Honest, Soft


class Saturated(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x.clamp(-3, 3))


class Saturating(Honest):
    """Right on all test samples, which lie near zero."""

    hard = Saturated


class Looked(Hard):
    def score(self, x: Tensor) -> Tensor:
        near = torch.arange(-4, 5, device=x.device)
        return super().score(x) + 0 * near[x[:, :1].long() + 4]


class Indexing(Honest):
    """Looks up a table that ends where the test samples do."""

    hard = Looked


class Strict(Hard):
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias)
        self.weight = torch.where(weight.T > 0.2, 1.0, -1.0)


class Flipping(Honest):
    """Decides its bits at 0.2 while its soft form says 0."""

    hard = Strict


class Doubled(Hard):
    weights: Tensor

    def score(self, x: Tensor) -> Tensor:
        return super().score(x) + 0 * (x @ self.weights)


class Shadowing(Honest):
    """Carries the weights of training along for nothing."""

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        doubled = Doubled(soft.layer.weight, soft.layer.bias)
        doubled.register_buffer("weights", soft.layer.weight.T.clone())
        return HardForm(Hard(soft.layer.weight, soft.layer.bias), lowerings={"onnx": Lowering(doubled)})


class Stuck(Hard):
    def forward(self, x: Tensor) -> Tensor:
        y = self.score(x)
        return y + 0 * mark_decision(y[:, :1].argmax(1), "best")[:, None].to(y.dtype)


class Stubborn(Honest):
    """Marks the best of one."""

    hard = Stuck

    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {"best": Decision(np.zeros(len(inputs[0]), np.int64))}


class Clouds(Cloud):
    """Any number of points a sample; the answer is that of their middle."""

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs=(TensorSpec(name="x", shape=("batch", "points", 4), minimum=-5, maximum=5),),
            outputs=(TensorSpec(name="y", shape=("batch", 3)),),
            dims={"points": Dim(max=16)},
        )

    def samples(self, split: Any) -> Any:
        flat = super().samples(split)
        points = np.repeat(flat.inputs["x"][:, None], 5, axis=1)
        return type(flat)({"x": points}, flat.targets)

    def network(self, name: str = "") -> nn.Module:
        return nn.Linear(4, 3)


class FiveClouds(Clouds):
    """Draws five points whatever is asked for."""

    def random_inputs(self, random: np.random.Generator, sizes: Mapping[str, int]) -> Any:
        return super().random_inputs(random, {**sizes, "points": 5})


class SoftMiddle(Soft):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean(1))


class Middle(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x.mean(1))


class Fifth(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x.sum(1) / 5)


class Middling(Honest):
    """Honest on tasks whose number of points is free."""

    hard = Middle

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> Any:
        return SoftMiddle(model)

    def oracle(self, soft: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return super().oracle(soft, (inputs[0].double().mean(1),))


class Counting5(Middling):
    """Writes the example's number of points into the file."""

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        form = super().harden(soft, inputs)
        return HardForm(form.module, lowerings={"onnx": Lowering(Fifth(soft.layer.weight, soft.layer.bias))})


class Hesitating(Middling):
    """Calls every choice about a sample a tie."""

    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        best = super().decisions(form, inputs)["best"].value
        return {"best": Decision(best, np.zeros(best.shape))}


class Narrow(Honest):
    """Every margin is the widest that is still a near tie; its file marks another choice."""

    margin = NEAR_TIE

    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        taken = super().decisions(form, inputs)
        best = taken["best"].value
        return {"best": Decision((best + 1) % 3, np.full(best.shape, self.margin))}


class Wider(Narrow):
    """Its margins are the next numbers above."""

    margin = float(np.nextafter(NEAR_TIE, 1))


FILES: list[type[Honest]] = [
    Saturating, Indexing, Flipping, Shadowing, Stubborn, Middling, Counting5, Hesitating, Narrow, Wider
]  # fmt: skip
