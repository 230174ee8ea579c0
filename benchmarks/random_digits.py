"""Classifiers of digits of any cost within seconds: random convolutions, and a readout fitted by ridge regression."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

SIGNATURE: Final = {
    "inputs": [{"name": "image", "shape": ["batch", 1, 8, 8], "minimum": 0, "maximum": 16}],
    "outputs": [{"name": "scores", "shape": ["batch", 10]}],
}
_TRAINED: Final = 1200
_RIDGE: Final = 1e-2


def held_out_images() -> NDArray[np.float32]:
    """Return the images that nothing is fitted to; shape (images, 1, 8, 8)."""
    images: NDArray[np.float32] = load_digits().images.astype(np.float32)[_TRAINED:, None]
    return images


def classifier(channels: int) -> tuple[bytes, float]:
    """Return an ONNX file and its accuracy on the images that it was not fitted to."""
    digits = load_digits()
    images, labels = digits.images.astype(np.float32)[:, None], digits.target
    random = np.random.default_rng(channels)
    width = 16 * channels  # numbers after pooling
    sizes = [(channels, 1), (channels, channels), (channels, channels)]
    weights = [
        (random.normal(size=(out, into, 3, 3)) * np.sqrt(2 / (9 * into))).astype(np.float32) for out, into in sizes
    ]
    weights[0] /= 16
    readout = np.zeros((width, 10), np.float32)
    features = _run(_onnx(weights, readout, channels, "features"), images)
    centred = features - features[:_TRAINED].mean(axis=0)
    fitted = centred[:_TRAINED].astype(np.float64)
    gram = fitted @ fitted.T
    targets = 2.0 * (labels[:_TRAINED, None] == np.arange(10)) - 1
    dual = np.linalg.solve(gram + _RIDGE * np.trace(gram) / _TRAINED * np.eye(_TRAINED), targets)
    readout = (fitted.T @ dual).astype(np.float32)
    offset = -(features[:_TRAINED].mean(axis=0) @ readout)
    model = _onnx(weights, readout, channels, "scores", offset)
    right = _run(model, images[_TRAINED:]).argmax(axis=1) == labels[_TRAINED:]
    return model, float(right.mean())


def _onnx(weights: list[Any], readout: Any, channels: int, output: str, offset: Any = None) -> bytes:
    names = [f"w{number}" for number in range(len(weights))]
    offset = np.zeros(10, np.float32) if offset is None else offset.astype(np.float32)
    constants = dict(zip(names, weights, strict=True)) | {"r": readout, "o": offset}
    nodes, last = [], "image"
    for number, name in enumerate(names):
        nodes.append(helper.make_node("Conv", [last, name], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [last := f"a{number}"]))
    nodes.append(helper.make_node("AveragePool", [last], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    nodes.append(helper.make_node("Gemm", ["features", "r", "o"], ["scores"]))
    size = 16 * channels if output == "features" else 10
    graph = helper.make_graph(
        nodes if output == "scores" else nodes[:-1], "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _run(model: bytes, images: NDArray[Any]) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the features' file still holds the readout
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": part})[0] for part in np.array_split(images, 8)])
