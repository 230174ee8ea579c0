"""The operators that a choice may offer, by name.

They are the paper's in a form that runs fast: no ReLU inside, because a node applies one to its sum and a convolution
in somebody's own model is followed by that model's; and a separable convolution is one depthwise and one pointwise
layer, where the paper stacks two such pairs.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

NONE: Final = "none"
OPERATORS: Final = (NONE, "skip", "max_3", "avg_3", "conv_3", "sep_3", "sep_5", "dil_3", "dil_5")
"""All names; ``none`` is no connection at all, which can win weight but is never chosen."""

_SHAPES: Final = {"conv_3": (3, 1), "sep_3": (3, 1), "sep_5": (5, 1), "dil_3": (3, 2), "dil_5": (5, 2)}
"""Kernel size and dilation of the convolutions."""


class Nothing(nn.Module):
    """The candidate ``none``: adds nothing to a mixture; a hard form never holds it."""

    deploykit_relaxation = True

    def forward(self, x: Tensor) -> Tensor:
        """Refuse: a mixture leaves this candidate out instead of adding zeros."""
        raise RuntimeError("the candidate 'none' computes nothing and must not be run")


class Operator(nn.Sequential):
    """Layers of ours that run one after the other, so that a batch norm may be merged into what is before it."""


class ChannelAffine(nn.Module):
    """``scale * x + shift`` a channel: a batch norm in eval mode that no convolution stands before.

    Shapes:
        x: (batch, channels, height, width); scale and shift are (1, channels, 1, 1).
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1))
        self.register_buffer("shift", shift.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift."""
        return x * self.scale + self.shift


def operator(
    name: str,
    channels_in: int,
    channels_out: int,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (1, 1),
    bias: bool = False,
    norm: bool = True,
) -> nn.Module | None:
    """Make a fresh operator that answers in the shape of a 3x3 convolution, or ``None`` where it cannot.

    Pools and ``skip`` keep the number of channels, so they do not exist where it changes.

    Args:
        name: one of :data:`OPERATORS`.
        padding: of the 3x3 convolution whose shape is kept, rows and columns; larger kernels pad more.
        bias: whether the last convolution has one.
        norm: whether a batch norm without learnt scale follows, as in the paper's search: it makes candidates
            comparable. A ``skip`` of stride 1 has none.

    Raises:
        KeyError: unknown name.
    """
    layers: list[nn.Module] = []
    match name:
        case "none":
            return Nothing()
        case "skip" if stride == 1:
            return nn.Identity() if channels_in == channels_out and padding == (1, 1) else None
        case "skip":
            layers = [nn.Conv2d(channels_in, channels_out, 1, stride, bias=bias)]
        case "max_3" | "avg_3":
            if channels_in != channels_out or max(padding) > 1:
                return None
            pool = nn.MaxPool2d(3, stride, padding)
            layers = [pool if name == "max_3" else nn.AvgPool2d(3, stride, padding, count_include_pad=False)]
        case _:
            kernel, dilation = _SHAPES[name]
            wider = dilation * (kernel - 1) // 2 - 1
            around = (padding[0] + wider, padding[1] + wider)
            if name == "conv_3":
                layers = [nn.Conv2d(channels_in, channels_out, kernel, stride, around, bias=bias)]
            else:
                deep = nn.Conv2d(
                    channels_in, channels_in, kernel, stride, around, dilation, groups=channels_in, bias=False
                )
                layers = [deep, nn.Conv2d(channels_in, channels_out, 1, bias=bias)]
    return Operator(*layers, *([nn.BatchNorm2d(channels_out, affine=False)] if norm else []))


def merged(layers: Operator) -> Operator:
    """Return new layers that answer as ``layers`` do in eval mode, every batch norm merged or made an affine map.

    The result holds tensors of its own where something was merged, and the same layers elsewhere.
    """
    result: list[nn.Module] = []
    for layer in layers:
        if not isinstance(layer, nn.BatchNorm2d):
            result.append(layer)
            continue
        assert layer.running_mean is not None
        assert layer.running_var is not None
        # float64: the product of rounded factors would add an error of its own.
        scale = torch.rsqrt(layer.running_var.double() + layer.eps)
        if layer.weight is not None:
            scale = scale * layer.weight.double()
        shift = -layer.running_mean.double() * scale
        if layer.bias is not None:
            shift = shift + layer.bias.double()
        before = result[-1] if result else None
        if isinstance(before, nn.Conv2d):
            result[-1] = _scaled(before, scale, shift)
        else:
            dtype = layer.running_mean.dtype
            result.append(ChannelAffine(scale.to(dtype), shift.to(dtype)))
    return Operator(*result)


def _scaled(layer: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """Return a convolution whose answer is ``scale * layer(x) + shift`` a channel."""
    twin = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,  # type: ignore[arg-type]
        layer.groups, bias=True, device=layer.weight.device, dtype=layer.weight.dtype,
    )  # fmt: skip
    assert twin.bias is not None
    with torch.no_grad():
        twin.weight.copy_(layer.weight.double() * scale.reshape(-1, 1, 1, 1))
        twin.bias.copy_(shift if layer.bias is None else layer.bias.double() * scale + shift)
    return twin
