"""Which photographs of scikit-image the views are cut from; only such as lie inside its wheel."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploykit.task import Split

TRAINING_PHOTOGRAPHS: Final = (
    "astronaut", "brick", "chelsea", "grass", "hubble_deep_field", "immunohistochemistry", "moon", "page", "text",
)  # fmt: skip
TEST_PHOTOGRAPHS: Final = ("camera", "coffee", "coins", "gravel", "rocket")


def photographs_of(split: Split) -> tuple[str, ...]:
    """Return the names a split cuts from; the test split's are in no other."""
    return TEST_PHOTOGRAPHS if split == "test" else TRAINING_PHOTOGRAPHS


@functools.cache
def grey_photograph(name: str) -> NDArray[np.float32]:
    """Return an image of ``skimage.data`` in grey, from 0 to 1: float32[height, width]."""
    import skimage.color
    import skimage.data

    image = np.asarray(getattr(skimage.data, name)())
    grey = skimage.color.rgb2gray(image) if image.ndim == 3 else image / 255.0
    result = np.asarray(grey, np.float32)
    result.setflags(write=False)  # the cache hands the same array to everybody
    return result
