"""A neural image trained for a few seconds, and what tests of ``quantized.ani`` ask of it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit import HardForm, harden, make_method, make_task
from deploykit.lifecycle import binding_of, build
from deploykit_quantized.ani import AdaptiveNeuralImage
from deploykit_tasks.photograph import positions
from deploykit_tasks.photograph_rates import picture_psnr

NAME = "quantized.ani"
STEPS = 400


def method_of(soft: nn.Module) -> AdaptiveNeuralImage:
    method = binding_of(soft).method
    assert isinstance(method, AdaptiveNeuralImage)
    return method


@functools.cache
def trained(quantize_from: float) -> nn.Module:
    """Return a soft form after 400 steps on 2 048 of the photograph's pixels at a time; tests must not change it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    method, task = (
        make_method(NAME, {"quantize_from": quantize_from, "epochs": STEPS // 8, "rate": 2e-3}),
        make_task("photograph"),
    )
    soft = build(method, task).train()
    plan = method.plan(soft, task)
    samples = task.samples("train")
    x, y = torch.from_numpy(samples.inputs["position"]), torch.from_numpy(samples.targets["grey"])
    for step in range(STEPS):
        index = torch.randint(len(x), (plan.batch_size,))
        method.on_step(soft, step / (STEPS - 1))
        loss = method.loss(soft, (x[index],), {"grey": y[index]}, task)
        plan.optimizer.zero_grad()
        torch.autograd.backward(loss)
        plan.optimizer.step()
        assert plan.scheduler is not None
        plan.scheduler.step()
    return soft.eval()


@functools.cache
def hardened() -> HardForm:
    return harden(trained(0.2))


def answers(form: nn.Module, x: Tensor) -> NDArray[Any]:
    with torch.no_grad():
        found: NDArray[Any] = form(x).numpy()
    return found


def quality(form: nn.Module) -> float:
    """Return a form's PSNR over the whole picture."""
    return picture_psnr(lambda position: answers(form, torch.from_numpy(position)))


def everywhere() -> Tensor:
    return torch.from_numpy(np.array(positions()))
