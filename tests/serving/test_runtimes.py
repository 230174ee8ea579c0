"""Runtimes are registered: unknown and missing ones and refusals are told; a plugin's one proves and serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from deploykit import Runtime, RuntimeOptions, Session
from deploykit.errors import ServingError
from deploykit.signature import Arrays
from deploykit.testing import offered
from deploykit_export.onnx_import import import_onnx
from deploykit_export.proof_report import ProofReport
from deploykit_export.verification import Surroundings, verify_bundle
from deploykit_serving.loading import load_models
from deploykit_serving.runtimes import open_session

DOUBLE = """<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 4] x) => (float[batch, 4] y) { y = Add(x, x) }"""
MODEL = parser.parse_model(DOUBLE).SerializeToString()
X = np.arange(8, dtype=np.float32).reshape(2, 4)


class Doubling:
    """Knows one model."""

    def __init__(self, factor: float) -> None:
        self.factor = np.float32(factor)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return {"y": inputs["x"] * self.factor}


class Exact(Runtime):
    """Doubles."""

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        return Doubling(2)


class Wrong(Runtime):
    """Nearly doubles."""

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        return Doubling(2.01)


class Absent(Exact):
    def missing(self) -> str:
        return "wants a machine with wings"


class Refusing(Runtime):
    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        raise ValueError("no kernel for Add\nand a stack of things")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with offered(runtimes={item.__name__.lower(): item for item in (Exact, Wrong, Absent, Refusing)}):
        yield


def verified(tmp_path: Path, runtime: str) -> ProofReport:
    bundle = import_onnx(MODEL, tmp_path / "m.bundle", samples={"x": X})
    further = {runtime: lambda model: open_session(model, runtime)}
    return verify_bundle(bundle, Surroundings(open_session=open_session, further=further))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onnxruntim-cpu", r"no runtime 'onnxruntim-cpu' among \d+\. Did you mean 'onnxruntime-cpu'\?"),
        ("absent", "runtime 'absent' cannot run here: wants a machine with wings"),
        ("refusing", "refusing refuses the model: no kernel for Add$"),
    ],
)
def test_a_session_that_cannot_be_had(name: str, words: str) -> None:
    with pytest.raises(ServingError, match=words):
        open_session(MODEL, name)


def test_the_reference_refuses_what_is_no_model() -> None:
    with pytest.raises(ServingError, match="onnxruntime-cpu refuses the model: "):
        open_session(b"nothing")


def test_verify_compares_another_runtime(tmp_path: Path) -> None:
    report = verified(tmp_path, "exact")
    proofs = {proof.name: proof for proof in report.proofs}
    assert proofs["parity exact onnx"].status == "passed"
    assert proofs["determinism exact onnx"].status == "passed"
    assert [hop.name for hop in report.hops][-2:] == ["exact onnx", "http"]
    assert report.failures == ()


def test_verify_finds_a_runtime_that_answers_wrong(tmp_path: Path) -> None:
    report = verified(tmp_path, "wrong")
    assert [proof.name for proof in report.failures] == ["parity wrong onnx"]
    assert "output 'y'" in report.failures[0].detail


def test_verify_fails_where_a_runtime_takes_no_file(tmp_path: Path) -> None:
    report = verified(tmp_path, "refusing")
    (failure,) = report.failures
    assert failure.name == "parity refusing"
    assert "it runs no file of this bundle: refusing refuses the model: no kernel for Add" in failure.detail


def test_a_server_loads_bundles_into_the_runtime_it_is_told(tmp_path: Path) -> None:
    path = import_onnx(MODEL, tmp_path / "m.bundle", samples={"x": X}).path
    model = load_models([path], unproven=True, runtime="exact")["m"]
    assert isinstance(model.variants["onnx"].session, Doubling)
    with pytest.raises(ServingError, match=r"variant 'onnx' failed its self-test: output 'y' is off by up to 0\.07"):
        load_models([path], unproven=True, runtime="wrong")
