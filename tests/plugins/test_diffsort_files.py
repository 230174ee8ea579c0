"""What is written from a hard form of ``sorted.diffsort``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import deploykit
from deploykit import Dim, HardForm, Lowering, Signature, Task, TensorSpec
from deploykit.errors import ExportError
from deploykit.lifecycle import binding_of, build
from deploykit_export.executed_work import executed_work, marked_decisions
from deploykit_export.form_proofs import promise_entry
from deploykit_export.onnx_model import OnnxModel, write_onnx
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_sorted.diffsort import DifferentiableSort

NAME = "sorted.diffsort"


@pytest.fixture(scope="module")
def task() -> Task:
    return deploykit.make_task("digit-order")


@pytest.fixture(scope="module")
def forms(task: Task) -> tuple[nn.Module, HardForm]:
    torch.manual_seed(0)
    soft = build(deploykit.make_method(NAME), task).eval()
    return soft, deploykit.harden(soft)


@pytest.fixture(scope="module")
def file(task: Task, forms: tuple[nn.Module, HardForm]) -> OnnxModel:
    return written(forms[1], task.signature, task)


def written(hard: HardForm, signature: Signature, task: Task) -> OnnxModel:
    (lowering,) = hard.lowerings.values()
    return write_onnx({"onnx": replace(lowering, module=hard.module)}, signature, task.example(4))["onnx"]


def fixed(signature: Signature) -> Signature:
    """The same with five items."""
    shapes = [spec.model_copy(update={"shape": ("batch", 5, *spec.shape[2:])}) for spec in signature.inputs]
    outputs = [spec.model_copy(update={"shape": ("batch", 5)}) for spec in signature.outputs]
    return Signature(inputs=tuple(shapes), outputs=tuple(outputs), dims={"batch": signature.dim("batch")})


@pytest.mark.parametrize(("batch", "items"), [(1, 2), (1, 5), (7, 3), (2, 32)])
def test_one_file_orders_sets_of_any_size(
    batch: int, items: int, task: Task, forms: tuple[nn.Module, HardForm], file: OnnxModel
) -> None:
    images = task.samples("test").inputs["images"].reshape(-1, 1, 8, 16)[: batch * items]
    x = images.reshape(batch, items, 1, 8, 16).copy()
    session = onnxruntime.InferenceSession(file.data, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"images": x})
    inputs = (torch.from_numpy(x),)
    np.testing.assert_array_equal(got, forms[1].module(*inputs).numpy())
    method = binding_of(forms[0]).method
    np.testing.assert_array_equal(got, method.oracle(forms[0], inputs)["rank"])
    decision = method.decisions(forms[1].module, inputs)["order"]
    order = decision.value
    assert decision.margin is not None
    assert decision.margin.min() > 1e-5  # rounding exchanges none of these
    np.testing.assert_array_equal(marked_decisions(file.data, {"images": x})["order"], order)
    np.testing.assert_array_equal(np.take_along_axis(got, order, 1), np.arange(items)[None].repeat(batch, 0))


def test_ties_stay_in_order_in_the_file() -> None:
    class First(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, 0]

    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", "items", 2)),),
        outputs=(TensorSpec(name="place", shape=("batch", "items")),),
        dims={"items": Dim(min=2, max=64)},
    )
    x = torch.randint(0, 3, (200, 40, 2)).float()
    hard = deploykit.harden(deploykit.prepare(First(), NAME, x, signature=signature))
    model = write_onnx(
        {name: replace(low, module=hard.module) for name, low in hard.lowerings.items()}, signature, (x,)
    )["onnx"]
    session = onnxruntime.InferenceSession(model.data, providers=["CPUExecutionProvider"])
    wanted = x[:, :, 0].numpy().argsort(axis=1, kind="stable").argsort(axis=1)
    np.testing.assert_array_equal(session.run(None, {"x": x.numpy()})[0], wanted)


def test_an_arctangent_of_ones_own_is_no_leftover() -> None:
    class Angle(nn.Module):
        """Scores by the angle, and by a unit matrix made on the way."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            turned = x @ torch.eye(x.shape[2])
            return torch.atan(turned[:, :, 0])

    x = torch.randn(3, 5, 2)
    soft = deploykit.prepare(Angle(), NAME, x).eval()
    hard = deploykit.harden(soft)
    model = write_onnx(
        {name: replace(low, module=hard.module) for name, low in hard.lowerings.items()},
        binding_of(soft).signature,
        (x,),
    )["onnx"]
    assert model.operators["Atan"] == 1
    assert measure_shrinkage(model.data, promise_entry(hard.promise)).faults == ()


def test_the_file_scores_each_item_once_and_sorts(task: Task, file: OnnxModel) -> None:
    x = {"images": task.samples("test").inputs["images"][:3]}
    alone = write_onnx({"onnx": Lowering(module=task.network().eval())}, task.signature, task.example(4))["onnx"]
    work = executed_work(file.data, x)
    assert work.macs == executed_work(alone.data, x).macs
    assert work.kernels["TopK"] == 2
    assert file.operators["TopK"] == 2
    assert not {"Atan", "EyeLike"} & set(file.operators)


def test_the_baseline_is_the_soft_form_where_the_number_of_items_is_fixed(task: Task) -> None:
    method = deploykit.make_method(NAME)
    soft = deploykit.prepare(task.network(), method, task.example(4), signature=fixed(task.signature)).eval()
    baseline = method.baseline(soft)
    file = write_onnx({"float": Lowering(module=baseline)}, fixed(task.signature), task.example(4))["float"]
    assert file.operators["Atan"] == 5
    session = onnxruntime.InferenceSession(file.data, providers=["CPUExecutionProvider"])
    x = task.samples("test").inputs["images"][:6]
    with torch.no_grad():
        wanted = soft(torch.from_numpy(x.copy())).numpy()
    np.testing.assert_allclose(session.run(None, {"images": x})[0], wanted, rtol=1e-4, atol=1e-4)


def test_the_soft_form_cannot_be_written_for_a_free_number_of_items(
    task: Task, forms: tuple[nn.Module, HardForm]
) -> None:
    soft = forms[0]
    assert isinstance(binding_of(soft).method, DifferentiableSort)
    assert binding_of(soft).method.baseline(soft) is binding_of(soft).network
    with pytest.raises(ExportError, match=r"free dimensions.*items"):
        write_onnx({"float": Lowering(module=soft)}, task.signature, task.example(4))
