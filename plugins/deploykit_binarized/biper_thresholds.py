"""Scale, shift and sign of a layer's sums as one comparison of integers."""

from __future__ import annotations

import torch
from torch import Tensor

from deploykit_binarized.biper_layers import InputLayer, OutputLayer, TwinLayer, integer_weight
from deploykit_relaxations.sign import periodic_sign


def integer_weight_of(layer: TwinLayer) -> Tensor:
    """Return a twin's integer weights: -1 and +1, or eight bits for first and last layers; int64."""
    if isinstance(layer, (InputLayer, OutputLayer)):
        return integer_weight(layer.weight.detach(), layer.levels).long()
    frequency = float(layer.frequency)  # type: ignore[arg-type]
    return periodic_sign(layer.weight.detach(), frequency).long()


def fold_to_threshold(weight: Tensor, scale: Tensor, shift: Tensor, largest_input: int) -> tuple[Tensor, Tensor]:
    """Turn ``sums * scale + shift >= 0`` in float32 into ``sums' + bias >= 0`` in integers, for every reachable sum.

    The float expression is monotone in the sum, rounding included, so its change of sign is found by bisection over
    the integers with that very expression, not by solving for it. Channels that fall get their weights negated.

    Shapes:
        weight: (out, ...), integers.
        scale, shift: (out,), float32.
        returns: weights (out, ...) and bias (out,), int64.

    Args:
        largest_input: largest absolute value of an input integer.

    >>> weight = torch.tensor([[1, 1], [1, -1], [1, 1]])
    >>> fold_to_threshold(weight, torch.tensor([0.5, -2.0, 0.0]), torch.tensor([-0.75, 3.0, -1.0]), 1)[1]
    tensor([-2,  1, -3])
    """
    reach = weight.abs().flatten(1).sum(dim=1) * largest_input
    at_bottom = (-reach).float() * scale + shift >= 0
    at_top = reach.float() * scale + shift >= 0
    falls = at_bottom & ~at_top
    scale = torch.where(falls, -scale, scale)
    weight = torch.where(falls.reshape(-1, *(1,) * (weight.dim() - 1)), -weight, weight)
    low, high = -reach, reach + 1  # the first true sum lies in [low, high]; high means never
    while bool((low < high).any()):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        true = middle.float() * scale + shift >= 0
        low, high = torch.where(true | (low >= high), low, middle + 1), torch.where(true, middle, high)
    return weight, -high
