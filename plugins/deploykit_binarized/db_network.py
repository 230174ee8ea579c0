"""Networks of differentiable binarization: a small backbone, a feature pyramid, and heads for P and T."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit_binarized.db_losses import approximate_step

STRIDES: Final = (4, 8, 16, 32)


def convolution(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution without bias, batch norm, ReLU; "same" padding."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


class SmallBackbone(nn.Module):
    """Four stages of plain convolutions, 0.5 M parameters; four maps at strides 4, 8, 16 and 32.

    Shapes:
        x: float32 [batch, 3, height, width].
        returns: [batch, channels[i], height / stride, width / stride] each.
    """

    def __init__(self, channels: tuple[int, int, int, int] = (32, 64, 96, 128)) -> None:
        super().__init__()
        self.stem = convolution(3, 16, stride=2)
        widths = (16, *channels)
        self.stages = nn.ModuleList(
            nn.Sequential(convolution(before, after, stride=2), convolution(after, after))
            for before, after in zip(widths, channels, strict=False)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the four maps, finest first."""
        x = self.stem(x)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class Pyramid(nn.Module):
    """Merge four maps into one at stride 4: laterals, a top-down path, and a quarter of the width from each level."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1, bias=False) for count in channels)
        self.smooth = nn.ModuleList(
            nn.Conv2d(width, width // len(channels), 3, padding=1, bias=False) for _ in channels
        )

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Return [batch, width, height / 4, width / 4]; the coarsest level's channels come first."""
        merged = self.lateral[-1](maps[-1])
        levels = [self.smooth[-1](merged)]
        for index in range(len(maps) - 2, -1, -1):
            merged = self.lateral[index](maps[index]) + _enlarged(merged, 2)
            levels.append(self.smooth[index](merged))
        grown = [_enlarged(level, 2 ** (len(levels) - 1 - index)) for index, level in enumerate(levels)]
        return torch.cat(grown, dim=1)


class Head(nn.Module):
    """From the merged map to one map in [0, 1] at full size, by two transposed convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 4
        self.layers = nn.Sequential(
            nn.Conv2d(width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.ConvTranspose2d(inner, 1, 2, stride=2),
        )  # fmt: skip

    def forward(self, merged: Tensor) -> Tensor:
        """Return [batch, 1, height, width]."""
        return torch.sigmoid(self.layers(merged))


@dataclass(frozen=True, slots=True)
class Maps:
    """What training looks at, each [batch, 1, height, width] in [0, 1]: P, T and the approximate bitmap."""

    probability: Tensor
    threshold: Tensor
    binary: Tensor


class HardDetector(nn.Module):
    """Backbone, pyramid and probability head: from pixels to P. Pixels are scaled inside, so clients send bytes.

    Shapes:
        image: [batch, 3, height, width], levels 0 to 255, uint8 or any float dtype.
        returns: float32 [batch, 1, height, width].
    """

    def __init__(self, backbone: nn.Module, pyramid: Pyramid, probability_head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.probability_head = probability_head

    def merged(self, image: Tensor) -> Tensor:
        """Return the merged map at stride 4."""
        features: Tensor = self.pyramid(self.backbone(centred(image)))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return P."""
        probability: Tensor = self.probability_head(self.merged(image))
        return probability


class SoftDetector(HardDetector):
    """The trainable form: a threshold head beside the probability head, joined by a steep sigmoid.

    ``forward`` returns P, as the hard form does; :meth:`maps` returns what the loss needs.
    """

    def __init__(
        self, backbone: nn.Module, pyramid: Pyramid, probability_head: Head, threshold_head: Head, steepness: float
    ) -> None:
        super().__init__(backbone, pyramid, probability_head)
        self.threshold_head = threshold_head
        self.steepness = steepness

    def maps(self, image: Tensor) -> Maps:
        """Return P, T and ``sigmoid(k (P - T))``."""
        merged = self.merged(image)
        probability, threshold = self.probability_head(merged), self.threshold_head(merged)
        return Maps(probability, threshold, approximate_step(probability, threshold, self.steepness))


class SteppedDetector(nn.Module):
    """The network as it was trained, both heads and the steep sigmoid: what would be deployed without hardening."""

    def __init__(self, soft: SoftDetector) -> None:
        super().__init__()
        self.soft = soft

    def forward(self, image: Tensor) -> Tensor:
        """Return the approximate bitmap, float32 [batch, 1, height, width] in [0, 1]."""
        return self.soft.maps(image).binary


def centred(image: Tensor) -> Tensor:
    """Return levels 0 to 255 as float32 from -1 to 1."""
    return image.float() / 127.5 - 1.0


def _enlarged(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else F.interpolate(x, scale_factor=float(times), mode="nearest")
