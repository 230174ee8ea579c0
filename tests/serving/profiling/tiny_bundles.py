"""Bundles small enough to measure in a test, written from ONNX text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.bundle_writer import write_bundle
from deploykit.signature import Dim, Signature, TensorSpec

FEATURES = 4


def sum_model(name: str = "x", factor: float = 1.0) -> bytes:
    """y = the sum of each row, times a factor: next to no work."""
    body = f"""
    axes = Constant <value_ints = [1]> ()
    f = Constant <value_float = {factor}> ()
    s = ReduceSum <keepdims = 1> ({name}, axes)
    y = Mul (s, f)
    """
    return _onnx(body, name)


def slow_sum_model(products: int = 30, width: int = 256) -> bytes:
    """The same answer behind a chain of matrix products, so that it takes many times as long."""
    lines = [f"n = Constant <value_ints = [{FEATURES}, {width}]> ()", "w = ConstantOfShape (n)"]
    lines += [f"m = Constant <value_ints = [{width}, {width}]> ()", "v = ConstantOfShape (m)", "h0 = MatMul (x, w)"]
    lines += [f"h{i + 1} = MatMul (h{i}, v)" for i in range(products)]
    lines += ["axes = Constant <value_ints = [1]> ()", f"z = ReduceSum <keepdims = 1> (h{products}, axes)"]
    lines += ["s = ReduceSum <keepdims = 1> (x, axes)", "y = Add (s, z)"]
    return _onnx("\n".join(lines))


def write_tiny(
    path: Path,
    *,
    hard: bytes | None = None,
    baseline: bytes | None = None,
    samples: NDArray[Any] | None = None,
    largest: int | None = 8,
    dynamic_batch: bool = True,
) -> Bundle:
    files = {"models/hard.onnx": hard or sum_model()}
    variants: list[dict[str, Any]] = [{"name": "hard", "file": "models/hard.onnx", "dynamic_batch": dynamic_batch}]
    if baseline is not None:
        files["models/float.onnx"] = baseline
        variants.append({"name": "float", "role": "baseline", "file": "models/float.onnx"})
    if samples is not None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{"input/x": samples})
        files["samples/heldout.npz"] = buffer.getvalue()
    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", FEATURES), minimum=0.0, maximum=2.0),),
        outputs=(TensorSpec(name="y", shape=("batch", 1)),),
        dims={"batch": Dim(max=largest)},
    )
    fields = {
        "name": path.stem,
        "created": "2026-01-01T00:00:00Z",
        "method": "plain.passthrough",
        "signature": signature,
        "variants": variants,
    }
    return write_bundle(path, fields, files)


def _onnx(body: str, name: str = "x") -> bytes:
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    tiny (float[batch, {FEATURES}] {name}) => (float[batch, 1] y) {{ {body} }}
    """
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
