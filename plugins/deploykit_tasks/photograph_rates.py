"""What a neural image and a JPEG file give for their bytes, on the task's photograph."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit import Samples
from deploykit_tasks.photograph import SIDE, picture, positions, psnr

Answer = Callable[[NDArray[np.float32]], NDArray[Any]]


def whole_picture() -> Samples:
    """Return all 16 384 pixels, row by row: what a neural image stores. 1 024 of them are the task's test samples."""
    levels = (picture().reshape(-1, 1) / 127.5 - 1).astype(np.float32)
    return Samples(inputs={"position": positions()}, targets={"grey": levels})


def picture_psnr(answer: Answer) -> float:
    """Return the PSNR over the whole picture in dB.

    Args:
        answer: from positions, float32[n, 2], to grey levels from -1 to 1, [n, 1].
    """
    samples = whole_picture()
    return psnr(answer(samples.inputs["position"]), samples.targets["grey"])


def bits_per_pixel(count: int) -> float:
    """Return 8 x bytes / pixels of the picture."""
    return 8 * count / SIDE**2


def jpeg_psnr(at_most: int) -> tuple[float, int]:
    """Return the best PSNR of a grey JPEG file of at most so many bytes, headers included, and its bytes.

    Pillow writes it, with Huffman tables made for the picture, at the highest quality that fits. The reference is the
    picture before it is rounded to 256 levels, as for neural images.

    Raises:
        ValueError: not even the lowest quality fits.
    """
    from PIL import Image

    whole = Image.fromarray(np.round(picture()).astype(np.uint8))
    best: tuple[float, int] | None = None
    for quality in range(1, 101):
        file = io.BytesIO()
        whole.save(file, "JPEG", quality=quality, optimize=True)
        if len(file.getvalue()) > at_most:
            continue
        shown = np.asarray(Image.open(file)).astype(np.float64) / 127.5 - 1
        found = psnr(shown, picture() / 127.5 - 1)
        if best is None or found > best[0]:
            best = found, len(file.getvalue())
    if best is None:
        raise ValueError(f"no JPEG of this picture takes at most {at_most} bytes")
    return best
