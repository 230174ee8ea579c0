"""Bundles that claim more than they do: each is found by the proofs, by the words the user will read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import deploykit
from deploykit import Bundle, Signature, TensorSpec
from deploykit.bundle_writer import extend_bundle
from deploykit.decisions import Decision
from deploykit.hard_form import HardForm, Promise, Tolerance
from deploykit.lifecycle import build, harden
from deploykit.making import make_method, make_task
from deploykit.testing import offered
from deploykit_export.bundle_export import export_bundle
from deploykit_export.heldout import HELDOUT, pack, unpack
from deploykit_export.onnx_import import import_onnx
from deploykit_export.proof_report import Proof, ProofReport
from deploykit_export.verification import Surroundings, verify_bundle
from deploykit_serving.runtimes import open_session
from tests.core.honest_method import Cloud, Honest

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'

# Bundles of a method that keeps every contract, changed in one place.


class Quiet(Honest):
    """Marks nothing, promises a tolerance that takes any answer."""

    promise = Promise(tolerance=Tolerance(absolute=1e9))


class Tieing(Honest):
    """Calls every choice of the hard form a tie."""

    def decisions(self, form: Any, inputs: Any) -> dict[str, Decision]:
        taken = super().decisions(form, inputs)
        best = taken["best"].value
        return {**taken, "best": Decision((best + 1) % 3, np.zeros(best.shape))}


class Fickle(Honest):
    """Breaks its contract only where it is hardened again."""

    again = False

    def harden(self, soft: Any, inputs: Any) -> HardForm:
        return HardForm(soft) if self.again else super().harden(soft, inputs)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    liars = {f"lies.{part.__name__.lower()}": part for part in (Honest, Quiet, Tieing, Fickle)}
    with offered(methods=liars, tasks={"cloud": Cloud}):
        yield


def written(name: str, folder: Path) -> Bundle:
    task = make_task("cloud")
    torch.manual_seed(0)  # fixtures of a module are made before the seed that every test starts from
    soft = build(make_method(f"lies.{name}"), task).eval()
    return export_bundle(soft, harden(soft), folder / f"{name}.bundle", task="cloud", heldout=task.samples("test"))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, registered: Any) -> Bundle:
    return written("honest", tmp_path_factory.mktemp("honest"))


@pytest.fixture
def copied(honest: Bundle, tmp_path: Path) -> Bundle:
    return deploykit.open_bundle(shutil.copytree(honest.path, tmp_path / honest.path.name))


def verify(bundle: Bundle) -> ProofReport:
    return verify_bundle(bundle, Surroundings(open_session=open_session))


def proof(report: ProofReport, name: str) -> Proof:
    (found,) = [item for item in report.proofs if item.name == name]
    return found


def test_the_honest_bundle_passes(honest: Bundle) -> None:
    report = verify(honest)
    assert report.failures == ()
    assert {item.status for item in report.proofs if item.name not in {"speed", "http"}} == {"passed"}
    assert set(report.files) == {
        "models/float.onnx", "models/onnx.onnx", HELDOUT, "samples/calibration.npz", "weights/soft.safetensors"
    }  # fmt: skip


def test_a_tolerance_that_takes_anything(tmp_path: Path) -> None:
    found = proof(verify(written("quiet", tmp_path)), "tolerance")
    assert found.status == "failed"
    assert found.detail == "within 1e+09 + 0 x |value| takes one sample's answer for another's; promise less"


def test_a_tie_excuses_no_route(tmp_path: Path) -> None:
    found = proof(verify(written("tieing", tmp_path)), "route onnx best")
    assert found.status == "failed"
    assert found.detail.endswith("40 near ties; 2 routes taken; more than 5% cannot all be ties")


def test_a_method_that_breaks_its_contract_when_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = written("fickle", tmp_path)
    monkeypatch.setattr(Fickle, "again", True)
    found = proof(verify(bundle), "oracle")
    assert found.status == "failed"
    assert "harden returned its argument; return a new module" in found.detail


def test_a_promise_loosened_in_the_bundle(copied: Bundle) -> None:
    promise = {**copied.manifest.promise.model_dump(), "macs": None}
    found = proof(verify(extend_bundle(copied, {}, {"promise": promise})), "promise")
    assert found.status == "failed"
    assert found.detail == "the bundle does not promise what its method promises: macs None instead of 12"


def test_recorded_answers_that_are_not_the_files(copied: Bundle) -> None:
    groups = unpack(copied.read(HELDOUT))
    groups["output"]["y"] = groups["output"]["y"] + np.float32(1)
    failures = verify(extend_bundle(copied, {HELDOUT: pack(groups)})).failures
    assert [item.name for item in failures] == ["recorded onnx"]
    assert "does not answer the bundle's samples as recorded at export: output 'y'" in failures[0].detail


def exchanged(bundle: Bundle, text: str) -> ProofReport:
    data = onnx.parser.parse_model(HEAD + text).SerializeToString()
    return verify(extend_bundle(bundle, {"models/onnx.onnx": data}))


def test_a_file_of_nan(copied: Bundle) -> None:
    text = "m (float[batch, 4] x) => (float[batch, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, " \
           "float[1] n = {-1}> " \
           "{ r = MatMul(x, w)  q = Mul(r, r)  p = Add(q, q)  o = Sub(n, p)  y = Sqrt(o) }"  # fmt: skip
    found = proof(exchanged(copied, text), "parity onnx")
    assert found.status == "failed"
    assert found.detail.endswith("output 'y': holds NaN or infinity; wanted finite numbers")


def test_a_frozen_route_is_not_called_proven(copied: Bundle) -> None:
    text = "m (float[batch, 4] x) => (float[batch, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}> " \
           "{ y = MatMul(x, w) }"  # fmt: skip
    report = exchanged(copied, text)
    found = proof(report, "route onnx")
    assert (found.status, found.detail) == (
        "not run",
        "the file marks no decision; best, bit shows in the answers only",
    )
    assert proof(report, "parity onnx").status == "failed"


def test_a_dense_file_executes_too_much(copied: Bundle) -> None:
    text = "m (float[batch, 4] x) => (float[batch, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}> " \
           "{ a = MatMul(x, w)  b = Neg(x)  c = MatMul(b, w)  y = Sub(a, c) }"  # fmt: skip
    found = proof(exchanged(copied, text), "executed work onnx")
    assert found.status == "failed"
    assert "24 at batch 1, 24 at batch 40; promised at most 12" in found.detail


# Kinds of signatures.


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("m (float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }", {"x": (2, 3)}),
        ("m (float[2, 3] x) => (float y) { y = ReduceSum <keepdims = 0> (x) }", {"x": (2, 3)}),
        ("m (float[b, 3] x, float[b, 2] z) => (float[b, 3] y, int64[b] n) "
         "{ y = Relu(x)  n = ArgMax <axis = 1, keepdims = 0> (z) }", {"x": (70, 3), "z": (70, 2)}),
        ("m (float[b, 1, h, w] x) => (float[b, 1, h, w] y, bool[b, 1, h, w] m) "
         "<float zero = {0}> { y = Relu(x)  m = Greater(x, zero) }", {"x": (65, 1, 4, 6)}),
        ("m (float16[b, 3] x) => (float16[b, 3] y) { y = Relu(x) }", {"x": (3, 3)}),
    ],
    ids=["no batch", "scalar output", "two inputs", "free sizes", "half"],
)  # fmt: skip
def test_every_kind_of_signature_is_verified(tmp_path: Path, text: str, inputs: dict[str, Any]) -> None:
    model = onnx.parser.parse_model(HEAD + text)
    random = np.random.default_rng(0)
    dtype = np.float16 if "float16" in text else np.float32
    arrays = {name: random.standard_normal(shape).astype(dtype) for name, shape in inputs.items()}
    report = verify(import_onnx(model.SerializeToString(), tmp_path / "kind.bundle", samples=arrays))
    assert report.failures == ()
    assert proof(report, "parity onnx").status == "passed"
    assert proof(report, "recorded onnx").status == "passed"


def test_swapped_outputs_of_one_shape(tmp_path: Path) -> None:
    outputs = (TensorSpec(name="p", shape=("batch", 3)), TensorSpec(name="q", shape=("batch", 3)))
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3)),), outputs=outputs)
    text = "m (float[batch, 3] x) => (float[batch, 3] {}, float[batch, 3] {}) {{ {} = Relu(x)  {} = Neg(x) }}"
    first, second = (
        onnx.parser.parse_model(HEAD + text.format("p", "q", *order)).SerializeToString() for order in ("pq", "qp")
    )
    bundle = import_onnx(first, tmp_path / "swap.bundle", signature=signature)
    failures = verify(extend_bundle(bundle, {"models/onnx.onnx": second})).failures
    assert [item.name for item in failures] == ["parity onnx", "recorded onnx"]


def test_a_file_for_one_sample_is_verified_one_by_one(copied: Bundle) -> None:
    variants = [{**item.model_dump(), "dynamic_batch": item.role != "hard"} for item in copied.manifest.variants]
    report = verify(extend_bundle(copied, {}, {"variants": variants}))
    assert report.failures == ()
    found = proof(report, "batch onnx")
    assert (found.status, found.detail) == ("not run", "the file takes one sample at a time")
    assert proof(report, "route onnx best").figures["total"] == 40
    assert proof(report, "executed work onnx").figures == {
        "macs per sample at batch 1": 12, "promised": 12, "baseline_macs": 12
    }  # fmt: skip


def test_a_file_for_another_runtime_is_compared_all_the_same(copied: Bundle) -> None:
    variants = [{**item.model_dump(), "targets": ("tensorrt",)} for item in copied.manifest.variants]
    bundle = extend_bundle(copied, {}, {"variants": variants})
    report = verify(bundle)
    assert report.failures == ()
    assert proof(report, "parity onnx").status == "passed"
    assert proof(report, "executed work onnx").status == "not run"
    wrong = "m (float[batch, 4] x) => (float[batch, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}> "
    assert proof(exchanged(bundle, wrong + "{ y = MatMul(x, w) }"), "parity onnx").status == "failed"
