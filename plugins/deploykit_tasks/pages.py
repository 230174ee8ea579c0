"""Generated text pages: find the lines of text on an image."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit import Dim, Samples, Signature, Task, TensorSpec, make_decoder
from deploykit.errors import UnknownNameError
from deploykit.signature import Arrays
from deploykit.task import Split, Targets
from deploykit_tasks.pages_drawing import MAX_LINES, Page, draw_page
from deploykit_tasks.pages_fonts import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from deploykit_tasks.pages_network import Segmenter
from deploykit_tasks.pages_scores import Score, score_page, total

PAGE_SIZE: Final = 256
_TRAINING_PHOTOGRAPHS: Final = ("camera", "coffee", "brick", "grass", "gravel")
_TEST_PHOTOGRAPHS: Final = ("chelsea", "rocket")
_COUNTS: Final[Mapping[Split, int]] = {"train": 1000, "calibration": 32, "test": 120}
_DECODING: Final[Mapping[str, Any]] = {"unclip_ratio": 0.9, "score_over": "outline"}  # as binarized.db has it decoded
_SEEDS: Final[Mapping[Split, int]] = {"train": 1, "calibration": 2, "test": 3}


class Pages(Task):
    """Find lines of text on pages of 256 x 256 pixels, drawn anew from a seed and never stored.

    Real fonts, several sizes and colours; plain, graded and photographic backgrounds; turned by up to 8 degrees. The
    splits have seeds of their own. Test pages lie on photographs that training never shows, and every second one is
    set in typefaces that training never shows (target ``held_out``).

    Targets: ``quads`` float32 [n, 24, 4, 2], the lines' boxes as x, y of TL, TR, BR, BL in pixels, unused rows 0;
    ``lines`` int64 [n], how many rows are used; ``held_out`` int64 [n], 1 for pages in typefaces held out.
    """

    metric_name = "F1 at IoU 0.5"
    epochs = 20
    batch_size = 8

    @property
    def signature(self) -> Signature:
        """One RGB image in, one probability map of the same size out; both sides are multiples of 32."""
        side = Dim(min=32, max=2048, multiple=32)
        return Signature(
            inputs=(
                TensorSpec(
                    name="image",
                    dtype="uint8",
                    shape=("batch", 3, "height", "width"),
                    description="RGB; scale or pad both sides to multiples of 32",
                ),
            ),
            outputs=(
                TensorSpec(
                    name="probability",
                    shape=("batch", 1, "height", "width"),
                    minimum=0.0,
                    maximum=1.0,
                    description="how sure a pixel is to lie in the core of a line of text",
                ),
            ),
            dims={"batch": Dim(min=1, max=128), "height": side, "width": side},
        )

    def samples(self, split: Split) -> Samples:
        """Return the pages of a split and their lines."""
        images, quads, lines, held_out = _pages(split)
        return Samples(inputs={"image": images}, targets={"quads": quads, "lines": lines, "held_out": held_out})

    def example(self, count: int = 2) -> tuple[Tensor, ...]:
        """Return the first training pages without drawing the others."""
        return (torch.from_numpy(np.stack([_draw("train", index)[0].image for index in range(count)])),)

    def network(self, name: str = "") -> nn.Module:
        """Return ``segmenter`` (default): a small encoder and decoder."""
        if name in {"", "segmenter"}:
            return Segmenter()
        raise UnknownNameError(f"task 'pages' has no network {name!r}; it has 'segmenter'")

    def loss(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return the mean binary cross-entropy against the filled boxes, text and background weighing the same.

        The boxes' short sides are halved first, so that neighbouring lines stay apart in the map.
        """
        probability = outputs["probability"]
        wanted = torch.from_numpy(
            _filled(targets["quads"].numpy(), targets["lines"].numpy(), probability.shape[-2], probability.shape[-1])
        )
        losses = F.binary_cross_entropy(probability[:, 0], wanted, reduction="none")
        text = wanted.sum()
        return 0.5 * (losses * wanted).sum() / (text + 1) + 0.5 * (losses * (1 - wanted)).sum() / (
            wanted.numel() - text + 1
        )

    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return the H-mean of precision and recall of the decoded boxes at an overlap of 0.5."""
        return self.score(outputs, samples).f1

    def score(self, outputs: Arrays, samples: Samples, settings: Mapping[str, Any] | None = None) -> Score:
        """Decode maps with ``text-boxes`` and count matches.

        Args:
            settings: the decoder's; by default growth by 0.9 and scores inside outlines.
        """
        decoded = make_decoder("text-boxes", dict(_DECODING if settings is None else settings)).decode(outputs)
        quads, lines = samples.targets["quads"], samples.targets["lines"]
        return total(
            score_page(decoded["boxes"][decoded["sample"] == index], quads[index, : lines[index]])
            for index in range(len(samples))
        )


def _draw(split: Split, index: int) -> tuple[Page, bool]:
    """Draw one page of a split and say whether its typeface is held out."""
    held_out = split == "test" and index % 2 == 1
    families = HELD_OUT_FAMILIES if held_out else TRAINING_FAMILIES
    photographs = _TEST_PHOTOGRAPHS if split == "test" else _TRAINING_PHOTOGRAPHS
    return draw_page(np.random.default_rng([_SEEDS[split], index]), PAGE_SIZE, families, photographs), held_out


@functools.cache
def _pages(split: Split) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    count = _COUNTS[split]
    images = np.zeros((count, 3, PAGE_SIZE, PAGE_SIZE), np.uint8)
    quads = np.zeros((count, MAX_LINES, 4, 2), np.float32)
    lines = np.zeros(count, np.int64)
    held_out = np.zeros(count, np.int64)
    for index in range(count):
        page, held_out[index] = _draw(split, index)
        images[index], lines[index] = page.image, len(page.quads)
        quads[index, : len(page.quads)] = page.quads
    for array in (images, quads, lines, held_out):
        array.setflags(write=False)  # the cache hands the same arrays to everybody
    return images, quads, lines, held_out


def _filled(quads: NDArray[Any], lines: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Return 1 inside the middle halves of the lines, else 0: float32 [n, height, width]."""
    masks = np.zeros((len(quads), height, width), np.float32)
    for mask, page, count in zip(masks, quads, lines, strict=True):
        for quad in page[:count]:
            upper, lower = quad[:2], quad[[3, 2]]
            middle = np.concatenate([0.75 * upper + 0.25 * lower, (0.25 * upper + 0.75 * lower)[::-1]])
            cv2.fillPoly(mask, [np.rint(middle).astype(np.int32)], 1.0)
    return masks
