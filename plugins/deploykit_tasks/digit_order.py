"""Sets of two-digit numbers, written with real handwritten digits: put each set in ascending order."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit import Dim, Samples, Signature, Task, TensorSpec
from deploykit.errors import UnknownNameError
from deploykit.signature import Arrays
from deploykit.task import Split, Targets
from deploykit_tasks.digits import Digits

ITEMS: Final = 5
_COUNTS: Final[Mapping[Split, int]] = {"train": 4000, "calibration": 64, "test": 600}
_SEEDS: Final[Mapping[Split, int]] = {"train": 1, "calibration": 2, "test": 3}


class DigitOrder(Task):
    """Order the numbers of a set, each an image of 8 x 16 made of two digits of 8 x 8, tens on the left.

    A set has five different numbers from 0 to 99, so that its order is unique; networks may take 2 to 32 of them. The
    digits come from the task ``digits``: those of the test sets are never in the other sets. Which digits make which
    set is drawn from a seed, the same for everybody.

    Targets: ``rank`` int64 [n, items], the place of each number, 0 for the smallest; ``number`` int64 [n, items].

    Source: a small relative of the four-digit MNIST task that Petersen et al. 2022 train sorting networks on. As there,
    losses see the order only; the numbers are for whoever wants to look.
    """

    metric_name = "share of items at their place"
    epochs = 15
    batch_size = 50

    @property
    def signature(self) -> Signature:
        """A set of images in, a number for each image out."""
        return Signature(
            inputs=(
                TensorSpec(
                    name="images",
                    shape=("batch", "items", 1, 8, 16),
                    minimum=0.0,
                    maximum=16.0,
                    description="grey levels of two digits side by side, 0 is background",
                ),
            ),
            outputs=(
                TensorSpec(
                    name="rank",
                    shape=("batch", "items"),
                    description="place in ascending order, 0 for the smallest; of soft forms and plain networks only "
                    "the order of the values counts",
                ),
            ),
            dims={"batch": Dim(min=1, max=1024), "items": Dim(min=2, max=32)},
        )

    def samples(self, split: Split) -> Samples:
        """Return the sets of a split."""
        images, numbers = _sets(split)
        return Samples(inputs={"images": images}, targets={"rank": _places(numbers), "number": numbers})

    def network(self, name: str = "") -> nn.Module:
        """Return ``conv`` (default) or ``mlp``: a network that scores each image, the same for all items."""
        match name or "conv":
            case "conv":
                return ItemScores(
                    *_block(1, 16), *_block(16, 32), nn.MaxPool2d(2), *_block(32, 32), nn.MaxPool2d(2),
                    nn.Flatten(), nn.Linear(32 * 8, 64), nn.ReLU(), nn.Linear(64, 1),
                )  # fmt: skip
            case "mlp":
                return ItemScores(nn.Flatten(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
        raise UnknownNameError(f"task 'digit-order' has no network {name!r}; it has 'conv' and 'mlp'")

    def loss(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return the mean logistic loss over all pairs of a set: the larger number should get the larger value.

        Source: Burges et al. 2005, "Learning to Rank using Gradient Descent".
        """
        value, rank = outputs["rank"], targets["rank"]
        above = rank.unsqueeze(2) > rank.unsqueeze(1)
        return F.softplus(value.unsqueeze(1) - value.unsqueeze(2))[above].mean()

    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return the share of items that are at their place when a set is ordered by its values, ties stably."""
        return float((_places(outputs["rank"]) == samples.targets["rank"]).mean())

    def exact_match(self, outputs: Arrays, samples: Samples) -> float:
        """Return the share of sets in which every item is at its place; never above :meth:`metric`."""
        return float((_places(outputs["rank"]) == samples.targets["rank"]).all(axis=1).mean())


class ItemScores(nn.Sequential):
    """Layers that score one image, run on every item of a set.

    Shapes:
        images: (batch, items, channels, height, width).
        returns: (batch, items).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Score all items as one batch."""
        scores: Tensor = super().forward(images.flatten(0, 1))  # type: ignore[no-untyped-call]
        return scores.reshape(images.shape[0], images.shape[1])


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()


def _places(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place of each value in its row, equal ones in the order they stand: int64 of the same shape."""
    return values.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")


@functools.cache
def _sets(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    digits = Digits().samples("test" if split == "test" else "train")
    drawings, labels = digits.inputs["image"][:, 0], digits.targets["label"]
    by_label = [np.flatnonzero(labels == label) for label in range(10)]
    chance = np.random.default_rng(_SEEDS[split])
    count = _COUNTS[split]
    numbers = np.stack([chance.choice(100, size=ITEMS, replace=False) for _ in range(count)]).astype(np.int64)
    images = np.zeros((count, ITEMS, 1, 8, 16), np.float32)
    for row, item in np.ndindex(count, ITEMS):
        tens, units = divmod(int(numbers[row, item]), 10)
        images[row, item, 0, :, :8] = drawings[chance.choice(by_label[tens])]
        images[row, item, 0, :, 8:] = drawings[chance.choice(by_label[units])]
    for array in (images, numbers):
        array.setflags(write=False)  # the cache hands the same arrays to everybody
    return images, numbers
