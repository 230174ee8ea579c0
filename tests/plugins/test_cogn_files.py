"""What is written from a hard form of ``graph.cogn``."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit import HardForm, Lowering
from deploykit.errors import ExportError
from deploykit.lifecycle import binding_of
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.form_proofs import promise_entry
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_export.tensorrt_engine import build_engine
from tests.plugins.cogn_networks import (
    FEATURES,
    SIGNATURE,
    Network,
    answers,
    graphs,
    method_of,
    prepared,
    smallest_margin,
    written,
)

SIZES = [(1, 1, 1), (1, 1, 0), (1, 7, 0), (2, 3, 1), (3, 40, 90), (5, 9, 300), (1, 400, 3000)]


@pytest.fixture(scope="module")
def forms() -> tuple[nn.Module, HardForm]:
    soft = prepared(seed=2)
    return soft, deploykit.harden(soft)


@pytest.fixture(scope="module")
def files(forms: tuple[nn.Module, HardForm]) -> dict[str, OnnxModel]:
    return written(forms[1], SIGNATURE, binding_of(forms[0]).example)


@pytest.mark.parametrize("lowering", ["onnx", "adjacency"])
@pytest.mark.parametrize("sizes", SIZES)
def test_files_equal_the_hard_form_decisions_included(
    lowering: str, sizes: tuple[int, int, int], forms: tuple[nn.Module, HardForm], files: dict[str, OnnxModel]
) -> None:
    soft, hard = forms
    features, edges = graphs(sum(sizes), *sizes)
    assert smallest_margin(soft, features, edges) > 1e-5
    feeds = {"features": features.numpy(), "edges": edges.numpy()}
    session = onnxruntime.InferenceSession(files[lowering].data, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, feeds)
    np.testing.assert_allclose(got, answers(hard.module, features, edges), rtol=1e-4, atol=1e-5)
    marked = marked_decisions(files[lowering].data, feeds)
    expected = method_of(soft).decisions(hard.module, (features, edges))
    assert marked.keys() == expected.keys()
    for name, taken in expected.items():
        assert marked[name].dtype == bool
        np.testing.assert_array_equal(marked[name], taken.value)


def test_files_hold_what_is_promised_and_nothing_of_the_relaxation(
    forms: tuple[nn.Module, HardForm], files: dict[str, OnnxModel]
) -> None:
    for file in files.values():
        assert measure_shrinkage(file.data, promise_entry(forms[1].promise)).faults == ()
        assert not {name for name in file.operators if name.startswith("Random") or name in {"Softmax", "ArgMax"}}


class AttentiveNetwork(Network):
    """Somebody's own: weighs each node's features by a softmax, and calls a layer as the action networks are called."""

    def __init__(self) -> None:
        super().__init__()
        self.listen = nn.ModuleDict({"head": nn.Linear(FEATURES, FEATURES)})

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        return super().forward(features * torch.softmax(self.listen["head"](features), dim=-1), edges)


def test_a_softmax_of_ones_own_is_no_leftover() -> None:
    soft = prepared(network=AttentiveNetwork())
    hard = deploykit.harden(soft)
    assert hard.promise.absent == ("broadcast.head.bias",)
    files = written(hard, SIGNATURE, binding_of(soft).example)
    assert files.keys() == {"onnx", "adjacency"}
    for file in files.values():
        assert file.operators["Softmax"] == 1
        assert measure_shrinkage(file.data, promise_entry(hard.promise)).faults == ()


def test_action_networks_that_were_left_are_found(forms: tuple[nn.Module, HardForm]) -> None:
    soft, hard = forms
    file = write_onnx({"soft": Lowering(module=soft)}, SIGNATURE, binding_of(soft).example)["soft"]
    faults = " ".join(measure_shrinkage(file.data, promise_entry(hard.promise)).faults)
    for name in ("first.listen.head.bias", "second.broadcast.head.bias"):
        assert f"'{name}' is a leftover of training" in faults


def test_work_grows_with_nodes_and_not_with_edges(files: dict[str, OnnxModel]) -> None:
    """What the adjacency costs is why there are two files, and why no work is promised."""
    macs = {}
    for nodes, edges in ((20, 10), (20, 200), (40, 10)):
        features, ends = graphs(0, 1, nodes, edges)
        for name, file in files.items():
            macs[name, nodes, edges] = executed_work(
                file.data, {"features": features.numpy(), "edges": ends.numpy()}
            ).macs
    assert macs["onnx", 20, 10] == macs["onnx", 20, 200]
    assert macs["onnx", 40, 10] == 2 * macs["onnx", 20, 10]
    assert macs["adjacency", 20, 200] > macs["adjacency", 20, 10] > macs["onnx", 20, 10]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX: extra 'tensorrt-rtx'")
def test_an_engine_is_built_of_the_adjacency_and_adding_rows_is_refused(files: dict[str, OnnxModel]) -> None:
    sizes = {"batch": (1, 4, 64), "nodes": (1, 40, 64), "edges": (1, 80, 128)}
    engine = build_engine(files["adjacency"].data, SIGNATURE, builder="tensorrt_rtx", sizes=sizes)
    assert len(engine.data) > 1000
    with pytest.raises(ExportError, match="ScatterND with reduction is not supported"):
        build_engine(files["onnx"].data, SIGNATURE, builder="tensorrt_rtx", sizes=sizes)
