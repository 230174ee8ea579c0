"""What is written from a hard form of ``searched.darts``."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import deploykit
from deploykit.hard_form import HardForm
from deploykit.lifecycle import binding_of
from deploykit_export.executed_work import executed_work
from deploykit_export.form_proofs import promise_entry
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_searched import Choice, genotype_of
from deploykit_searched.layer_exchange import layers
from tests.plugins.darts_networks import ALL, answers, cell_supernet, choices, images, method_of

_NODES = 3
Forms = tuple[nn.Module, HardForm, OnnxModel]


def every_operator() -> nn.Module:
    """A supernet of one reduction and two other cells that chooses each operator in turn."""
    soft = cell_supernet(7, cells=4, nodes=_NODES)
    for number, choice in enumerate(choices(soft).values()):
        with torch.no_grad():
            choice.alpha[1 + number % (len(ALL) - 1)] = 3.0 + choice.alpha.max()
    return soft


@pytest.fixture(scope="module")
def files() -> dict[str, Forms]:
    torch.set_num_threads(1)
    softs = {"every": every_operator(), "drawn": cell_supernet(8)}
    hards = {name: deploykit.harden(soft) for name, soft in softs.items()}
    lowerings = {name: replace(hard.lowerings["onnx"], module=hard.module) for name, hard in hards.items()}
    baseline = method_of(softs["drawn"]).baseline(softs["drawn"])
    lowerings["supernet"] = deploykit.Lowering(module=baseline)
    binding = binding_of(softs["drawn"])
    written = write_onnx(lowerings, binding.signature, binding.example)
    made = {name: (softs[name], hards[name], written[name]) for name in softs}
    return made | {"supernet": (softs["drawn"], HardForm(baseline), written["supernet"])}


def predicted(soft: nn.Module) -> Counter[str]:
    """Count the operators of the file from the genotype alone."""
    genotype, found = genotype_of(soft), Counter[str]()
    found += Counter(Conv=1, Relu=1, ReduceMean=1, Gemm=1)  # stem and head
    reductions = {0: set(), 1: {0}, 2: {1}, 4: {1, 2}}[len(genotype.edges)]
    for number, (path, sources) in enumerate(genotype.edges.items()):
        found += Counter(Conv=2, Relu=2 + _NODES, Concat=1)  # both inputs, the nodes, the answer
        for node, read in enumerate(sources):
            found["Add"] += len(read) - 1
            for source in read:
                halved = number in reductions and source < 2
                name = genotype.operators[f"{path}.edges.{node * (node + 3) // 2 + source}"]
                found += {
                    "skip": Counter(Conv=1) if halved else Counter(),
                    "conv_3": Counter(Conv=1),
                    "max_3": Counter(MaxPool=1, Mul=1, Add=1),
                    "avg_3": Counter(AveragePool=1, Mul=1, Add=1),
                }.get(name, Counter(Conv=2))
    return found


@pytest.mark.parametrize("name", ["every", "drawn"])
def test_the_file_holds_the_operators_that_the_genotype_says(name: str, files: dict[str, Forms]) -> None:
    soft, _, file = files[name]
    assert Counter(file.operators) == predicted(soft)
    assert "BatchNormalization" not in file.operators


def test_every_operator_was_written(files: dict[str, Forms]) -> None:
    assert set(genotype_of(files["every"][0]).operators.values()) == set(ALL) - {"none"}


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("name", ["every", "drawn", "supernet"])
def test_files_equal_their_module(name: str, batch: int, files: dict[str, Forms]) -> None:
    _, hard, file = files[name]
    x = images(batch)
    session = onnxruntime.InferenceSession(file.data, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(got, answers(hard.module, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["every", "drawn"])
def test_files_weigh_and_work_what_the_chosen_operators_do(name: str, files: dict[str, Forms]) -> None:
    soft, hard, file = files[name]
    measured = measure_shrinkage(file.data, promise_entry(hard.promise))
    assert measured.faults == ()
    # A merged batch norm leaves a bias; axes and shapes are int64.
    state = hard.module.state_dict()
    assert measured.bytes_by_dtype["float32"] == 4 * sum(tensor.numel() for tensor in state.values())
    work = executed_work(file.data, {"x": images(4).numpy()})
    assert work.macs == 4 * (hard.promise.macs or 0) > 0
    assert not any(layers(hard.module, Choice))
    assert len(genotype_of(soft).operators) < len(choices(soft))


def test_the_supernet_costs_several_times_as_much(files: dict[str, Forms]) -> None:
    feeds = {"x": images(1).numpy()}
    hard, supernet = (executed_work(files[name][2].data, feeds).macs for name in ("drawn", "supernet"))
    assert supernet > 2 * hard
    assert measure_shrinkage(files["supernet"][2].data, promise_entry(files["drawn"][1].promise)).faults
