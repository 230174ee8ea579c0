"""A method put on a task and trained for a few steps: what the contract tests look at, made once for each."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import ContractError
from deploykit.hard_form import HardForm
from deploykit.lifecycle import build, harden
from deploykit.making import make_method, make_task
from deploykit.method import Method
from deploykit.outputs import tensors
from deploykit.task import Samples, Task

_SAMPLES = 24
_STEPS = 4


@dataclass(frozen=True)
class Specimen:
    """One method on one task.

    Attributes:
        soft: in eval mode, after a few training steps, so that statistics and gates are not at their start.
        inputs: test samples, in the signature's order.
    """

    method: Method[Any]
    task: Task
    soft: nn.Module
    hard: HardForm
    calibration: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]


def specimen(name: str, task: str, config: dict[str, Any]) -> Specimen:
    """Return the specimen of a method, made at the first call and shared by all tests, which must not change it."""
    return _specimen(name, task, json.dumps(config, sort_keys=True))


@functools.cache
def _specimen(name: str, task_name: str, config: str) -> Specimen:
    torch.manual_seed(0)
    method = make_method(name, json.loads(config))
    if not task_name and not method.card.tasks:
        raise ContractError(
            f"{name}: its card names no task to test it on; write MethodCard(..., tasks=('digits',)) or set task in "
            "the test class"
        )
    task = make_task(task_name or method.card.tasks[0])
    soft = build(method, task)
    train_steps(method, soft, task, _STEPS)
    soft.eval()
    calibration = tensors(task.samples("calibration").take(slice(0, _SAMPLES)).inputs, task.signature)
    inputs = tensors(task.samples("test").take(slice(0, _SAMPLES)).inputs, task.signature)
    return Specimen(method, task, soft, harden(soft, calibration), calibration, inputs)


def train_steps(method: Method[Any], soft: nn.Module, task: Task, steps: int) -> None:
    """Take a few optimiser steps over the whole range of progress, as training would."""
    soft.train()
    plan = method.plan(soft, task)
    samples = task.samples("train").take(slice(0, _SAMPLES))
    optimizers = [plan.optimizer] if plan.upper is None else [plan.upper.optimizer, plan.optimizer]
    for step in range(steps):
        method.on_step(soft, step / max(1, steps - 1))
        for optimizer in optimizers:
            loss = loss_on(method, soft, task, samples)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def loss_on(method: Method[Any], soft: nn.Module, task: Task, samples: Samples) -> Tensor:
    """Return the training loss on some samples."""
    targets = {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()}
    return method.loss(soft, tensors(samples.inputs, task.signature), targets, task)
