"""The three losses of differentiable binarization.

Source: Liao et al., AAAI 2020, section 3.4, as their published program computes them: cross-entropy for the
probability map only, Dice for the approximate binary map (the paper's text has cross-entropy for both).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_EPSILON: Final = 1e-6


def balanced_cross_entropy(probability: Tensor, wanted: Tensor, mask: Tensor, negative_ratio: float = 3.0) -> Tensor:
    """Return the mean cross-entropy over all text pixels and the hardest others of the batch.

    Args:
        probability: in [0, 1], any shape.
        wanted: 0 or 1, same shape.
        mask: 0 where nothing is judged, same shape.
        negative_ratio: at most this many other pixels for each text pixel; a batch without text gives 0.
    """
    positive, negative = wanted * mask, (1 - wanted) * mask
    positives = int(positive.detach().sum())
    negatives = min(int(negative.detach().sum()), int(positives * negative_ratio))
    inside = probability.clamp(_EPSILON, 1 - _EPSILON)
    losses = -(wanted * inside.log() + (1 - wanted) * (1 - inside).log())
    hardest = (losses * negative).flatten().topk(negatives).values
    return ((losses * positive).sum() + hardest.sum()) / (positives + negatives + _EPSILON)


def dice(binary: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Return one minus twice the common mass over the sum of masses, in [0, 1]; arguments of one shape."""
    common = (binary * wanted * mask).sum()
    return 1 - 2 * common / ((binary * mask).sum() + (wanted * mask).sum() + _EPSILON)


def band_distance(threshold: Tensor, wanted: Tensor, band: Tensor) -> Tensor:
    """Return the mean absolute error of the threshold map over the bands around text; 0 without any."""
    return ((threshold - wanted).abs() * band).sum() / (band.sum() + _EPSILON)


def approximate_step(probability: Tensor, threshold: Tensor, steepness: float) -> Tensor:
    """Return the differentiable bitmap ``sigmoid(k (P - T))``, above one half where P > T.

    The paper writes 1 / (1 + exp(-k (P - T))), whose exponential overflows half precision; the sigmoid doesn't.
    """
    return torch.sigmoid(steepness * (probability - threshold))
