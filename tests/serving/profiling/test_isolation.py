from __future__ import annotations

from pathlib import Path

import pytest

from deploykit_serving.profiling.isolation import run_job
from deploykit_serving.profiling.job import Job, Message
from deploykit_serving.profiling.profile import ProfileOptions, measure_bundle
from deploykit_serving.profiling.schema import Profile
from tests.serving.profiling.ill_plugin import ill_runtimes
from tests.serving.profiling.ill_runtimes import WORDS
from tests.serving.profiling.tiny_bundles import slow_sum_model, sum_model, write_tiny

__all__ = ["ill_runtimes"]


def _job(bundle: Path, **changes: object) -> Job:
    return Job.model_validate(
        {"kind": "sweep", "bundle": bundle, "variant": "hard", "runtime": "onnxruntime-cpu", "threads": 1,
         "seconds": 0.2, "largest_batch": 2, "canary": False, **changes}
    )  # fmt: skip


def _run(job: Job) -> tuple[str, list[Message]]:
    heard: list[Message] = []
    return run_job(job, heard.append), heard


def test_a_job_that_goes_well_says_everything_and_ends(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle")
    failure, heard = _run(_job(bundle.path))
    assert failure == ""
    assert [message.point.batch for message in heard if message.point] == [1, 2]
    assert [message.stopped for message in heard if message.stopped] == ["batch 2 is the largest asked for or legal"]
    assert heard[-1].finished


@pytest.mark.usefixtures("ill_runtimes")
@pytest.mark.parametrize(
    ("runtime", "failure"),
    [
        ("crashing", f"crashed with SIGSEGV while trying hard, batch 2; last words: {WORDS}"),
        ("hanging", f"hung: trying hard, batch 2 did not end within 6 s and was stopped; last words: {WORDS}"),
        ("leaving", "ended with exit code 7 while trying hard, batch 2"),
    ],
)
def test_what_goes_wrong_is_told_and_what_came_before_is_kept(tmp_path: Path, runtime: str, failure: str) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle")
    got, heard = _run(_job(bundle.path, runtime=runtime, limit=6.0))
    assert got == failure
    assert [message.point.batch for message in heard if message.point] == [1]


def test_a_model_that_fails_on_its_inputs_is_told_in_words(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "bad.bundle", hard=sum_model("another_input"))
    failure, _ = _run(_job(bundle.path))
    assert failure.startswith("variant 'hard' fails at batch 1: ")


def test_a_bundle_that_has_changed_meanwhile_is_told_in_words(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle")
    (bundle.path / "models" / "hard.onnx").write_bytes(slow_sum_model())
    failure, heard = _run(_job(bundle.path))
    assert "hard.onnx" in failure
    assert not any(message.point for message in heard)


def test_whoever_listens_may_stop_it(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle")

    def interrupt(message: Message) -> None:
        if message.point:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(_job(bundle.path), interrupt)


@pytest.fixture
def of_all(tmp_path: Path, ill_runtimes: None) -> Profile:
    bundle = write_tiny(tmp_path / "tiny.bundle", baseline=slow_sum_model())
    names = ("crashing", "absent", "onnxruntime-cpu")
    return measure_bundle(
        bundle,
        ProfileOptions(seconds=1.0, largest_batch=2, runtimes=names, brief=True, canary=False),
    )


def test_the_sweep_goes_on_after_crashes(of_all: Profile) -> None:
    assert [entry.name for entry in of_all.variants] == [
        f"{variant}@{runtime}/1"
        for runtime in ("crashing", "absent", "onnxruntime-cpu")
        for variant in ("hard", "float")
    ]
    points = {entry.name: [point.batch for point in entry.points] for entry in of_all.variants}
    assert points["hard@crashing/1"] == points["float@crashing/1"] == [1]
    assert points["hard@absent/1"] == []
    assert points["hard@onnxruntime-cpu/1"] == [1, 2]
    by_name = {entry.name: entry for entry in of_all.variants}
    assert "crashed with SIGSEGV" in by_name["float@crashing/1"].failure
    assert by_name["hard@absent/1"].failure == "cannot run here: there is no such device; buy one"
    assert by_name["hard@absent/1"].runtime_version == ""
    assert by_name["hard@crashing/1"].runtime_version == "ill 1"
    assert by_name["hard@onnxruntime-cpu/1"].failure == ""
    # What has failed alone is not tried again against the baseline.
    assert {item.runtime for item in of_all.comparisons} == {"onnxruntime-cpu"}
    assert "failed before: crashed with SIGSEGV" in by_name["hard@crashing/1"].uncompared
    assert by_name["hard@onnxruntime-cpu/1"].uncompared == ""
