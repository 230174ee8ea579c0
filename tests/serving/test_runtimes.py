"""Runtimes are registered: unknown and missing ones and refusals are told; a plugin's one proves and serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from deploykit import Runtime, RuntimeOptions, Session
from deploykit.cli.runtimes import runtimes
from deploykit.cli.surroundings import surroundings
from deploykit.errors import ServingError
from deploykit.signature import Arrays
from deploykit.testing import offered
from deploykit_export.onnx_import import import_onnx
from deploykit_export.proof_report import ProofReport
from deploykit_export.verification import OtherRuntime, Surroundings, verify_bundle
from deploykit_serving.loading import load_models
from deploykit_serving.runtimes import open_session, open_variant
from deploykit_serving.runtimes.availability import availability
from deploykit_serving.runtimes.cpu_threads import threads_for, usable_threads
from deploykit_serving.runtimes.opening import counted

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


class Breaking(Exact):
    def missing(self) -> str:
        raise RuntimeError("a driver from last century")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with offered(runtimes={item.__name__.lower(): item for item in (Exact, Wrong, Absent, Refusing, Breaking)}):
        yield


def verified(tmp_path: Path, runtime: str, *, asked: bool = True, reason: str = "") -> ProofReport:
    bundle = import_onnx(MODEL, tmp_path / "m.bundle", samples={"x": X})
    further = {runtime: OtherRuntime(reason or partial(open_variant, runtime=runtime), asked=asked)}
    return verify_bundle(bundle, Surroundings(open_session=open_session, further=further))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onnxruntim-cpu", r"no runtime 'onnxruntim-cpu' among \d+\. Did you mean 'onnxruntime-cpu'\?"),
        ("absent", "runtime 'absent' cannot run here: wants a machine with wings"),
        ("refusing", "refusing refuses the model: no kernel for Add$"),
        ("breaking", "runtime 'breaking' cannot run here: RuntimeError: a driver from last century"),
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
    assert "largest difference from onnxruntime-cpu onnx: 0" in proofs["parity exact onnx"].detail
    assert [hop.name for hop in report.hops][-2:] == ["exact onnx", "http"]
    assert report.failures == ()


def test_verify_finds_a_runtime_that_answers_wrong(tmp_path: Path) -> None:
    report = verified(tmp_path, "wrong")
    assert [proof.name for proof in report.failures] == ["parity wrong onnx"]
    assert "output 'y'" in report.failures[0].detail


@pytest.mark.parametrize("asked", [True, False])
def test_a_runtime_that_takes_no_file_fails_only_those_who_asked_for_it(tmp_path: Path, asked: bool) -> None:
    report = verified(tmp_path, "refusing", asked=asked)
    assert [proof.name for proof in report.failures] == (["parity refusing"] if asked else [])
    said = "refusing refuses variant 'onnx' of m.bundle: no kernel for Add"
    assert {hop.name: hop.reason for hop in report.hops}["refusing onnx"] == said
    assert [proof.detail for proof in report.failures] == [f"it runs no file of this bundle: {said}"] * asked


@pytest.mark.parametrize("asked", [True, False])
def test_a_runtime_that_is_not_here_fails_only_those_who_asked_for_it(tmp_path: Path, asked: bool) -> None:
    report = verified(tmp_path, "absent", asked=asked, reason="wants a machine with wings")
    (hop,) = [item for item in report.hops if item.name == "absent"]
    assert (hop.status, hop.reason) == ("not run", "wants a machine with wings")
    assert [proof.name for proof in report.failures] == (["parity absent"] if asked else [])


def test_verify_runs_a_variant_only_where_it_is_written_for(tmp_path: Path) -> None:
    bundle = import_onnx(MODEL, tmp_path / "m.bundle", samples={"x": X})
    other = OtherRuntime(partial(open_variant, runtime="wrong"), ("tensorrt",))
    report = verify_bundle(bundle, Surroundings(open_session=open_session, further={"wrong": other}))
    assert {hop.name: hop.reason for hop in report.hops}["wrong"] == "no variant is written for tensorrt"
    assert report.failures == ()


def test_the_command_line_asks_every_runtime_of_files(tmp_path: Path) -> None:
    others = surroundings(http=False, speed=False, runtimes=("wrong",)).further
    assert next(iter(others)) == "wrong"
    assert {"exact", "refusing", "absent"} <= set(others)
    assert not {"onnxruntime-cpu", "torch"} & set(others)
    assert [name for name, other in others.items() if other.asked] == ["wrong"]
    assert others["absent"].open_variant == "wants a machine with wings"


def test_as_many_threads_as_the_process_may_use() -> None:
    assert [threads_for(cores, quota) for cores, quota in ((8, None), (8, 2.5), (2, 4.0), (4, 0.5))] == [8, 2, 2, 1]
    assert counted(RuntimeOptions(threads=0, spin=True)) == RuntimeOptions(threads=usable_threads(), spin=True)
    assert counted(None) == RuntimeOptions()


def test_what_is_registered_is_listed_with_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    found = {item.name: item for item in availability()}
    assert (found["absent"].runs, found["absent"].reason) == (False, "wants a machine with wings")
    assert found["onnxruntime-cpu"].runs
    assert found["onnxruntime-cpu"].version.startswith("onnxruntime ")
    assert found["breaking"].reason == "RuntimeError: a driver from last century"
    assert found["torch"].starts_from == "bundle"
    runtimes()
    told = capsys.readouterr().out
    assert "absent cannot run here: wants a machine with wings" in told
    runtimes(as_json=True)
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)["runtimes"]}
    assert listed["absent"]["runs"] is False


def test_a_server_loads_bundles_into_the_runtime_it_is_told(tmp_path: Path) -> None:
    path = import_onnx(MODEL, tmp_path / "m.bundle", samples={"x": X}).path
    model = load_models([path], unproven=True, runtime="exact")["m"]
    assert isinstance(model.variants["onnx"].session, Doubling)
    with pytest.raises(ServingError, match=r"variant 'onnx' failed its self-test: output 'y' is off by up to 0\.07"):
        load_models([path], unproven=True, runtime="wrong")
