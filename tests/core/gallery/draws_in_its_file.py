"""Its operator is the identity in torch and adds noise in ONNX: the forms are honest, the file is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from deploykit import HardForm, Lowering, MethodCard, Promise, Tolerance, hookimpl
from tests.core.honest_method import Hard, Honest


@torch.library.custom_op("gallery::steady", mutates_args=())
def steady(x: Tensor) -> Tensor:
    """Return ``x``."""
    return x.clone()


@steady.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def translations() -> dict[Any, Callable[..., Any]]:
    """Return what the exporting process writes for the operator."""
    from onnxscript import opset18 as op

    def noisy(x: Any) -> Any:
        return op.Add(x, op.RandomNormalLike(x, scale=1e-3))

    return {torch.ops.gallery.steady.default: noisy}


class Steady(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(torch.ops.gallery.steady(x))


class Unsteady(Honest):
    hard = Steady

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        module = self.hard(soft.layer.weight, soft.layer.bias)
        lowering = Lowering(translations=f"{__name__}:translations", targets=("onnxruntime",))
        return HardForm(module, Promise(tolerance=Tolerance(absolute=0.1)), {"onnx": lowering})


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.unsteady", "draws in its file", f"{__name__}:Unsteady", tasks=("cloud",))
