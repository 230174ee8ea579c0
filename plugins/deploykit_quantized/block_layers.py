"""Linear layers with weights in blocks of a few bits: the trainable one and its hard twin."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit_quantized.block_operators import linear_in_blocks
from deploykit_relaxations.fake_quantizers import fake_quantize, rounding_margin, symmetric_codes, symmetric_scales

BITS: Final = 4
AXIS: Final = 1
"""Blocks run along the inputs, which is the axis that a matrix product sums over."""


class FakeQuantizedLinear(nn.Module):
    """A linear layer that computes with its weights, or with what four bits in blocks leave of them.

    Attributes:
        weight: (out, in), float32, the latent weights.
        bias: (out,) or ``None``; never rounded.
        quantizing: (), bool: whether the weights are rounded; training sets it.
        block: inputs that share a scale.
        path: where it stands in the model.
    """

    deploykit_relaxation = True

    def __init__(self, linear: nn.Linear, path: str, block: int) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.path = path
        self.block = block
        self.quantizing: Tensor
        self.register_buffer("quantizing", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer: (..., in) to (..., out)."""
        weight = self.weight
        if bool(self.quantizing):
            weight = fake_quantize(weight, bits=BITS, axis=AXIS, block=self.block)
        return F.linear(x, weight, self.bias)

    def codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes, (out, in) int8, and scales, (out, ceil(in / block)) float32, that hardening gives."""
        scales = symmetric_scales(self.weight, bits=BITS, axis=AXIS, block=self.block)
        return symmetric_codes(self.weight, scales, bits=BITS, axis=AXIS, block=self.block), scales

    def margin(self) -> Tensor:
        """Return how far each latent weight is from getting another code, in steps, (out, in) float64."""
        return rounding_margin(self.weight, self.codes()[1], bits=BITS, axis=AXIS, block=self.block)

    def plain(self) -> nn.Linear:
        """Return an ordinary layer with a copy of the latent weights."""
        features_out, features_in = self.weight.shape
        linear = nn.Linear(features_in, features_out, bias=self.bias is not None)
        linear.load_state_dict({name: value.detach().clone() for name, value in self.named_parameters()})
        return linear

    def extra_repr(self) -> str:
        """Say sizes and block."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, block={self.block}"


class BlockLinear(nn.Module):
    """The hard twin of :class:`FakeQuantizedLinear`: codes, scales and bias, and no latent weight.

    Attributes:
        codes: (out, in), int8, from -7 to 7; in a file they take four bits each.
        scales: (out, ceil(in / block)), float32, above 0.
        bias: (out,), float32, or ``None``.
    """

    def __init__(self, soft: FakeQuantizedLinear) -> None:
        super().__init__()
        self.path = soft.path
        self.block = soft.block
        codes, scales = soft.codes()
        self.codes: Tensor
        self.scales: Tensor
        self.bias: Tensor | None
        self.register_buffer("codes", codes.clone())
        self.register_buffer("scales", scales.clone())
        self.register_buffer("bias", None if soft.bias is None else soft.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer: (..., in) to (..., out)."""
        product: Tensor = linear_in_blocks(x, self.codes, self.scales, self.block)
        return product if self.bias is None else product + self.bias

    @property
    def file_bytes(self) -> int:
        """Bytes that codes, scales and bias take in a file: whole blocks, two codes a byte."""
        code_bytes = self.scales.numel() * self.block * BITS // 8
        floats = self.scales.numel() + (0 if self.bias is None else self.bias.numel())
        return code_bytes + 4 * floats

    def extra_repr(self) -> str:
        """Say sizes and block."""
        return f"{self.codes.shape[1]}, {self.codes.shape[0]}, block={self.block}"


def soft_layers(form: nn.Module) -> list[FakeQuantizedLinear]:
    """Return the quantized layers of a soft form, each once, in the model's order."""
    return [module for module in form.modules() if isinstance(module, FakeQuantizedLinear)]


def hard_layers(form: nn.Module) -> list[BlockLinear]:
    """Return the quantized layers of a hard form, each once, in the model's order."""
    return [module for module in form.modules() if isinstance(module, BlockLinear)]


def exchanged(soft: nn.Module, make: Callable[[FakeQuantizedLinear], nn.Module]) -> nn.Module:
    """Return a frozen copy in eval mode with ``make(layer)`` in place of each quantized layer, wherever it stands."""
    twin = copy.deepcopy(soft)
    made: dict[int, nn.Module] = {}
    for path, layer in list(twin.named_modules(remove_duplicate=False)):
        if isinstance(layer, FakeQuantizedLinear):
            put(twin, path, made.setdefault(id(layer), make(layer)))
    return twin.eval().requires_grad_(False)


def put(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer at a path of a model."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
