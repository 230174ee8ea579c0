"""The whole way on a plain digits bundle, and runners that lie."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import deploykit
from deploykit import Bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import ExportError, ServingError
from deploykit.lifecycle import harden
from deploykit.making import make_method, make_task
from deploykit.outputs import tensors
from deploykit_export.bundle_export import export_bundle
from deploykit_export.proof_report import Proof, ProofReport
from deploykit_export.soft_weights import SOFT_WEIGHTS
from deploykit_export.verification import Speed, Surroundings, verify_bundle
from deploykit_plain.passthrough import Passthrough
from deploykit_serving.runtimes import open_session
from deploykit_training.training import new_record, train

SAMPLES = 96


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("digits")
    task = make_task("digits")
    soft = train(new_record("plain.passthrough", {}, "digits", network="mlp", epochs=2), folder / "run")
    calibration = tensors(task.samples("calibration").inputs, task.signature)
    return export_bundle(
        soft, harden(soft, calibration), folder / "plain.bundle", task="digits", network="mlp",
        calibration=calibration, heldout=task.samples("test"),
    )  # fmt: skip


class Wrapped:
    """A real session whose answers are changed on their way out."""

    def __init__(self, data: bytes, change: Callable[[dict[str, Any], int], dict[str, Any]]) -> None:
        self.session, self.change, self.calls = open_session(data), change, 0

    def run(self, inputs: Any) -> dict[str, Any]:
        self.calls += 1
        return self.change(self.session.run(inputs), self.calls)


def verify(bundle: Bundle, **surroundings: Any) -> ProofReport:
    return verify_bundle(bundle, Surroundings(**{"open_session": open_session, **surroundings}), samples=SAMPLES)


def proof(report: ProofReport, name: str) -> Proof:
    (found,) = [item for item in report.proofs if item.name == name]
    return found


def lying(change: Callable[[dict[str, Any], int], dict[str, Any]]) -> Callable[[bytes], Wrapped]:
    return lambda data: Wrapped(data, change)


def test_an_honest_bundle_passes(bundle: Bundle) -> None:
    report = verify(bundle)
    assert report.failures == ()
    assert report.samples == SAMPLES
    hops = {hop.name: hop for hop in report.hops}
    assert list(hops) == ["soft", "hard", "onnxruntime-cpu onnx", "http"]
    assert hops["soft"].metric == hops["hard"].metric == hops["onnxruntime-cpu onnx"].metric
    assert hops["hard"].max_abs == 0.0
    assert hops["hard"].decisions["argmax"].different == 0
    assert hops["soft"].metric is not None
    assert hops["soft"].metric > 0.8
    assert {item.name for item in report.proofs if item.status == "passed"} == {
        "oracle", "decisions", "tolerance", "metric", "parity onnx", "recorded onnx", "determinism onnx", "batch onnx",
        "shrinkage onnx",
    }  # fmt: skip
    assert {item.name for item in report.proofs if item.status == "marked"} == {"promise", "executed work onnx"}
    assert proof(report, "executed work onnx").figures["macs per sample at batch 1"] == 64 * 128 + 128 * 10
    assert proof(report, "shrinkage onnx").figures["bytes of float32"] == 4 * (64 * 128 + 128 + 128 * 10 + 10)
    assert (hops["http"].status, hops["http"].reason) == ("not run", "no server was asked for")
    assert proof(report, "speed").status == "not run"
    assert report.lost_at == ""
    assert ProofReport.model_validate_json(report.model_dump_json()) == report


def test_slightly_wrong_answers_fail_parity(bundle: Bundle) -> None:
    report = verify(bundle, open_session=lying(lambda out, _: {"logits": out["logits"] * np.float32(1.001)}))
    assert [item.name for item in report.failures] == ["parity onnx", "recorded onnx"]
    assert "largest difference from hard: " in report.failures[0].detail


def test_very_wrong_answers_name_the_hop_where_it_was_lost(bundle: Bundle) -> None:
    report = verify(bundle, open_session=lying(lambda out, _: {"logits": -out["logits"]}))
    assert report.lost_at == "onnxruntime-cpu onnx"
    assert {"parity onnx", "metric"} <= {item.name for item in report.failures}
    assert "allowed" in proof(report, "metric").detail


def test_chance_fails_determinism(bundle: Bundle) -> None:
    report = verify(bundle, open_session=lying(lambda out, call: {"logits": out["logits"] + np.float32(1e-7 * call)}))
    assert [item.name for item in report.failures] == ["determinism onnx"]


def test_an_answer_that_depends_on_the_batch_fails(bundle: Bundle) -> None:
    def change(out: dict[str, Any], _: int) -> dict[str, Any]:
        return {"logits": out["logits"] + np.float32(len(out["logits"]) == 1)}

    assert [item.name for item in verify(bundle, open_session=lying(change)).failures] == ["batch onnx"]


def test_a_runtime_that_refuses_the_file_fails(bundle: Bundle) -> None:
    def refuse(data: bytes) -> Any:
        raise ServingError("no room")

    report = verify(bundle, open_session=refuse)
    assert [(item.name, item.detail) for item in report.failures] == [("parity onnx", "no room")]
    assert {hop.name: hop.reason for hop in report.hops}["onnxruntime-cpu onnx"] == "no room"


@contextmanager
def _server(bundle: Bundle) -> Iterator[Callable[[str], Wrapped]]:
    def runner(name: str) -> Wrapped:
        variant = bundle.manifest.variant(name)
        assert variant is not None
        return Wrapped(bundle.read(variant.file), lambda out, _: out)

    yield runner


@contextmanager
def _lying_server(bundle: Bundle) -> Iterator[Callable[[str], Wrapped]]:
    off = np.float32(1e-6)
    with _server(bundle) as runner:
        yield lambda name: Wrapped(
            bundle.read(f"models/{name}.onnx"), lambda out, _: {"logits": runner(name).change(out, 0)["logits"] + off}
        )


@contextmanager
def _no_server(bundle: Bundle) -> Iterator[Callable[[str], Wrapped]]:
    raise ServingError("the port is taken")
    yield  # type: ignore[unreachable]


@pytest.mark.parametrize(
    ("server", "status", "words"),
    [(_server, "passed", "the same bits"), (_lying_server, "failed", "answers differ by up to"),
     (_no_server, "failed", "the port is taken")],
)  # fmt: skip
def test_the_http_hop_is_compared_bit_for_bit(bundle: Bundle, server: Any, status: str, words: str) -> None:
    found = proof(verify(bundle, http=server), "http")
    assert found.status == status
    assert words in found.detail


def test_a_variant_that_is_no_faster_is_marked_and_does_not_fail(bundle: Bundle) -> None:
    report = verify(bundle, speeds=lambda _: {"onnx": Speed(1.2, 0.99, 1.4)})
    assert proof(report, "speed onnx").status == "marked"
    assert "not faster, will not be selected" in proof(report, "speed onnx").detail
    assert report.failures == ()
    assert proof(verify(bundle, speeds=lambda _: {"onnx": Speed(2, 1.5, 3)}), "speed onnx").status == "passed"


def test_a_wrong_oracle_fails(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    true_oracle = Passthrough.oracle
    monkeypatch.setattr(
        Passthrough, "oracle", lambda self, soft, x: {"logits": true_oracle(self, soft, x)["logits"] + 0.1}
    )
    assert [item.name for item in verify(bundle).failures] == ["oracle"]
    monkeypatch.setattr(Passthrough, "oracle", lambda self, soft, x: 1 / 0)
    assert proof(verify(bundle), "oracle").detail == "the oracle failed: division by zero"


def test_a_broken_promise_fails(bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    copied = deploykit.open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.bundle"))
    promise = {**copied.manifest.promise.model_dump(), "macs": 9471, "weight_bytes": 1000}
    report = verify(extend_bundle(copied, {}, {"promise": promise}))
    assert [item.name for item in report.failures] == ["promise", "shrinkage onnx", "executed work onnx"]
    assert report.failures[0].detail.endswith("weight_bytes 1000 instead of None; macs 9471 instead of None")
    assert "9,472 at batch 1, 9,472 at batch 64; promised at most 9,471" in report.failures[2].detail


def test_weights_of_another_network_leave_the_soft_hop_out(bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    from deploykit_export.soft_weights import weights_to_bytes

    copied = deploykit.open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.bundle"))
    report = verify(extend_bundle(copied, {SOFT_WEIGHTS: weights_to_bytes(nn.Linear(2, 2))}))
    assert report.hops[0].status == "not run"
    assert "tensor '1.bias' is missing from the file; was it written for other settings?" in report.hops[0].reason
    assert proof(report, "oracle").status == "not run"


def test_the_users_own_network_without_a_task(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    method = make_method("plain.passthrough")
    soft = deploykit.prepare(net, method, torch.randn(6, 5))
    bundle = export_bundle(soft, deploykit.harden(soft), tmp_path / "own.bundle")
    report = verify(bundle)
    hops = {hop.name: hop for hop in report.hops}
    for name in ("soft", "hard"):
        assert hops[name].status == "not run"
        assert "neither task nor network is named, so the soft form cannot be made again" in hops[name].reason
        assert "export_bundle(..., network='package.module:function')" in hops[name].reason
    assert hops["onnxruntime-cpu onnx"].compared_with == "recorded at export"
    assert report.samples == 6
    assert report.failures == ()
    lied = verify(bundle, open_session=lying(lambda out, _: {"output": out["output"] + np.float32(0.01)}))
    assert [item.name for item in lied.failures] == ["parity onnx", "recorded onnx"]


def test_the_users_own_network_by_name_without_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(5, 4), nn.Tanh())\n"
    )
    monkeypatch.chdir(tmp_path)
    soft = deploykit.prepare(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), "plain.passthrough", torch.randn(6, 5))
    hard = deploykit.harden(soft)
    bundle = export_bundle(soft, hard, tmp_path / "own.bundle", network="nets_of_mine:make")
    report = verify(bundle)
    assert [hop.name for hop in report.hops if hop.status != "not run"][:2] == ["soft", "hard"]
    assert proof(report, "oracle").status == "passed"
    assert report.failures == ()
    (tmp_path / "nets_of_mine.py").unlink()
    sys.modules.pop("nets_of_mine")
    importlib.invalidate_caches()
    reason = verify(bundle).hops[0].reason
    assert "network 'nets_of_mine:make' cannot be made: ModuleNotFoundError" in reason


def test_the_bundles_contents(bundle: Bundle) -> None:
    assert set(bundle.manifest.files) == {
        "README.md", "models/float.onnx", "models/onnx.onnx", "proofs/export.json", "samples/calibration.npz",
        "samples/heldout.npz", SOFT_WEIGHTS,
    }  # fmt: skip
    assert [(item.name, item.role) for item in bundle.manifest.variants] == [("onnx", "hard"), ("float", "baseline")]
    assert (bundle.manifest.task, bundle.manifest.network) == ("digits", "mlp")


def test_names_that_cannot_be_used(bundle: Bundle, tmp_path: Path) -> None:
    soft = deploykit.prepare(nn.Linear(5, 4), make_method("plain.passthrough"), torch.randn(6, 5))
    hard = deploykit.harden(soft)
    with pytest.raises(ExportError, match=r"a bundle's folder must end in '.bundle', got 'own'"):
        export_bundle(soft, hard, tmp_path / "own")
    with pytest.raises(ExportError, match=r"a lowering may not be called 'float'"):
        export_bundle(
            soft, deploykit.HardForm(copy.deepcopy(hard.module), lowerings={"float": deploykit.Lowering()}),
            tmp_path / "own.bundle",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
