"""benchmarks/gpu.py as far as a machine without a GPU goes: its checks run here on the CPU's runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu import NOT_RUN, OPENERS, check_bundle, main, opener, planned, write_report
from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import ServingError
from deploykit.manifest import VariantEntry
from deploykit.runtime import Runtime, RuntimeOptions
from deploykit.testing import offered
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.runtimes import Session, open_session, open_variant
from deploykit_serving.runtimes.nvidia_gpu import Gpu, find_gpu, read_gpu
from tests.serving.profiling.tiny_bundles import slow_sum_model, sum_model, write_tiny

HAS_GPU = find_gpu() is not None


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny(tmp_path / "tiny.bundle", baseline=slow_sum_model(products=2), largest=4)


def _cpu(bundle: Bundle, entry: VariantEntry) -> Session:
    return open_variant(bundle, entry)


def test_right_answers_pass_and_are_measured(bundle: Bundle) -> None:
    outcomes = check_bundle(bundle, {"cpu": _cpu}, seconds=0.05)
    assert {item.status for item in outcomes} == {"passed", "measured"}
    checks = [item.check for item in outcomes if item.variant == "hard"]
    assert "answers at batch 1 equal the CPU's" in checks
    assert "answers at batch 4 equal the CPU's" in checks
    assert {"opening", "four threads get what one gets"} <= set(checks)
    assert "speed against float at batch 4" in checks
    assert not [item for item in outcomes if item.variant == "float" and "speed" in item.check]


def test_wrong_answers_fail(bundle: Bundle) -> None:
    wrong = sum_model(factor=1.001)
    outcomes = check_bundle(bundle, {"cpu": lambda *_: open_session(wrong)}, seconds=0.05)
    failed = [item for item in outcomes if item.variant == "hard" and item.status == "failed"]
    assert [item.check for item in failed] == [f"answers at batch {batch} equal the CPU's" for batch in (1, 4)]


def test_a_runtime_that_does_not_answer_the_same_twice_fails(bundle: Bundle) -> None:
    class Drifts:
        def __init__(self, session: Session) -> None:
            self.session, self.calls = session, 0

        def run(self, inputs):  # type: ignore[no-untyped-def]
            self.calls += 1
            return {name: array + self.calls for name, array in self.session.run(inputs).items()}

    outcomes = check_bundle(bundle, {"cpu": lambda *asked: Drifts(open_variant(*asked))}, seconds=0.05)
    assert "they differ" in {item.detail for item in outcomes if item.check.startswith("two runs")}


class Absent(Runtime):
    def missing(self) -> str:
        return "no wings"

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        raise AssertionError("it is missing")


def test_a_missing_runtime_is_not_run_and_a_failing_one_failed(bundle: Bundle) -> None:
    def failing(*_: object) -> Session:
        raise ServingError("out of memory\nlong story")

    with offered(runtimes={"absent": Absent}):
        outcomes = check_bundle(bundle, {"a": opener("absent"), "b": failing, "c": _cpu}, seconds=0.05)
    assert {(item.status, item.detail) for item in outcomes if item.runtime == "a"} == {("not run", "no wings")}
    assert {(item.status, item.detail) for item in outcomes if item.runtime == "b"} == {
        ("failed", "ServingError: out of memory")
    }
    assert "passed" in {item.status for item in outcomes if item.runtime == "c"}


def test_plan_holds_what_each_runtime_is_for(bundle: Bundle) -> None:
    variants = [entry.model_dump() for entry in bundle.manifest.variants]
    variants[0]["targets"] = ("tensorrt",)
    changed = extend_bundle(bundle, {}, {"variants": variants})
    assert [(entry.name, runtime) for entry, runtime in planned(changed, ("onnxruntime-cuda", "tensorrt-rtx"))] == [
        ("float", "onnxruntime-cuda"), ("float", "tensorrt-rtx"), ("hard", "tensorrt-rtx"),
    ]  # fmt: skip


def test_the_drivers_answer_is_read() -> None:
    assert read_gpu("NVIDIA L4, 550.54.15, 8.9") == Gpu(name="NVIDIA L4", driver="550.54.15", target="SM89")
    assert read_gpu("NVIDIA-SMI has failed") is None
    assert read_gpu("Tesla, 1, [N/A]") is None


def test_without_a_gpu_it_says_so_and_is_no_success(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_gpu() is None
    assert main([str(bundle.path)]) == NOT_RUN == 2
    printed = capsys.readouterr().out
    assert "would check: tiny float on onnxruntime-cuda" in printed
    assert printed.endswith("not run: no GPU found\n")


def test_without_bundles_it_asks_for_some(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "wanted at least one bundle" in capsys.readouterr().err


def test_what_was_seen_is_written_with_the_host(bundle: Bundle, tmp_path: Path) -> None:
    outcomes = check_bundle(bundle, {"cpu": _cpu}, seconds=0.05)
    gpu = Gpu("NVIDIA L4", "550.54.15", "SM89")
    write_report(tmp_path / "seen.json", gpu, outcomes)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["gpu"]["target"] == "SM89"
    assert seen["host"]["id"] == fingerprint().id
    assert len(seen["outcomes"]) == len(outcomes)
    assert {"tensorrt", "onnxruntime-cuda"} <= {item["name"] for item in seen["runtimes"]}
    assert [path.name for path in tmp_path.glob("*.json")] == ["seen.json"]


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU: these runtimes may load")
@pytest.mark.parametrize("runtime", sorted(OPENERS))
def test_no_gpu_runtime_loads_here_by_falling_back(bundle: Bundle, runtime: str) -> None:
    entry = bundle.manifest.hard_variants[0]
    with pytest.raises(ServingError, match=r"cannot run here: .*(is not installed|built without CUDA|no NVIDIA GPU)"):
        open_variant(bundle, entry, runtime)
