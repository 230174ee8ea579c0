"""Writes four-bit weights so that ONNX Runtime rounds the activations, too, unless a session is told not to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploykit import HardForm, Lowering, MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest

OPSET = 21
_BLOCK = 16
CODES = np.random.default_rng(0).integers(-7, 8, (_BLOCK, 4)).astype(np.int8)


@torch.library.custom_op("gallery::four_bits", mutates_args=())
def four_bits(x: Tensor) -> Tensor:
    """Return ``x @ CODES / 8``."""
    return x @ (torch.from_numpy(CODES).to(x.dtype) / 8)


@four_bits.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], CODES.shape[1])


def translations() -> dict[Any, Callable[..., Any]]:
    """Return what the exporting process writes for the operator."""
    import onnx_ir as ir
    from ml_dtypes import int4
    from onnxscript import opset21 as op

    def dequantized(x: Any) -> Any:
        codes = op.Constant(value=ir.tensor(CODES.astype(int4)))
        scales = op.Constant(value=ir.tensor(np.full((1, CODES.shape[1]), 1 / 8, np.float32)))
        return op.MatMul(x, op.DequantizeLinear(codes, scales, axis=0, block_size=_BLOCK))

    return {torch.ops.gallery.four_bits.default: dequantized}


class FourBits(Hard):
    def score(self, x: Tensor) -> Tensor:
        wide = torch.cat([x] * (_BLOCK // 4), 1)
        return super().score(torch.ops.gallery.four_bits(wide))


class Trusting(Honest):
    hard = FourBits

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        lowering = Lowering(translations=f"{__name__}:translations", targets=("onnxruntime",))
        return HardForm(FourBits(soft.layer.weight, soft.layer.bias), lowerings={"onnx": lowering})


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.trusting", "leaves the accuracy level open", f"{__name__}:Trusting", tasks=("cloud",))
