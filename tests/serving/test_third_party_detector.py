"""A text detector somebody else trained, as a plain bundle: proven, served, its boxes decoded by the server."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import make_decoder
from deploykit.bundle import Bundle
from deploykit.errors import MissingExtraError
from deploykit_export.onnx_import import import_onnx
from deploykit_serving.client import infer
from deploykit_serving.launch import running
from deploykit_serving.runtimes import open_session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page() -> np.ndarray:
    """The photograph of a printed page that scikit-image ships, twice its size, cut to multiples of 32, as RGB."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed (extra: text)")
    grey = np.repeat(np.repeat(data.page(), 2, axis=0), 2, axis=1)
    height, width = (size // 32 * 32 for size in grey.shape)
    return np.repeat(grey[None, None, :height, :width], 3, axis=1)


@pytest.fixture(scope="module")
def bundle(page: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from deploykit_tasks.pages_detector import DECODER_SETTINGS, detector_input, detector_model

    try:
        data, signature = detector_model()
    except MissingExtraError as error:
        pytest.skip(str(error))
    return import_onnx(
        data, tmp_path_factory.mktemp("bundles") / "ppocr.bundle", signature=signature, decoder="text-boxes",
        decoder_config=DECODER_SETTINGS, samples={"image": detector_input(page)},
    )  # fmt: skip


def test_the_server_finds_the_lines_of_a_printed_page(bundle: Bundle, page: np.ndarray) -> None:
    from deploykit_tasks.pages_detector import detector_input

    inputs = {"image": detector_input(page)}
    raw = open_session(bundle.read("models/onnx.onnx")).run(inputs)
    decoder = make_decoder(bundle.manifest.decoder, bundle.manifest.decoder_config)
    wanted = decoder.decode(raw)
    with running([bundle.path], max_body=1 << 26) as url:
        answered = infer(url, "ppocr", inputs)
        boxes = infer(url, "ppocr", inputs, decode=True)
    np.testing.assert_array_equal(answered["probability"], raw["probability"])
    for name, array in wanted.items():
        np.testing.assert_array_equal(boxes[name], array)
    assert len(boxes["boxes"]) >= 5  # the page shows six lines
    assert boxes["boxes"].shape[1:] == (4, 2)
