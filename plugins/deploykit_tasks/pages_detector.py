"""Somebody else's text detector, to check ours against: PP-OCRv4 as the package rapidocr-onnxruntime ships it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit import Dim, Signature, TensorSpec
from deploykit.errors import MissingExtraError

SHORT_SIDE: Final = 736
DECODER_SETTINGS: Final[dict[str, Any]] = {
    "threshold": 0.3,
    "box_threshold": 0.5,
    "unclip_ratio": 1.6,
    "max_candidates": 1000,
    "dilate": True,
}
"""Settings of the decoder ``text-boxes`` that RapidOCR's own configuration file has."""


def detector_file() -> Path:
    """Return where the model lies; the package is found, not imported.

    Raises:
        MissingExtraError: rapidocr-onnxruntime is not installed.
    """
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or spec.submodule_search_locations is None:
        # Without its dependencies: it wants opencv-python, which fights with opencv-python-headless over one folder.
        raise MissingExtraError("rapidocr-onnxruntime (install it with pip's --no-deps)", "text")
    return Path(spec.submodule_search_locations[0], "models", "ch_PP-OCRv4_det_infer.onnx")


def detector_model() -> tuple[bytes, Signature]:
    """Return the ONNX file (4.7 MB, opset 12) and a signature with names that match our own detector's.

    The file itself calls its tensors ``x`` and ``sigmoid_0.tmp_0``; inputs are in the order of the signature.
    """
    side = Dim(min=32, max=4096, multiple=32)
    signature = Signature(
        inputs=(
            TensorSpec(
                name="image",
                shape=("batch", 3, "height", "width"),
                minimum=-1.0,
                maximum=1.0,
                description="BGR as level / 127.5 - 1",
            ),
        ),
        outputs=(TensorSpec(name="probability", shape=("batch", 1, "height", "width"), minimum=0.0, maximum=1.0),),
        dims={"batch": Dim(min=1, max=64), "height": side, "width": side},
    )
    return detector_file().read_bytes(), signature


def detector_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn RGB pixels uint8[batch, 3, height, width] into what the detector takes, float32 of the same shape."""
    levels: NDArray[np.float32] = image[:, ::-1].astype(np.float32) / 127.5 - 1.0
    return levels
