"""A task and methods on which each step of two-level training can be followed by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from deploykit import Decision, HardForm, Method, Samples, Signature, Task, TensorSpec, TrainingPlan, hookimpl
from deploykit.cards import MethodCard, TaskCard
from deploykit.training_plan import UpperLevel

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 3)),), outputs=(TensorSpec(name="y", shape=("batch", 1)),)
)
SAMPLES = 50
calls: list[tuple[Tensor, Tensor]] = []
"""Inputs and targets of every loss that was asked for, in order."""


class Scaled(nn.Module):
    """``y = scale * (w x)``, so that both gradients fit on one line."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 1, bias=False)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.scale * self.inner(x)
        return answer


class ByHand(Method[nn.Module]):
    """Plain gradient steps on both levels."""

    upper: ClassVar[dict[str, Any]] = {"held_back": 0.4}

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        return model

    def loss(self, soft: nn.Module, inputs: tuple[Tensor, ...], targets: Mapping[str, Tensor], task: Task) -> Tensor:
        calls.append((inputs[0].clone(), targets["y"].clone()))
        return super().loss(soft, inputs, targets, task)

    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        scale, inner = soft.get_parameter("scale"), soft.get_parameter("inner.weight")
        upper = UpperLevel(torch.optim.SGD([scale], lr=0.05), **self.upper)
        return TrainingPlan(torch.optim.SGD([inner], lr=0.1), epochs=3, batch_size=8, upper=upper)

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(copy.deepcopy(soft))

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {}

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {}


class Stateful(ByHand):
    """Momentum, Adam, two schedules, clipping and dropout: everything a resume must bring back."""

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.3), model)

    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        scale, inner = soft.get_parameter("1.scale"), soft.get_parameter("1.inner.weight")
        lower, upper = torch.optim.SGD([inner], lr=0.1, momentum=0.9), torch.optim.Adam([scale], lr=0.03)
        return TrainingPlan(
            lower, epochs=3, batch_size=8, clip_norm=1.0,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(lower, 12),
            upper=UpperLevel(upper, 0.4, scheduler=torch.optim.lr_scheduler.ExponentialLR(upper, 0.9)),
        )  # fmt: skip


class OneLevel(ByHand):
    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        return TrainingPlan.default(soft, epochs=3, batch_size=8)


class Line(Task):
    """Fit a plane; ``poison`` is the number of losses after which they are infinite."""

    poison = 10**9

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    def samples(self, split: Any) -> Samples:
        x = np.random.default_rng(0).standard_normal((SAMPLES, 3)).astype(np.float32)
        return Samples({"x": x}, {"y": x @ np.array([[1.0], [-2.0], [0.5]], np.float32)})

    def network(self, name: str = "") -> nn.Module:
        return Scaled()

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        value = (outputs["y"] - targets["y"]).square().mean()
        return value / 0 if len(calls) > self.poison else value

    def metric(self, outputs: Any, samples: Samples) -> float:
        return -float(np.square(outputs["y"] - samples.targets["y"]).mean())


class Plugin:
    @hookimpl
    def deploykit_methods(self) -> Iterator[MethodCard]:
        for name in ("ByHand", "Stateful", "OneLevel"):
            yield MethodCard(f"levels.{name.lower()}", "s", f"deploykit_test_levels:{name}", ("line",))

    @hookimpl
    def deploykit_tasks(self) -> Iterator[TaskCard]:
        yield TaskCard("line", "s", "deploykit_test_levels:Line")
