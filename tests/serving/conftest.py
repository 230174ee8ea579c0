"""Small bundles written as ONNX text, and one real server over them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from deploykit.bundle_writer import write_bundle
from deploykit_serving.launch import running

Named = dict[str, NDArray[Any]]

AFFINE = """
<ir_version: 8, opset_import: ["" : 18]>
affine (float[batch, 4] x) => (float[batch, 3] y)
<float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[3] b = {0.5, -0.5, 0.25}>
{ h = MatMul(x, w)
  y = Add(h, b) }
"""
AFFINE_SINGLE = AFFINE.replace("batch", "1")
DOUBLED = """
<ir_version: 8, opset_import: ["" : 18]>
doubled (float[batch, 4] x) => (float[batch, 3] y)
<float[4, 3] w = {2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24}, float[3] b = {1.0, -1.0, 0.5}>
{ h = MatMul(x, w)
  y = Add(h, b) }
"""
MIXED = """
<ir_version: 8, opset_import: ["" : 18]>
mixed (bool[batch, n] flag,
  uint8[batch, n] small, int64[batch, n] big, double[batch, n] wide, float16[batch, n] half)
  => (bool[batch, n] not_flag,
  uint8[batch, n] same, int64[batch, n] less, double[batch, n] twice, float16[batch, n] neg)
{ not_flag = Not(flag)
  same = Identity(small)
  less = Neg(big)
  twice = Add(wide, wide)
  neg = Neg(half) }
"""


def model_bytes(text: str) -> bytes:
    """Return an ONNX model, checked, from its text."""
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def affine_manifest(name: str = "affine", **changes: Any) -> dict[str, Any]:
    """Return the manifest of a model from 4 numbers in -10 to 10 to 3."""
    return {
        "name": name,
        "created": "2026-01-01T00:00:00Z",
        "method": "plain.passthrough",
        "signature": {
            "inputs": [{"name": "x", "shape": ["batch", 4], "minimum": -10, "maximum": 10}],
            "outputs": [{"name": "y", "shape": ["batch", 3]}],
            "dims": {"batch": {"max": 4096}},
        },
        "variants": [{"name": "onnx", "file": "models/onnx.onnx"}],
        **changes,
    }


def affine(x: NDArray[Any]) -> NDArray[Any]:
    """Return what the affine model must answer."""
    weights = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    return x @ weights + np.array([0.5, -0.5, 0.25], np.float32)


def packed(inputs: Named, outputs: Named) -> bytes:
    """Return held-out samples as the exporter writes them."""
    buffer = io.BytesIO()
    groups = {"input": inputs, "output": outputs}
    flat: dict[str, Any] = {
        f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()
    }
    np.savez(buffer, **flat)
    return buffer.getvalue()


def affine_samples(count: int = 40) -> bytes:
    """Return samples whose sums are exact in float32, so that they hold with no tolerance."""
    x = (np.arange(count * 4, dtype=np.float32).reshape(count, 4) % 17) / 2 - 4
    return packed({"x": x}, {"y": affine(x)})


WriteAffine = Callable[..., Path]


@pytest.fixture(scope="session")
def write_affine() -> WriteAffine:
    """Return a function that writes an affine bundle: ``write(folder, name, files=..., **manifest)``."""

    def write(folder: Path, name: str = "affine", files: dict[str, bytes] | None = None, **changes: Any) -> Path:
        contents = {"models/onnx.onnx": model_bytes(AFFINE), "samples/heldout.npz": affine_samples()}
        return write_bundle(folder / f"{name}.bundle", affine_manifest(name, **changes), contents | (files or {})).path

    return write


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, write_affine: WriteAffine) -> list[Path]:
    """Two models: ``affine`` with a single-sample variant and a float baseline, and ``mixed`` with many dtypes."""
    folder = tmp_path_factory.mktemp("bundles")
    several = write_affine(
        folder,
        files={"models/single.onnx": model_bytes(AFFINE_SINGLE), "models/float.onnx": model_bytes(DOUBLED)},
        variants=[
            {"name": "float", "role": "baseline", "file": "models/float.onnx"},
            {"name": "onnx", "file": "models/onnx.onnx"},
            {"name": "single", "file": "models/single.onnx", "dynamic_batch": False},
            {"name": "trt", "file": "models/onnx.onnx", "targets": ["tensorrt"]},
        ],
    )
    pairs = [("flag", "bool"), ("small", "uint8"), ("big", "int64"), ("wide", "float64"), ("half", "float16")]
    results = ["not_flag", "same", "less", "twice", "neg"]
    manifest = affine_manifest(
        "mixed",
        signature={
            "inputs": [{"name": name, "dtype": dtype, "shape": ["batch", "n"]} for name, dtype in pairs],
            "outputs": [
                {"name": name, "dtype": dtype, "shape": ["batch", "n"]}
                for name, (_, dtype) in zip(results, pairs, strict=True)
            ],
        },
    )
    mixed = write_bundle(folder / "mixed.bundle", manifest, {"models/onnx.onnx": model_bytes(MIXED)}).path
    return [several, mixed]


@pytest.fixture(scope="session")
def server(bundles: list[Path]) -> Iterator[str]:
    """The base URL of a real server over both models."""
    with running(bundles) as url:
        yield url


@pytest.fixture(scope="session")
def samples() -> Callable[..., bytes]:
    """Return a function that writes samples whose first answer is off by ``offset``."""

    def write(offset: float = 0.0) -> bytes:
        x = (np.arange(160, dtype=np.float32).reshape(40, 4) % 17) / 2 - 4
        y = affine(x)
        y[0] += np.float32(offset)
        return packed({"x": x}, {"y": y})

    return write
