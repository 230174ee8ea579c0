"""Modules of a hard binary network; each holds integers and calls one operator of :mod:`integer_operators`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit_binarized import integer_operators as operators
from deploykit_binarized.biper_layers import Grid, Window


class InputQuantizer(nn.Module):
    """Float or integer inputs to the integers of a grid.

    Attributes:
        zero: zero point of what it returns.
    """

    def __init__(self, grid: Grid, unsigned_code: bool) -> None:
        super().__init__()
        self.grid, self.unsigned_code = grid, unsigned_code
        self.zero = 128 if unsigned_code and grid.signed else 0

    def forward(self, x: Tensor) -> Tensor:
        """Return uint8 or int8 of the shape of ``x``."""
        quantized: Tensor = operators.quantize_input(x.float(), self.grid.step, self.grid.signed, self.unsigned_code)
        return quantized


class SignBits(nn.Module):
    """Float values to bits."""

    def __init__(self, unsigned_code: bool) -> None:
        super().__init__()
        self.unsigned_code = unsigned_code

    def forward(self, x: Tensor) -> Tensor:
        """Return the bits of ``x``."""
        bits: Tensor = operators.sign_bits(x, self.unsigned_code)
        return bits


class BitPool(nn.Module):
    """Max pooling of bits: the largest of signs is the sign of the largest."""

    def __init__(self, kernel: list[int], stride: list[int], padding: list[int]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled bits."""
        pooled: Tensor = operators.max_pool2d_bits(x, self.kernel, self.stride, self.padding)
        return pooled


class IntegerLayer(nn.Module):
    """A convolution or matrix product of small integers.

    Attributes:
        path: where the layer stood in the user's model.
        zero: zero point of its input.
        takes_bits: whether the input is bits rather than a quantised float.
        weight: int8; as in torch for convolutions, transposed for linear layers.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, window: Window | None, zero: int, path: str, takes_bits: bool) -> None:
        super().__init__()
        stored = weight if window is not None else weight.t()
        self.register_buffer("weight", stored.to(torch.int8).contiguous())
        self.zero, self.path, self.takes_bits = zero, path, takes_bits
        self.convolves = window is not None
        self.window = [] if window is None else [*window.stride, *window.padding, *window.dilation]
        self.groups = 1 if window is None else window.groups

    def sums(self, x: Tensor) -> Tensor:
        """Return the integer sums as float32."""
        if self.convolves:
            sums: Tensor = operators.conv2d_sums(x, self.weight, self.zero, self.window, self.groups)
        else:
            sums = operators.linear_sums(x, self.weight, self.zero)
        return sums

    def spread(self, values: Tensor) -> Tensor:
        """Reshape a value a channel so that it broadcasts over the sums."""
        return values[:, None, None] if self.convolves else values

    def extra_repr(self) -> str:
        """Return weight shape and window."""
        return f"weight=int8{tuple(self.weight.shape)}, window={self.window}"


class ThresholdLayer(IntegerLayer):
    """Integers to bits: ``sums + bias >= 0``. Scale, bias, batch normalisation and sign have become ``bias``."""

    bias: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, window: Window | None, zero: int, path: str, takes_bits: bool
    ) -> None:
        super().__init__(weight, window, zero, path, takes_bits)
        self.register_buffer("bias", bias.to(torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Return bits in the code of ``x``."""
        if self.convolves:
            bits: Tensor = operators.conv2d_bits(x, self.weight, self.bias, self.zero, self.window, self.groups)
        else:
            bits = operators.linear_bits(x, self.weight, self.bias, self.zero)
        return bits


class AffineLayer(IntegerLayer):
    """Integers to floats: ``sums * scale + shift``, where something needs the layer's real values."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        weight: Tensor,
        affine: tuple[Tensor, Tensor],
        window: Window | None,
        zero: int,
        path: str,
        takes_bits: bool,
    ) -> None:
        super().__init__(weight, window, zero, path, takes_bits)
        self.register_buffer("scale", self.spread(affine[0]).contiguous())
        self.register_buffer("shift", self.spread(affine[1]).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Return float32."""
        return self.sums(x) * self.scale + self.shift


class ScaledLayer(IntegerLayer):
    """Integers to outputs: ``(sums + bias) * scale``, an integer addition and one rounding.

    A fused multiply-add could not change it, so every runtime gives the same bits.
    """

    bias: Tensor | None
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, scale: Tensor, window: Window | None, path: str, zero: int):
        super().__init__(weight, window, zero, path, takes_bits=True)
        self.register_buffer("bias", None if bias is None else self.spread(bias.float()).contiguous())
        self.register_buffer("scale", self.spread(scale.float()).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Return float32."""
        sums = self.sums(x)
        return (sums if self.bias is None else sums + self.bias) * self.scale


class ChannelAffine(nn.Module):
    """A batch normalisation that follows no layer: ``x * scale + shift``."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor, spatial: bool) -> None:
        super().__init__()
        spread = (-1, 1, 1) if spatial else (-1,)
        self.register_buffer("scale", scale.float().reshape(spread))
        self.register_buffer("shift", shift.float().reshape(spread))

    def forward(self, x: Tensor) -> Tensor:
        """Return float32."""
        return x * self.scale + self.shift
