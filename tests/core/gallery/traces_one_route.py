"""Each sample has a route of its own; what is exported knows only the one that calibration took most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from deploykit import Decision, HardForm, Lowering, MethodCard, hookimpl
from deploykit.decision_marks import mark_decision
from tests.core.honest_method import Hard, Honest


class Routed(Hard):
    """Turns the sign of samples that lie to the left."""

    def route(self, x: Tensor) -> Tensor:
        return x[:, 0] > 0

    def forward(self, x: Tensor) -> Tensor:
        right = mark_decision(self.route(x), "right")
        return self.score(torch.where(right[:, None], x, -x))


class Traced(Routed):
    right = True

    def route(self, x: Tensor) -> Tensor:
        return x[:, 0] > float("-inf") if self.right else x[:, 0] > float("inf")


class Tracing(Honest):
    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        hard, traced = Routed(soft.layer.weight, soft.layer.bias), Traced(soft.layer.weight, soft.layer.bias)
        traced.right = float(hard.route(inputs[0]).float().mean()) > 0.5
        return HardForm(hard, lowerings={"onnx": Lowering(traced)})

    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        x = inputs[0]
        return {"right": Decision((x[:, 0] > 0).numpy(), x[:, 0].abs().numpy())}


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.tracing", "traced one route", f"{__name__}:Tracing", tasks=("cloud",))
