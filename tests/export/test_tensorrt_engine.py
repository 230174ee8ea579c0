"""Engines: built without a GPU by TensorRT-RTX; what is refused is named."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from onnx import parser

from deploykit import Dim, Signature, TensorSpec
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import ExportError, MissingExtraError
from deploykit.making import make_target
from deploykit_export import tensorrt_engine
from deploykit_export.bundle_targets import add_target, target_report
from deploykit_export.onnx_import import import_onnx
from deploykit_export.tensorrt_engine import build_engine, installed_builder

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed (extra: tensorrt-rtx)"
)
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 4)),), outputs=(TensorSpec(name="y", shape=("batch", 4)),)
)
GOOD = """<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }"""
REFUSED = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[batch, 4] x) => (int64[rank, found] y) { y = NonZero(x) }"""
QUANTIZED = """<ir_version: 10, opset_import: ["" : 20]>
    g (uint8[batch, 1, 4, 4] x) => (uint8[batch, 1, 2, 2] y)
    <float s = {1.0}, uint8 z = {0}, int8[1, 1, 3, 3] w = {1, 1, 1, 1, 1, 1, 1, 1, 1}, int8 wz = {0}>
    { y = QLinearConv(x, s, z, w, s, wz, s, z) }"""


def model(text: str) -> bytes:
    return bytes(parser.parse_model(text).SerializeToString())


@needs_rtx
def test_an_engine_is_built_for_a_named_target() -> None:
    engine = build_engine(model(GOOD), SIGNATURE, builder="tensorrt_rtx", target="SM120")
    assert (engine.builder, engine.target) == ("tensorrt_rtx", "SM120")
    assert engine.layers == 1
    assert engine.version
    assert len(engine.data) > 100


@needs_rtx
@pytest.mark.parametrize(("text", "operator"), [(REFUSED, "NonZero"), (QUANTIZED, "QLinearConv")])
def test_refused_operators_are_named(text: str, operator: str) -> None:
    with pytest.raises(ExportError, match=f"operators are refused: .*{operator}"):
        build_engine(model(text), SIGNATURE, builder="tensorrt_rtx")


@needs_rtx
def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(ExportError, match=r"knows no target 'SM1'; it has \['SM"):
        build_engine(model(GOOD), SIGNATURE, builder="tensorrt_rtx", target="SM1")


@needs_rtx
def test_a_target_that_cannot_run_the_network_says_why() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 4] x) => (float[batch, 4] y)
        <float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}> { y = MatMul(x, w) }"""
    with pytest.raises(ExportError, match=r"could not be built for SM75: .*FP32 GEMM is not supported"):
        build_engine(model(text), SIGNATURE, builder="tensorrt_rtx", target="SM75")


def test_an_unknown_builder_is_refused() -> None:
    with pytest.raises(ExportError, match="no engine builder 'tensorflow'; there are: tensorrt, tensorrt_rtx"):
        build_engine(b"", SIGNATURE, builder="tensorflow")


def test_without_a_builder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "BUILDERS", ("no_such_package",))
    with pytest.raises(MissingExtraError, match=r"not installed; install the extra: .*tensorrt-rtx"):
        installed_builder()


def test_profiles_follow_the_signature() -> None:
    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", 3, "height", 8)), TensorSpec(name="k", shape=(2,))),
        outputs=(TensorSpec(name="y", shape=("batch",)),),
        dims={"batch": Dim(max=16), "height": Dim(min=32, max=2048, multiple=32)},
    )
    profile = tensorrt_engine.profile_of(signature, {"height": (64, 96, 128)})
    assert profile == {"x": [[1, 3, 64, 8], [8, 3, 96, 8], [16, 3, 128, 8]]}
    low, usual, high = tensorrt_engine._bounds(signature, "height")
    assert low <= usual <= high
    edges = signature.model_copy(update={"dims": {"batch": Dim(), "height": Dim(max=90)}})
    assert tensorrt_engine._bounds(edges, "height") == (1, 8, 90)  # as far as was declared
    assert tensorrt_engine._bounds(edges, "batch") == (1, 8, 64)
    assert all(size % 32 == 0 for size in (low, usual, high))


@needs_rtx
def test_engines_go_into_the_bundle_with_a_report(tmp_path: Path) -> None:
    bundle = import_onnx(model(GOOD), tmp_path / "m.bundle")
    variants = [{**bundle.manifest.variants[0].model_dump(), "targets": ("onnxruntime", "tensorrt")}]
    extended = add_target(extend_bundle(bundle, {}, {"variants": variants}), make_target("tensorrt"))
    report = json.loads(extended.read(target_report("tensorrt")))
    assert report["onnx"]["written"]
    (file,) = report["onnx"]["files"]
    assert extended.read(file)
    other = make_target("tensorrt")
    other.compute_capability = "SM120"  # type: ignore[attr-defined]
    (again,) = add_target(extended, other).names("targets")
    assert again.endswith("-sm120.plan")  # the one for the other target went


@needs_rtx
def test_a_bundle_without_anything_for_tensorrt_is_refused(tmp_path: Path) -> None:
    bundle = import_onnx(model(GOOD), tmp_path / "m.bundle")
    with pytest.raises(ExportError, match="no variant is written for 'tensorrt'"):
        add_target(bundle, make_target("tensorrt"))
