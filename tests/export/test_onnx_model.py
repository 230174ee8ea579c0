"""Written files: free batch, names, metadata, nothing of the author's machine; and what cannot be written."""

from __future__ import annotations

import getpass
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from deploykit import Dim, Lowering, Signature, TensorSpec
from deploykit.decision_marks import mark_decision
from deploykit.errors import ExportError
from deploykit_export.executed_work import marked_decisions
from deploykit_export.isolated import run_isolated
from deploykit_export.onnx_model import OnnxModel, write_onnx

ROWS = Signature(
    inputs=(TensorSpec(name="features", shape=("batch", 4)),), outputs=(TensorSpec(name="scores", shape=("batch", 3)),)
)


class Route(nn.Module):
    """Two branches; the choice is marked."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.leaves = nn.Linear(4, 1), nn.Parameter(torch.randn(2, 4, 3))

    def forward(self, features: Tensor) -> Tensor:
        leaf = mark_decision((self.router(features) > 0).long()[:, 0], "leaf")
        return torch.einsum("bi,bio->bo", features, self.leaves[leaf])


class Pool(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image, 4)


class Undecided(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features[:, :3] if features.sum() > 0 else -features[:, :3]


def write(module: nn.Module, signature: Signature = ROWS, **settings: Any) -> OnnxModel:
    example = settings.pop("example", (torch.randn(2, 4),))
    return write_onnx({"onnx": Lowering(module.eval(), **settings)}, signature, example, metadata={"a": "b"})["onnx"]


def run(model: OnnxModel, **inputs: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.data, options, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


@pytest.fixture(scope="module")
def route() -> tuple[Route, OnnxModel]:
    torch.manual_seed(0)
    module = Route().requires_grad_(False)
    return module, write(module)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_is_free_and_answers_agree(route: tuple[Route, OnnxModel], batch: int) -> None:
    module, model = route
    x = torch.randn(batch, 4)
    np.testing.assert_allclose(run(model, features=x.numpy()), module(x).numpy(), rtol=1e-5, atol=1e-6)


def test_names_dimensions_and_metadata_are_in_the_file(route: tuple[Route, OnnxModel]) -> None:
    proto = onnx.load_from_string(route[1].data)
    assert [value.name for value in proto.graph.input] == ["features"]
    assert [value.name for value in proto.graph.output] == ["scores"]
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {item.key: item.value for item in proto.metadata_props} == {"a": "b", "deploykit.lowering": "onnx"}
    assert proto.producer_name == "deploykit"
    assert all(item.domain in ("", "ai.onnx") for item in proto.opset_import)


def test_nothing_of_the_authors_machine_is_in_the_file(route: tuple[Route, OnnxModel]) -> None:
    data = route[1].data
    for word in (
        __file__,
        os.getcwd(),
        "test_onnx_model",
        "stack_trace",
        "site-packages",
        "Traceback",
        str(Path.home()),
    ):
        assert word.encode() not in data, word
    assert getpass.getuser() == "root" or getpass.getuser().encode() not in data


def test_a_marked_decision_survives_and_is_the_forms(route: tuple[Route, OnnxModel]) -> None:
    module, model = route
    x = torch.randn(40, 4)
    found = marked_decisions(model.data, {"features": x.numpy()})
    wanted = (module.router(x) > 0).long()[:, 0].numpy()
    assert list(found) == ["leaf"]
    assert np.array_equal(found["leaf"], wanted)
    assert 0 < wanted.sum() < 40


def test_a_dimension_with_a_multiple_stays_free() -> None:
    signature = Signature(
        inputs=(TensorSpec(name="image", shape=("batch", 1, "height", "width")),),
        outputs=(TensorSpec(name="map", shape=("batch", 1, "low", "narrow")),),
        dims={"height": Dim(min=8, max=64, multiple=4), "width": Dim(multiple=4)},
    )
    model = write(Pool(), signature, example=(torch.randn(2, 1, 16, 24),))
    x = np.random.default_rng(0).random((3, 1, 8, 12), np.float32)
    np.testing.assert_allclose(run(model, image=x), x.reshape(3, 1, 2, 4, 3, 4).mean((3, 5)), rtol=1e-5)
    dims = onnx.load_from_string(model.data).graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert all(not dim.HasField("dim_value") for dim in (dims[2], dims[3]))


def test_a_file_for_batch_one_only() -> None:
    model = write(nn.Linear(4, 3).requires_grad_(False), dynamic_batch=False)
    dim = onnx.load_from_string(model.data).graph.input[0].type.tensor_type.shape.dim[0]
    assert dim.dim_value == 1


def test_a_branch_on_data_cannot_be_traced_and_the_lowering_is_named() -> None:
    with pytest.raises(
        ExportError, match=r"torch.export cannot trace Undecided with free .* \(test_onnx_model.py, line \d+: "
    ):
        write(Undecided())


def test_a_lowering_without_a_module_and_an_example_that_does_not_fit() -> None:
    with pytest.raises(ExportError, match=r"lowering 'onnx' has no module"):
        write_onnx({"onnx": Lowering()}, ROWS, (torch.zeros(2, 4),))
    with pytest.raises(ExportError, match=r"the example has 2 tensors; the signature has 1 inputs"):
        write_onnx({"onnx": Lowering(nn.Linear(4, 3))}, ROWS, (torch.zeros(2, 4), torch.zeros(2)))


SLOW = """
    import torch
    from onnxscript import opset18

    @torch.library.custom_op("deploykit_test::slow_conv", mutates_args=())
    def slow_conv(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x.double(), w.double()).to(torch.int32)

    @slow_conv.register_fake
    def _(x, w):
        return x.new_empty((x.shape[0], w.shape[0], x.shape[2] - 2, x.shape[3] - 2), dtype=torch.int32)

    def translate(x, w):
        return opset18.ConvInteger(x, w)

    def table():
        return {torch.ops.deploykit_test.slow_conv.default: translate}
"""


def test_a_kernel_known_to_be_slow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_table.py").write_text(textwrap.dedent(SLOW))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import slow_table  # type: ignore[import-not-found]

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("w", torch.ones(2, 1, 3, 3, dtype=torch.uint8))

        def forward(self, x: Tensor) -> Tensor:
            return slow_table.slow_conv(x, self.w)  # type: ignore[no-any-return]

    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="uint8", shape=("batch", 1, 6, 6)),),
        outputs=(TensorSpec(name="y", dtype="int32", shape=("batch", 2, 4, 4)),),
    )
    example = (torch.ones(2, 1, 6, 6, dtype=torch.uint8),)
    with pytest.raises(
        ExportError, match=r"lowering 'onnx': ONNX Runtime would run ConvInteger .* write QLinearConv with"
    ):
        write(Slow(), signature, example=example, translations="slow_table:table")
    with pytest.raises(
        ExportError, match=r"lowering 'onnx': AttributeError: module 'slow_table' has no attribute 'no'"
    ):
        write(Slow(), signature, example=example, translations="slow_table:no")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os, signal; print('deep inside'); import sys; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)",  # noqa: E501
         "(?s)a trial crashed with SIGSEGV in native code; last words:.*deep inside"),
        ("import time; print('busy', flush=True); time.sleep(60)",
         "(?s)a trial did not end within 1.5 s and was stopped; last words:.*busy"),
        ("import sys; sys.exit(7)", r"(?s)a trial ended with status 7 and no report; last words:.*\(nothing\)"),
        ("pass", "(?s)a trial ended with status 0 and no report"),
        ("raise ValueError('told')", "(?s)a trial ended with status 1 and no report.*ValueError: told"),
        ("import sys, pathlib; pathlib.Path(sys.argv[1]).with_name('report.json').write_text('{\"error\": \"said so\"}')",  # noqa: E501
         "a trial failed: said so"),
    ],
    ids=["crash", "hang", "exit", "silence", "exception", "reported"],
)  # fmt: skip
def test_a_worker_that_does_not_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    (tmp_path / "worker_of_a_test.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExportError, match=words):
        run_isolated("worker_of_a_test", {}, tmp_path, what="a trial", timeout=1.5 if "sleep" in source else 30)


def test_a_worker_that_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        import json, pathlib, sys
        job = pathlib.Path(sys.argv[1])
        print("x" * 200_000)  # more than a pipe would hold
        job.with_name("report.json").write_text(json.dumps({"twice": 2 * json.loads(job.read_text())["n"]}))
    """
    (tmp_path / "worker_of_a_test.py").write_text(textwrap.dedent(source))
    (tmp_path / "report.json").write_text('{"error": "of an earlier run"}')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_isolated("worker_of_a_test", {"n": 21}, tmp_path, what="a trial", timeout=30) == {"twice": 42}
