"""What is written from a hard form of ``quantized.ani``: four bits in the file, floats in the sums."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import nn

import deploykit
from deploykit import HardForm
from deploykit.lifecycle import binding_of
from deploykit_export.form_proofs import promise_entry
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_export.tensorrt_engine import build_engine
from deploykit_quantized.block_layers import hard_layers
from deploykit_relaxations.fake_quantizers import unpack_int4
from deploykit_tasks.photograph_rates import picture_psnr
from tests.plugins.ani_networks import NAME, answers, everywhere, hardened, quality, trained

LOWERINGS = ["qdq", "matmulnbits"]
HEADER = 3_000


def written(soft: nn.Module, hard: HardForm) -> dict[str, OnnxModel]:
    binding = binding_of(soft)
    lowerings = {name: replace(item, module=hard.module) for name, item in hard.lowerings.items()}
    return write_onnx(lowerings, binding.signature, binding.example)


@functools.cache
def files() -> dict[str, OnnxModel]:
    return written(trained(0.2), hardened())


def session(data: bytes, level: str = "", optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a file with ONNX Runtime's own settings, but for the accuracy level where one is given."""
    options = onnxruntime.SessionOptions()
    if level:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def grey(data: bytes, level: str = "") -> NDArray[Any]:
    found: NDArray[Any] = session(data, level).run(None, {"position": everywhere().numpy()})[0]
    return found


def the_other_way_round(data: bytes) -> bytes:
    """Write the same network with (in, out) codes and ``DequantizeLinear`` along axis 0 straight into ``MatMul``."""
    model = onnx.load_from_string(data)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            for name in node.input:
                turned = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(constants[name]).T), name)
                constants[name].CopyFrom(turned)
            next(item for item in node.attribute if item.name == "axis").i = 0
        if node.op_type == "Transpose":
            for user in model.graph.node:
                user.input[:] = [node.input[0] if item == node.output[0] else item for item in user.input]
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    turned_round: bytes = model.SerializeToString()
    return turned_round


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_a_file_shows_the_hard_forms_picture(lowering: str) -> None:
    got = grey(files()[lowering].data)
    assert picture_psnr(lambda _: got) == pytest.approx(quality(hardened().module), abs=1e-3)
    np.testing.assert_allclose(got, answers(hardened().module, everywhere()), atol=2e-5)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_constants_take_no_more_than_promised_and_the_file_little_more(lowering: str) -> None:
    data = files()[lowering].data
    assert measure_shrinkage(data, promise_entry(hardened().promise)).faults == ()
    assert len(data) <= 6_444 + HEADER
    kinds = {tensor.data_type for tensor in onnx.load_from_string(data).graph.initializer if np.prod(tensor.dims) > 128}
    assert kinds == {TensorProto.INT4 if lowering == "qdq" else TensorProto.UINT8}


def test_int4_tensors_hold_the_codes_two_a_byte() -> None:
    model = onnx.load_from_string(files()["qdq"].data)
    assert [item.version for item in model.opset_import if item.domain == ""] == [21]
    tensors = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT4]
    for tensor, layer in zip(tensors, hard_layers(hardened().module), strict=True):
        raw = torch.frombuffer(bytearray(tensor.raw_data), dtype=torch.uint8)
        assert torch.equal(unpack_int4(raw, tuple(tensor.dims)), layer.codes)


def test_matmulnbits_has_its_level_pinned_and_its_codes_shifted_by_eight() -> None:
    model = onnx.load_from_string(files()["matmulnbits"].data)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    for node, layer in zip(nodes, hard_layers(hardened().module), strict=True):
        settings = {item.name: item.i for item in node.attribute}
        assert settings == {"K": 64, "N": len(layer.codes), "bits": 4, "block_size": 32, "accuracy_level": 1}
        packed = constants[node.input[1]]
        shifted = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
        assert (shifted.astype(int) - 8).tolist() == layer.codes.tolist()


def test_onnx_runtime_rounds_activations_of_the_obvious_writing_and_not_of_ours(tmp_path: Path) -> None:
    """The trap: DequantizeLinear into MatMul becomes MatMulNBits of level 4, with int8 activations, without asking."""
    trap = the_other_way_round(files()["qdq"].data)
    truth = answers(hardened().module, everywhere())
    allowed = hardened().promise.tolerance
    limit = allowed.absolute + allowed.relative * float(np.abs(truth).max())
    assert np.abs(grey(trap, level="0") - truth).max() < limit
    error = np.abs(grey(trap) - truth).max()
    assert error > 100 * limit
    assert 4 in _levels(trap, tmp_path)
    for lowering in LOWERINGS:
        data = files()[lowering].data
        assert np.abs(grey(data) - truth).max() < limit
        assert _levels(data, tmp_path) <= {1}


def _levels(data: bytes, folder: Path) -> set[int]:
    """Return the accuracy levels of all MatMulNBits that a session with default settings runs."""
    session(data, optimized=folder / "optimized.onnx")
    nodes = onnx.load(folder / "optimized.onnx").graph.node
    return {
        next((item.i for item in node.attribute if item.name == "accuracy_level"), 0)
        for node in nodes if node.op_type == "MatMulNBits"
    }  # fmt: skip


def test_layers_that_do_not_fill_their_last_block_and_rows_of_rows_are_written_too() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(50, 33), nn.Tanh(), nn.Linear(33, 5, bias=False))
    soft = deploykit.prepare(model, NAME, torch.randn(3, 6, 50))
    hard = deploykit.harden(soft)
    x = torch.randn(9, 6, 50)
    made = written(soft, hard)
    for model_file in made.values():
        (got,) = session(model_file.data).run(None, {"input": x.numpy()})
        np.testing.assert_allclose(got, answers(hard.module, x), rtol=1e-5, atol=1e-5)
        assert measure_shrinkage(model_file.data, promise_entry(hard.promise)).faults == ()
    assert build_engine(made["qdq"].data, binding_of(soft).signature).layers > 0
