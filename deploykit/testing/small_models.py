"""Small ONNX files with their signatures, for tests of targets and runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import onnx

from deploykit.signature import Signature, TensorSpec

_AFFINE: Final = """
<ir_version: 8, opset_import: ["" : 18]>
affine (float[batch, 4] x) => (float[batch, 3] y)
<float[4, 3] w = {1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12}, float[3] b = {0.5, -0.5, 0.25}>
{ h = MatMul(x, w)
  y = Add(h, b) }
"""
_CONVOLUTION: Final = """
<ir_version: 8, opset_import: ["" : 18]>
convolution (float[batch, 1, 6, 6] image) => (float[batch, 2] score)
<float[2, 1, 3, 3] w = {1, 0, -1, 2, 0, -2, 1, 0, -1, 1, 2, 1, 0, 0, 0, -1, -2, -1}>
{ h = Conv <pads: ints = [1, 1, 1, 1]> (image, w)
  r = Relu(h)
  p = GlobalAveragePool(r)
  score = Flatten(p) }
"""
_CHOICE: Final = """
<ir_version: 8, opset_import: ["" : 18]>
choice (float[batch, 5] x) => (int64[batch] best, float[batch, 5] kept)
<float zero = {0}>
{ best = ArgMax <axis: int = 1, keepdims: int = 0> (x)
  positive = Greater(x, zero)
  kept = Where(positive, x, zero) }
"""


@dataclass(frozen=True, slots=True)
class SmallModel:
    """A model that fits into a few lines."""

    name: str
    data: bytes
    signature: Signature


def small_models() -> tuple[SmallModel, ...]:
    """Return a matrix product, a convolution and a choice with an integer output; batches are free."""
    best = TensorSpec(name="best", dtype="int64", shape=("batch",))
    return (
        _model("affine", _AFFINE, (_spec("x", 4),), (_spec("y", 3),)),
        _model("convolution", _CONVOLUTION, (_spec("image", 1, 6, 6),), (_spec("score", 2),)),
        _model("choice", _CHOICE, (_spec("x", 5),), (best, _spec("kept", 5))),
    )


def _model(name: str, text: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> SmallModel:
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return SmallModel(name, model.SerializeToString(), Signature(inputs=inputs, outputs=outputs))


def _spec(name: str, *sizes: int) -> TensorSpec:
    return TensorSpec(name=name, shape=("batch", *sizes))
