from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from deploykit_serving.profiling.layers import layers
from deploykit_serving.profiling.schema import Layers
from tests.serving.profiling.tiny_bundles import FEATURES, slow_sum_model, sum_model

INPUTS = [{"x": np.full((3, FEATURES), value, dtype=np.float32)} for value in (0.5, 1.0)]


def _optimised(model: bytes, path: str) -> list[str]:
    """Return the operators that ONNX Runtime is left with, from the graph it writes itself."""
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = path
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(model, sess_options=settings, providers=["CPUExecutionProvider"])
    return sorted(node.op_type for node in onnx.load(path).graph.node)


def _consistent(found: Layers) -> None:
    assert found.not_run == ""
    assert found.inflation is not None
    assert found.inflation > 0
    assert sum(layer.share for layer in found.layers) == pytest.approx(1.0)
    assert all(layer.calls >= 20 and layer.median_us >= 0 for layer in found.layers)


def test_layers_are_those_left_after_fusion(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = slow_sum_model(products=5, width=64)
    found = layers(model, INPUTS, threads=1, batch=3, seconds=0.3)
    _consistent(found)
    assert found.batch == 3
    assert sorted(layer.operator for layer in found.layers) == _optimised(model, str(tmp_path / "fused.onnx"))
    assert len({layer.calls for layer in found.layers}) == 1  # each ran once a run, and the first run is left out


def test_the_costly_layer_has_the_largest_share() -> None:
    found = layers(slow_sum_model(products=1, width=1024), INPUTS, threads=1, batch=3, seconds=0.3)
    assert max(found.layers, key=lambda layer: layer.share).operator in ("MatMul", "Gemm", "FusedMatMul")


def test_openvino_is_broken_down_too() -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    model = slow_sum_model(products=5, width=512)
    found = layers(model, INPUTS, threads=1, batch=3, runtime="openvino-cpu", seconds=0.3)
    _consistent(found)
    assert len(found.layers) >= 5


def test_a_runtime_without_a_profiler_says_so() -> None:
    assert layers(sum_model(), INPUTS, 1, 3, "torch") == Layers(
        batch=3, not_run="torch shows no times of single operators"
    )


def test_a_model_that_the_profiler_refuses_is_no_crash() -> None:
    found = layers(b"no model", INPUTS, 1, 3)
    assert found.layers == ()
    assert found.not_run.startswith("onnxruntime-cpu's profiler gave nothing: ")
    assert "\n" not in found.not_run


def test_no_profile_is_left_behind(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    layers(sum_model(), INPUTS, threads=1, batch=3, seconds=0.1)
    assert list(tmp_path.iterdir()) == []
