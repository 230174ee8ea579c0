"""Somebody else's text detector: its own decoder against ours on its maps, and its boxes on the photograph."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from deploykit import make_decoder
from deploykit_binarized.text_boxes import ordered
from deploykit_tasks.pages_detector import DECODER_SETTINGS, SHORT_SIDE, detector_input, detector_model
from deploykit_tasks.pages_drawing import draw_page
from deploykit_tasks.pages_fonts import TRAINING_FAMILIES
from deploykit_tasks.pages_photographs import marked_photograph, resized, score_photograph

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr_onnxruntime") is None, reason="rapidocr-onnxruntime is not installed"
)


@pytest.mark.parametrize("picture", ["page", "generated"])
def test_boxes_equal_those_of_rapidocr(picture: str) -> None:
    """The same network's maps, decoded by us and by the package that ships it."""

    if picture == "page":
        image = resized(marked_photograph().image, 736)[0]
    else:
        pages = [draw_page(np.random.default_rng(seed), 256, TRAINING_FAMILIES, ("coffee",)).image for seed in range(4)]
        image = np.stack([cv2.resize(page.transpose(1, 2, 0), (512, 512)).transpose(2, 0, 1) for page in pages])
    session = onnxruntime.InferenceSession(detector_model()[0], providers=["CPUExecutionProvider"])
    probability = session.run(None, {session.get_inputs()[0].name: detector_input(image)})[0]
    ours = make_decoder("text-boxes", DECODER_SETTINGS).decode({"probability": probability})
    package: Any = importlib.import_module("rapidocr_onnxruntime.ch_ppocr_det.utils")
    theirs_of = package.DBPostProcess(
        thresh=0.3, box_thresh=0.5, max_candidates=1000, unclip_ratio=1.6, use_dilation=True
    )
    compared = 0
    for index, single in enumerate(probability):
        theirs, scores = theirs_of(single[None], single.shape[1:])
        mine = ours["boxes"][ours["sample"] == index]
        assert len(mine) == len(theirs)
        np.testing.assert_allclose(ours["scores"][ours["sample"] == index], scores, atol=1e-5)
        for box, other in zip(mine, theirs, strict=True):
            # Theirs cuts corners to whole pixels before growing them and rounds them afterwards.
            np.testing.assert_allclose(box, ordered(other.astype(np.float32)), atol=2.0)
        compared += len(mine)
    assert compared >= 5


def test_somebody_elses_detector_finds_lines_of_the_photograph() -> None:

    data, signature = detector_model()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert len(session.get_inputs()) == len(signature.inputs)
    assert len(session.get_outputs()) == len(signature.outputs)

    def detect(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        arrays = {"image": detector_input(image)}
        signature.check_inputs(arrays)
        (probability,) = session.run(None, {session.get_inputs()[0].name: arrays["image"]})
        signature.check_outputs({"probability": probability})
        return np.asarray(probability)

    score = score_photograph(detect, short_side=SHORT_SIDE, settings=DECODER_SETTINGS)
    assert score.precision == 1.0
    assert score.recall >= 5 / 7
