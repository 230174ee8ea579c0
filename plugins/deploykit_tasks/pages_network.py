"""A small float network for text pages: an encoder and a decoder with skips, ending in a probability map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


class Segmenter(nn.Module):
    """Probability that a pixel lies on a line of text; 0.1 M parameters.

    Shapes:
        image: uint8 [batch, 3, height, width], height and width multiples of 32.
        returns: float32 [batch, 1, height, width] in [0, 1].
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(3, width, 2)])
        for level in range(3):
            self.down.append(_block(width << min(level, 1), width << min(level + 1, 1), 2))
        self.sideways = nn.ModuleList([nn.Conv2d(width << min(level, 1), width, 1) for level in range(4)])
        self.smooth = _block(width, width, 1)
        self.probability = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the probability map."""
        x = image.float() / 127.5 - 1.0
        levels: list[Tensor] = []
        for block, sideways in zip(self.down, self.sideways, strict=True):
            x = block(x)
            levels.append(sideways(x))
        merged = levels.pop()
        while levels:
            merged = F.interpolate(merged, scale_factor=2.0, mode="nearest") + levels.pop()
        logits = self.probability(self.smooth(merged))
        return torch.sigmoid(F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False))
