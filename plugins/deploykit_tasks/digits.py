"""Handwritten digits: the UCI test set that scikit-learn ships (1 797 images, 8 x 8, values 0 to 16)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit import Dim, Samples, Signature, Task, TensorSpec
from deploykit.errors import UnknownNameError
from deploykit.signature import Arrays
from deploykit.task import Split, Targets

_TEST_EVERY: Final = 4
_CALIBRATION: Final = 64


class Digits(Task):
    """Classify 8 x 8 grey digits; inputs keep their integer levels 0 to 16 as float32.

    Every fourth image is for testing (450), the rest for training (1 347); the first 64 training images also serve
    for calibration. The order is scikit-learn's, in which writers do not repeat in any simple pattern.
    """

    epochs = 20
    batch_size = 64

    @property
    def signature(self) -> Signature:
        """One image in, ten logits out."""
        return Signature(
            inputs=(
                TensorSpec(
                    name="image",
                    shape=("batch", 1, 8, 8),
                    minimum=0.0,
                    maximum=16.0,
                    description="grey levels, 0 is background",
                ),
            ),
            outputs=(TensorSpec(name="logits", shape=("batch", 10), description="one score a class; argmax decides"),),
            dims={"batch": Dim(min=1, max=4096)},
        )

    def samples(self, split: Split) -> Samples:
        """Return images and labels of a split."""
        images, labels = _load()
        index = np.arange(len(labels))
        testing = index % _TEST_EVERY == 0
        chosen = index[testing] if split == "test" else index[~testing]
        if split == "calibration":
            chosen = chosen[:_CALIBRATION]
        return Samples(inputs={"image": images[chosen]}, targets={"label": labels[chosen]})

    def network(self, name: str = "") -> nn.Module:
        """Return ``conv`` (default): three convolutions and a classifier; or ``mlp``: one hidden layer of 128."""
        match name or "conv":
            case "conv":
                return nn.Sequential(
                    *_block(1, 32), *_block(32, 64), nn.MaxPool2d(2), *_block(64, 64), nn.MaxPool2d(2),
                    nn.Flatten(), nn.Linear(64 * 4, 10),
                )  # fmt: skip
            case "mlp":
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        raise UnknownNameError(f"task 'digits' has no network {name!r}; it has 'conv' and 'mlp'")

    def loss(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs["logits"], targets["label"])

    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return the share of images whose largest logit is at their label."""
        return float((outputs["logits"].argmax(axis=1) == samples.targets["label"]).mean())


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()


@functools.cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.float32)[:, None]
    return images, bunch.target.astype(np.int64)
