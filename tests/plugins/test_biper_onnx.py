"""BiPer's two written forms: the bits of the reference in ONNX Runtime, integer kernels, engines for TensorRT."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import deploykit
from deploykit import HardForm, Signature, TensorSpec
from deploykit.lifecycle import binding_of
from deploykit_binarized import onnx_lowering
from deploykit_binarized.biper_layers import twin_layers

LOWERINGS = ("qlinear", "qdq")


def _chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 5),
    )  # fmt: skip


def _windows() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, (3, 2), stride=(1, 2), padding=(0, 1)), nn.BatchNorm2d(6), nn.ReLU(),
        nn.MaxPool2d(2, 1), nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2), nn.ReLU(), nn.Conv2d(4, 5, 1),
        nn.Flatten(),
    )  # fmt: skip


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5))


def _hardened(model: nn.Module, minimum: float, maximum: float) -> tuple[HardForm, Tensor, NDArray[Any], Signature]:
    x = torch.rand(7, 1, 8, 8) * (maximum - minimum) + minimum
    x[0] = 0.0
    outputs = model.eval()(x).shape[1]
    signature = Signature(
        inputs=(TensorSpec(name="image", shape=("batch", 1, 8, 8), minimum=minimum, maximum=maximum),),
        outputs=(TensorSpec(name="scores", shape=("batch", outputs)),),
    )
    soft = deploykit.prepare(model, "binarized.biper", x, signature=signature)
    deploykit.on_step(soft, 1.0)
    with torch.no_grad():
        soft.train()(x)
        for norm in soft.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norm.weight.uniform_(0.5, 2.0).mul_(torch.randint(0, 2, norm.weight.shape) * 2 - 1)
                norm.weight[0] = 0.0
                norm.bias.normal_(std=0.2)
        for layer in twin_layers(soft):
            layer.weight.view(-1)[::7] = 0.0
    soft.eval()
    hard = deploykit.harden(soft, x)
    wanted = np.asarray(binding_of(soft).method.oracle(soft, (x,))["scores"])
    assert len(np.unique(wanted, axis=0)) > 4  # a constant answer would prove nothing
    return hard, x, wanted, signature


def _write(hard: HardForm, lowering: str, x: Tensor, path: Path) -> onnx.ModelProto:
    written = hard.lowerings[lowering]
    assert written.translations == f"deploykit_binarized.onnx_lowering:{lowering}"
    program = torch.onnx.export(
        written.module or hard.module,
        (x[:3],),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        custom_translation_table=getattr(onnx_lowering, lowering)(),
        input_names=["image"],
        output_names=["scores"],
        verbose=False,
    )
    assert program is not None
    program.save(path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return model


def _run(path: Path, x: Tensor, optimized: Path | None = None) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": x.numpy()})[0])


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(
    ("make", "extent"),
    [(_chain, (0.0, 16.0)), (_windows, (-1.0, 2.0)), (_linear, (0.0, 1.0))],
    ids=["chain", "windows", "linear"],
)
def test_files_equal_the_oracle_bit_for_bit(
    make: Any, extent: tuple[float, float], lowering: str, tmp_path: Path
) -> None:
    hard, x, wanted, _ = _hardened(make(), *extent)
    assert hard.promise.tolerance.exact
    path = tmp_path / "model.onnx"
    _write(hard, lowering, x, path)
    for batch in (1, 2, 7):
        assert np.array_equal(_run(path, x[:batch]), wanted[:batch])


def test_values_outside_the_range_saturate_alike(tmp_path: Path) -> None:
    hard, x, _, _ = _hardened(_chain(), 0.0, 16.0)
    wild = x * 3 - 8
    with torch.no_grad():
        wanted = hard.module(wild).numpy()
    for lowering in LOWERINGS:
        path = tmp_path / f"{lowering}.onnx"
        _write(hard, lowering, x, path)
        assert np.array_equal(_run(path, wild), wanted)


def test_runtime_keeps_integer_kernels(tmp_path: Path) -> None:
    hard, x, _, _ = _hardened(_chain(), 0.0, 16.0)
    model = _write(hard, "qlinear", x, tmp_path / "model.onnx")
    _run(tmp_path / "model.onnx", x, tmp_path / "optimized.onnx")
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ran["QLinearConv"] == 3
    assert ran["NhwcMaxPool"] == 2
    assert not ran.keys() & {"Conv", "FusedConv", "MatMul", "Gemm", "FusedGemm", "ConvInteger", "DequantizeLinear"}
    heavy = {tensor.name: tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) > 64}
    assert len(heavy) == 4
    assert set(heavy.values()) == {onnx.TensorProto.INT8}


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_promised_bytes_are_an_upper_bound_and_a_close_one(lowering: str, tmp_path: Path) -> None:
    hard, x, _, _ = _hardened(_chain(), 0.0, 16.0)
    model = _write(hard, lowering, x, tmp_path / "model.onnx")
    constants = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]
    taken = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in constants)
    assert hard.promise.weight_bytes is not None
    assert 0.7 * hard.promise.weight_bytes <= taken <= hard.promise.weight_bytes
    assert taken < 0.4 * sum(weight.numel() * 4 for weight in _chain().parameters())


def test_promised_macs_are_those_of_the_layers() -> None:
    hard, _, _, _ = _hardened(_chain(), 0.0, 16.0)
    assert hard.promise.macs == 9 * 8 * 64 + 9 * 8 * 16 * 64 + 9 * 16 * 16 * 16 + 64 * 12 + 12 * 5


def test_tensorrt_rtx_builds_an_engine_of_qdq(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: install the extra tensorrt-rtx")
    hard, x, _, _ = _hardened(_chain(), 0.0, 16.0)
    assert "tensorrt" in hard.lowerings["qdq"].targets
    assert "tensorrt" not in hard.lowerings["qlinear"].targets
    _write(hard, "qdq", x, tmp_path / "model.onnx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    parsed = parser.parse_from_file(str(tmp_path / "model.onnx"))
    assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 1, 8, 8), (4, 1, 8, 8), (8, 1, 8, 8))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    assert engine.nbytes > 0
