"""Trainable twins of ``Conv2d`` and ``Linear`` whose arithmetic is that of small integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit.errors import ContractError
from deploykit_relaxations.sign import binarize_periodic, round_straight_through, sign_triangle

SUM_LIMIT: Final = 2**22
"""Integer sums stay below this, so that float32 holds them, half steps and a doubling included, exactly."""

_ACTIVATION_LIMIT: Final = 128
_VARIANCE_FLOOR: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution moves; all sizes in pixels, height first."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def window_of(layer: nn.Module, path: str) -> Window | None:
    """Return a convolution's window, or ``None`` for a linear layer.

    Raises:
        ContractError: the padding is neither zeros nor symmetric.
    """
    if not isinstance(layer, nn.Conv2d):
        return None
    if layer.padding_mode != "zeros":
        raise ContractError(
            f"binarized.biper: convolution {path!r} pads with {layer.padding_mode!r}; wanted 'zeros': pad in a module "
            "of its own before it"
        )
    padding: tuple[int, ...] = layer.padding if isinstance(layer.padding, tuple) else (0, 0)
    if layer.padding == "same":
        spans = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        if any(span % 2 for span in spans):
            raise ContractError(
                f"binarized.biper: convolution {path!r} has padding 'same' with kernel {layer.kernel_size}, which pads "
                "one side more; give an odd kernel or a symmetric padding in numbers"
            )
        padding = tuple(span // 2 for span in spans)
    height, width = padding
    stride_y, stride_x = layer.stride
    dilation_y, dilation_x = layer.dilation
    return Window((stride_y, stride_x), (height, width), (dilation_y, dilation_x), layer.groups)


class TwinLayer(nn.Module):
    """What the three twins share: the user's weight and bias, and how they are applied.

    Attributes:
        path: where the layer stood in the user's model.
        window: of a convolution; ``None`` for a linear layer.
        fan_in: products summed for one output.
    """

    role: ClassVar[str]

    def __init__(self, layer: nn.Conv2d | nn.Linear, path: str) -> None:
        super().__init__()
        self.path = path
        self.window = window_of(layer, path)
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.fan_in = math.prod(self.weight.shape[1:])
        if self.fan_in >= SUM_LIMIT:
            raise ContractError(
                f"binarized.biper: layer {path!r} sums {self.fan_in:,} products; at most {SUM_LIMIT - 1:,} keep "
                "integer sums exact: use groups or several layers"
            )

    def per_channel(self, values: Tensor) -> Tensor:
        """Reshape a value a channel so that it broadcasts over this layer's output."""
        return values if self.window is None else values[:, None, None]

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve or multiply, without bias."""
        if self.window is None:
            return F.linear(x, weight)
        window = self.window
        return F.conv2d(x, weight, None, window.stride, window.padding, window.dilation, window.groups)

    def extra_repr(self) -> str:
        """Return weight shape and window."""
        return f"weight={tuple(self.weight.shape)}, window={self.window}"


def weight_steps(weight: Tensor, levels: int) -> Tensor:
    """Return the size of one integer step of each output channel, float64, shape (channels,).

    A channel's largest weight becomes ``levels``; a channel of zeros gets step 1.
    """
    largest = weight.detach().double().flatten(1).abs().amax(dim=1)
    return torch.where(largest > 0, largest / levels, 1.0)


def integer_weight(weight: Tensor, levels: int) -> Tensor:
    """Return the weights in integer steps, as float64, with straight-through gradient."""
    steps = weight_steps(weight, levels).reshape(-1, *(1,) * (weight.dim() - 1))
    return round_straight_through(weight.double() / steps)


@dataclass(frozen=True, slots=True)
class Grid:
    """The integers that a first layer's input is rounded to: ``x = step * q``.

    ``q`` runs from 0 to 127 for inputs that are never negative, else from -128 to 127. So it fits signed eight bits
    with zero point 0 (what TensorRT takes) and unsigned eight bits (what is fast on CPUs).

    Attributes:
        step: a float32 value.
    """

    step: float
    signed: bool

    @classmethod
    def over(cls, minimum: float, maximum: float) -> Grid:
        """Return the grid for a range of values."""
        largest = max(abs(minimum), abs(maximum))
        step = torch.tensor(largest / 127 if largest > 0 else 1.0, dtype=torch.float32)
        return cls(step=float(step), signed=minimum < 0)

    @property
    def weight_levels(self) -> int:
        """Largest integer weight that is safe beside these inputs.

        Without VNNI, x86 sums pairs of u8 x s8 products in sixteen saturating bits: 2 * 127 * 127 fits,
        2 * 255 * 127 does not.
        """
        return 63 if self.signed else 127

    def integers(self, x: Tensor) -> Tensor:
        """Round to the grid, straight through; integer inputs are taken as numbers. Returns float32 integers."""
        levels = round_straight_through(x.float() / self.step)
        return levels.clamp(-128 if self.signed else 0, 127)


class InputLayer(TwinLayer):
    """A layer on the model's own inputs: integers of eight bits for inputs and weights.

    The paper keeps this layer in float32.
    """

    role = "input"

    def __init__(self, layer: nn.Conv2d | nn.Linear, path: str, grid: Grid) -> None:
        super().__init__(layer, path)
        self.grid = grid
        self.levels = min(grid.weight_levels, (SUM_LIMIT - 1) // (self.fan_in * _ACTIVATION_LIMIT))
        if self.levels < 1:
            raise ContractError(
                f"binarized.biper: first layer {path!r} sums {self.fan_in:,} products of eight bits; at most "
                f"{SUM_LIMIT // _ACTIVATION_LIMIT:,} keep integer sums exact: use groups or a smaller kernel"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output on the rounded input with rounded weights, float32."""
        steps = weight_steps(self.weight, self.levels).reshape(-1, *(1,) * (self.weight.dim() - 1))
        weight = (integer_weight(self.weight, self.levels) * steps).float()
        y = self.apply_weight(self.grid.integers(x) * self.grid.step, weight)
        return y if self.bias is None else y + self.per_channel(self.bias)


def signed_input(x: Tensor, training: bool) -> Tensor:
    """Return the sign of a layer's input, in training of the input over each sample's standard deviation.

    The division leaves the sign alone and keeps the surrogate gradient alive where activations are large.
    """
    if training:
        variance = x.var(dim=tuple(range(1, x.dim())), correction=0, keepdim=True)
        x = x / torch.sqrt(variance + _VARIANCE_FLOOR)
    return sign_triangle(x)


class BinaryLayer(TwinLayer):
    """A layer with weights ``sin(frequency * w)`` or their signs, on signs, scaled by ``alpha`` a channel.

    Attributes:
        binary: false in the first stage (real weights), true in the second; a buffer, so checkpoints keep it.
    """

    role = "binary"
    binary: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear, path: str, frequency: float) -> None:
        super().__init__(layer, path)
        self.frequency = frequency
        # The paper draws alpha from [0, 1), which allows dead channels; this start keeps unit variance instead.
        self.alpha = nn.Parameter(torch.full((len(self.weight),), self.fan_in**-0.5))
        self.register_buffer("binary", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``alpha * layer(sign(x), weight) + bias``."""
        if bool(self.binary):
            weight = binarize_periodic(self.weight, self.frequency)
        else:
            weight = torch.sin(self.frequency * self.weight)
        y = self.apply_weight(signed_input(x, self.training), weight) * self.per_channel(self.alpha)
        return y if self.bias is None else y + self.per_channel(self.bias)

    def regulariser(self) -> Tensor:
        """Return ``mean(1/2 - 1/2 cos(2 frequency w))``, the penalty of the authors' code."""
        return torch.mean(0.5 - 0.5 * torch.cos(2.0 * self.frequency * self.weight))


class OutputLayer(TwinLayer):
    """A layer that nothing follows: weights of eight bits on signs, bias in the weights' integer steps.

    The paper keeps this layer, activations too, in float32.
    """

    role = "output"

    def __init__(self, layer: nn.Conv2d | nn.Linear, path: str) -> None:
        super().__init__(layer, path)
        self.levels = min(127, (SUM_LIMIT - 1) // self.fan_in)

    def integer_bias(self) -> Tensor | None:
        """Return the bias in integer steps as float64, straight through, or ``None``."""
        if self.bias is None:
            return None
        rounded = round_straight_through(self.bias.double() / weight_steps(self.weight, self.levels))
        return rounded.clamp(-SUM_LIMIT, SUM_LIMIT)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``step * (layer(sign(x), integers) + integer bias)``, float32."""
        sums = self.apply_weight(signed_input(x, self.training), integer_weight(self.weight, self.levels).float())
        if (bias := self.integer_bias()) is not None:
            sums = sums + self.per_channel(bias.float())
        return sums * self.per_channel(weight_steps(self.weight, self.levels).float())


def twin_layers(soft: nn.Module) -> list[TwinLayer]:
    """Return the soft form's twins, each once, in the order of the user's model."""
    return [module for module in soft.modules() if isinstance(module, TwinLayer)]


def binary_layers(soft: nn.Module) -> list[BinaryLayer]:
    """Return the twins with weights of one bit."""
    return [module for module in twin_layers(soft) if isinstance(module, BinaryLayer)]


def affine_after_sums(layer: Any, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Return scale and shift, float32, shape (channels,), that turn a layer's integer sums into its output.

    A batch normalisation right after the layer is part of them. Both are computed in float64 and rounded once, and
    whoever needs the output computes ``sums * scale + shift`` in float32: the folding to thresholds relies on it.
    """
    if isinstance(layer, InputLayer):
        scale = weight_steps(layer.weight, layer.levels) * layer.grid.step
    else:
        scale = layer.alpha.detach().double()
    shift = torch.zeros_like(scale) if layer.bias is None else layer.bias.detach().double()
    if norm is not None:
        gain, offset, mean = norm_terms(norm)
        scale, shift = gain * scale, offset + gain * (shift - mean)
    return scale.float(), shift.float()


def norm_terms(norm: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return gain, offset and mean of a batch normalisation, float64: ``y = gain * (x - mean) + offset``."""
    deviation = torch.sqrt(norm.running_var.double() + norm.eps)
    gain = 1.0 / deviation if norm.weight is None else norm.weight.detach().double() / deviation
    offset = torch.zeros_like(deviation) if norm.bias is None else norm.bias.detach().double()
    return gain, offset, norm.running_mean.double()
