"""What is written from a hard form of ``routed.fff``."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit.hard_form import HardForm
from deploykit.lifecycle import binding_of
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_export.shrinkage import measure_shrinkage
from tests.plugins.fff_networks import FEATURES, NAME, answers, method_of, prepared, trained_forms, written


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, HardForm]:
    return trained_forms()


@pytest.fixture(scope="module")
def files(trained: tuple[nn.Module, HardForm]) -> dict[str, OnnxModel]:
    return written(*trained)


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 300])
@pytest.mark.parametrize("lowering", ["onnx", "gathered"])
def test_files_equal_the_hard_form_routes_included(
    lowering: str, batch: int, trained: tuple[nn.Module, HardForm], files: dict[str, OnnxModel]
) -> None:
    soft, hard = trained
    x = torch.randn(batch, FEATURES)
    session = onnxruntime.InferenceSession(files[lowering].data, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(got, answers(hard.module, x), rtol=1e-4, atol=1e-5)
    marked = marked_decisions(files[lowering].data, {"input": x.numpy()})
    expected = method_of(soft).decisions(hard.module, (x,))
    assert marked.keys() == expected.keys() == {"leaf/0"}
    assert marked["leaf/0"].tolist() == expected["leaf/0"].value.tolist()


@pytest.mark.parametrize("batch", [1, 20])
def test_a_tree_of_one_leaf_is_written_too(batch: int, files: dict[str, OnnxModel]) -> None:
    x = torch.randn(batch, FEATURES)
    session = onnxruntime.InferenceSession(files["one leaf"].data, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(got, answers(prepared(depth=0), x), rtol=1e-4, atol=1e-5)
    assert marked_decisions(files["one leaf"].data, {"input": x.numpy()})["leaf/0"].tolist() == [0] * batch


def test_only_the_leaves_that_were_chosen_are_computed(
    trained: tuple[nn.Module, HardForm], files: dict[str, OnnxModel]
) -> None:
    hard = trained[1]
    leaf, master, classifier = FEATURES * 4 + 4 * 5, FEATURES * 2 + 2 * 5, 5 * 3
    descent = 3 * FEATURES  # runs as product and sum, which are not counted as matrix products
    assert hard.promise.macs == leaf + master + classifier + descent
    x = np.random.default_rng(0).normal(size=(64, FEATURES)).astype(np.float32)
    for batch in (1, 7, 8, 64):
        work = executed_work(files["onnx"].data, {"input": x[:batch]})
        assert work.macs == batch * (leaf + master + classifier)
        # The branch that was not taken did not run: grouping is made of Slice, gathering of batched MatMul.
        assert ("Slice" in work.kernels) == (batch >= 8)
    assert executed_work(files["all leaves"].data, {"input": x}).macs >= 64 * 8 * leaf


def test_files_hold_each_weight_once_and_nothing_of_the_relaxation(
    trained: tuple[nn.Module, HardForm], files: dict[str, OnnxModel]
) -> None:
    from deploykit.manifest import PromiseEntry

    promise = trained[1].promise
    weights = sum(tensor.numel() for tensor in trained[1].module.state_dict().values()) * 4
    entry = PromiseEntry(weight_bytes=promise.weight_bytes, absent=promise.absent, weight_dtypes=promise.weight_dtypes)
    for name in ("onnx", "gathered"):
        file = files[name]
        measured = measure_shrinkage(file.data, entry)
        assert measured.faults == ()
        assert measured.bytes_by_dtype["float32"] <= weights + 64
        assert file.operators.get("If", 0) == (name == "onnx")


def test_tensorrt_rtx_builds_an_engine_of_the_gathered_file(files: dict[str, OnnxModel], tmp_path: Path) -> None:
    tensorrt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: extra 'tensorrt-rtx'")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    definition = builder.create_network(0)
    parser = tensorrt.OnnxParser(definition, logger)
    assert parser.parse(files["gathered"].data), [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("input", (1, FEATURES), (4, FEATURES), (64, FEATURES))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(definition, config)
    assert engine is not None
    assert engine.nbytes > 1000


def test_rows_of_sequences_are_routed_one_by_one_in_the_file_too() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(FEATURES, 9), nn.GELU(), nn.Linear(9, FEATURES))

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = x + self.block(x)
            return answer

    example = torch.randn(3, 4, FEATURES)
    soft = deploykit.prepare(Tokens(), NAME, example, depth=2, leaf_width=3, grouped_from=12).eval()
    hard = deploykit.harden(soft)
    lowering = replace(hard.lowerings["onnx"], module=hard.module)
    file = write_onnx({"onnx": lowering}, binding_of(soft).signature, (example,))["onnx"]
    session = onnxruntime.InferenceSession(file.data, providers=["CPUExecutionProvider"])
    for batch in (2, 3, 5):
        x = torch.randn(batch, 4, FEATURES)
        decision = method_of(soft).decisions(hard.module, (x,))["leaf/block.0"]
        assert decision.value.shape == (batch, 4)
        assert (marked_decisions(file.data, {"x": x.numpy()})["leaf/block.0"] == decision.value).all()
        expected = method_of(soft).oracle(soft, (x,))["output"]
        np.testing.assert_allclose(answers(hard.module, x), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected, rtol=1e-4, atol=1e-5)


def test_translations_are_importable_under_the_name_the_hard_form_gives(trained: tuple[nn.Module, HardForm]) -> None:
    module, _, function = trained[1].lowerings["onnx"].translations.partition(":")
    assert torch.ops.deploykit_routed.grouped_leaves.default in getattr(importlib.import_module(module), function)()
