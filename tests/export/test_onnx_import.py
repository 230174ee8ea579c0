"""Bundles around ONNX files that were made elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from deploykit import Dim, Signature, TensorSpec
from deploykit.errors import ExportError, SignatureError
from deploykit_export.heldout import HELDOUT, unpack
from deploykit_export.onnx_import import import_onnx, signature_of

TEXT = """
    <ir_version: 10, opset_import: ["" : 20]>
    agraph (float[N, 3] data) => (float[N, 3] result) { two = Constant<value_float = 2.0>() result = Mul(data, two) }
"""
IMAGE = """
    <ir_version: 10, opset_import: ["" : 20]>
    agraph (float[N, 1, Height, 8] x) => (float[N, 1, Height, 8] y) { y = Neg(x) }
"""


def model(text: str = TEXT) -> bytes:
    return bytes(parser.parse_model(text).SerializeToString())


def test_a_free_first_dimension_is_the_batch() -> None:
    signature = signature_of(parser.parse_model(IMAGE))
    assert signature.inputs[0].shape == ("batch", 1, "height", 8)
    assert signature.outputs[0].shape == ("batch", 1, "height", 8)


def test_answers_are_recorded_for_random_samples(tmp_path: Path) -> None:
    bundle = import_onnx(model(), tmp_path / "m.bundle")
    samples = unpack(bundle.read(HELDOUT))
    np.testing.assert_array_equal(samples["output"]["result"], 2 * samples["input"]["data"])
    assert len(samples["input"]["data"]) > 1
    assert bundle.manifest.name == "m"


def test_tensors_take_the_names_of_the_signature(tmp_path: Path) -> None:
    signature = Signature(
        inputs=(TensorSpec(name="image", shape=("batch", 1, "height", 8)),),
        outputs=(TensorSpec(name="negative", shape=("batch", 1, "height", 8)),),
        dims={"height": Dim(min=4, multiple=4)},
    )
    image = np.arange(64, dtype=np.float32).reshape(2, 1, 4, 8)
    bundle = import_onnx(model(IMAGE), tmp_path / "m.bundle", signature=signature, samples={"image": image})
    written = onnx.load_from_string(bundle.read("models/onnx.onnx"))
    assert [value.name for value in (*written.graph.input, *written.graph.output)] == ["image", "negative"]
    np.testing.assert_array_equal(unpack(bundle.read(HELDOUT))["output"]["negative"], -image)


def test_free_sizes_need_samples(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"free sizes \['height'\]: give samples"):
        import_onnx(model(IMAGE), tmp_path / "m.bundle")
    assert not (tmp_path / "m.bundle").exists()


def test_samples_must_fit(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="wanted float32"):
        import_onnx(model(), tmp_path / "m.bundle", samples={"data": np.zeros((2, 3), np.float64)})


def test_a_signature_of_other_tensors_is_refused(tmp_path: Path) -> None:
    spec = TensorSpec(name="a", shape=("batch", 3))
    signature = Signature(
        inputs=(spec, TensorSpec(name="b", shape=("batch",))), outputs=(TensorSpec(name="c", shape=("batch", 3)),)
    )
    with pytest.raises(ExportError, match="has 1 inputs; the signature names 2"):
        import_onnx(model(), tmp_path / "m.bundle", signature=signature)


@pytest.mark.parametrize("data", [b"", b"not a model", model()[:-20]])
def test_what_is_no_model_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"not a valid ONNX model|does not run"):
        import_onnx(data, tmp_path / "m.bundle")


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    graph = parser.parse_model(TEXT)
    tensor = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    graph.graph.initializer.append(tensor)
    with pytest.raises(ExportError, match=r"not a valid ONNX model|other files"):
        import_onnx(graph.SerializeToString(), tmp_path / "m.bundle")
