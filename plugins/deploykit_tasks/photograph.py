"""A photograph as a function: from a pixel's coordinates to its grey level."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit import Dim, Samples, Signature, Task, TensorSpec
from deploykit.errors import UnknownNameError
from deploykit.signature import Arrays
from deploykit.task import Split, Targets

SIDE: Final = 128
"""Pixels of a row and of a column."""

_OMEGA: Final = 30.0
_LAYERS: Final = 3
_WIDTHS: Final = {"siren": 64, "siren-small": 32}
_CALIBRATION: Final = 64
_BEST: Final = 100.0


class Sine(nn.Module):
    """``sin(omega x)``; a Linear before it makes a SIREN's layer, ``sin(omega (W x + b))``.

    Args:
        omega: radians a unit of ``x``.

    Source: Sitzmann et al. 2020, "Implicit neural representations with periodic activation functions", section 3.2.
    """

    def __init__(self, omega: float = _OMEGA) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Return the sines, in the shape of ``x``."""
        return torch.sin(self.omega * x)

    def extra_repr(self) -> str:
        """Say omega."""
        return f"omega={self.omega:g}"


class Photograph(Task):
    """Find a network that gives scikit-image's ``camera`` at 128 x 128 pixels, grey, from coordinates.

    The picture is the mean over blocks of 4 x 4 of the original's 512 x 512 pixels. A sample is one pixel: its centre's
    x to the right and y downwards, the picture's borders at -1 and 1; and its level, black at -1 and white at 1.

    **What is held out.** A neural image is meant to learn its own pixels by heart, so there is nothing it must do well
    on what it has not seen. The rule that test samples are never trained on holds here all the same: one pixel of
    each 4 x 4 block (1 024 of 16 384, on a regular lattice) is for testing and the other 15 360 for training, so the
    metric on ``test`` is the quality of pixels filled in between neighbours that were stored. It is lower than that of
    the stored ones and says little of compression: for that, ``deploykit_tasks.photograph_rates.picture_psnr`` measures
    all pixels, the few held out ones included, which is what figures about this task report.

    Splits are in a fixed order drawn by chance, so that any few of them lie all over the picture. The first 64 training
    pixels are for calibration too.
    """

    metric_name = "PSNR in dB"
    epochs = 800
    batch_size = 2048
    max_loss = 0.5

    @property
    def signature(self) -> Signature:
        """One coordinate in, one grey level out."""
        return Signature(
            inputs=(
                TensorSpec(
                    name="position",
                    shape=("batch", 2),
                    minimum=-1.0,
                    maximum=1.0,
                    description="x to the right, y downwards; the picture's borders are at -1 and 1",
                ),
            ),
            outputs=(
                TensorSpec(name="grey", shape=("batch", 1), description="-1 is black, 1 is white; may go beyond"),
            ),
            dims={"batch": Dim(min=1, max=SIDE * SIDE)},
        )

    def samples(self, split: Split) -> Samples:
        """Return positions and levels of a split's pixels."""
        chosen = _order(split)
        return Samples(inputs={"position": positions()[chosen]}, targets={"grey": _levels()[chosen]})

    def network(self, name: str = "") -> nn.Module:
        """Return ``siren`` (default), three layers of 64 sines and a linear one; or ``siren-small``, 32 sines each.

        Initialised as Sitzmann et al. 2020, section 3.2: the first layer uniformly within 1 / inputs, the others
        within sqrt(6 / inputs) / omega. Biases as PyTorch does, as in the authors' code.
        """
        if (width := _WIDTHS.get(name or "siren")) is None:
            raise UnknownNameError(
                f"task 'photograph' has no network {name!r}; it has {' and '.join(map(repr, _WIDTHS))}"
            )
        sizes = [2, *[width] * _LAYERS, 1]
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            linear = nn.Linear(inputs, outputs)
            bound = 1 / inputs if index == 0 else math.sqrt(6 / inputs) / _OMEGA
            nn.init.uniform_(linear.weight, -bound, bound)
            layers += [linear, Sine()]
        return nn.Sequential(*layers[:-1])

    def loss(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return the mean squared error of the levels."""
        return F.mse_loss(outputs["grey"], targets["grey"])

    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return the peak signal-to-noise ratio of these pixels in dB, the peak from black to white; at most 100.

        Levels beyond black and white count as these, as on any screen; they are not rounded to 256 levels.
        """
        return psnr(outputs["grey"], samples.targets["grey"])


def psnr(levels: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return 10 log10(2^2 / mean squared error) in dB, levels from -1 to 1; those beyond are cut off; at most 100."""
    shown = np.clip(levels.astype(np.float64), -1.0, 1.0)
    error = float(np.mean((shown - reference.astype(np.float64)) ** 2))
    return _BEST if error < 4 / 10 ** (_BEST / 10) else 10 * math.log10(4 / error)


@functools.cache
def picture() -> NDArray[np.float64]:
    """Return the picture: grey levels from 0 to 255, means of 16 pixels, as float64[128, 128]."""
    import skimage.data

    original = skimage.data.camera()
    block = original.shape[0] // SIDE
    levels: NDArray[np.float64] = original.reshape(SIDE, block, SIDE, block).astype(np.float64).mean(axis=(1, 3))
    levels.setflags(write=False)
    return levels


@functools.cache
def positions() -> NDArray[np.float32]:
    """Return the centres of all pixels, row by row, as float32[16384, 2]: x, y."""
    centres = (2 * np.arange(SIDE) + 1) / SIDE - 1
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def _levels() -> NDArray[np.float32]:
    return (picture().reshape(-1, 1) / 127.5 - 1).astype(np.float32)


@functools.cache
def _order(split: Split) -> NDArray[np.int64]:
    index: NDArray[np.int64] = np.random.default_rng(0).permutation(SIDE * SIDE)
    row, column = index // SIDE, index % SIDE
    testing = (row % 4 == 1) & (column % 4 == 2)
    chosen: NDArray[np.int64] = index[testing if split == "test" else ~testing]
    return chosen[:_CALIBRATION] if split == "calibration" else chosen
