from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploykit.bundle import Bundle, open_bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import BundleError, ConfigError, ServingError
from deploykit_serving.profiling.comparison import compare_with_baseline, faster_variants
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.profile import ProfileOptions, measure_bundle, profile_bundle
from deploykit_serving.profiling.recorded import read_profile, recorded_hosts
from deploykit_serving.profiling.schema import Comparison, Profile, profile_file
from tests.serving.profiling.tiny_bundles import slow_sum_model, sum_model, write_tiny

SHORT = ProfileOptions(seconds=0.6, largest_batch=4)
HERE = fingerprint().id


def _bytes(bundle: Path) -> dict[str, bytes]:
    return {str(path.relative_to(bundle)): path.read_bytes() for path in sorted(bundle.rglob("*")) if path.is_file()}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    samples = np.ones((5, 4), dtype=np.float32)
    return write_tiny(tmp_path / "tiny.bundle", baseline=slow_sum_model(), samples=samples)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path = tmp_path_factory.mktemp("measured") / "tiny.bundle"
    write_tiny(path, baseline=slow_sum_model())
    return read_profile(profile_bundle(path, ProfileOptions(seconds=1.5, largest_batch=4)), HERE)


def test_profile_holds_every_variant_with_its_sweep(measured: Profile) -> None:
    assert [entry.variant for entry in measured.variants] == ["hard", "float"]
    for entry in measured.variants:
        sizes = [point.batch for point in entry.points]
        assert sizes == [1, 2, 4][: len(sizes)]
        for point in entry.points:
            assert point.calls >= 7
            assert [item.q for item in point.percentiles] == [0.5, 0.9, 0.99]
            median = point.percentile(0.5)
            assert median is not None
            assert median.value_ms is not None
            assert median.low_ms is not None
            assert median.high_ms is not None
            assert 0 < median.low_ms <= median.value_ms <= median.high_ms
    assert measured.settings.overhead_ns > 0
    assert measured.host.id == HERE


def test_throughput_and_median_tell_the_same_story(measured: Profile) -> None:
    entry = measured.of("float")
    assert entry is not None
    point = entry.points[0]
    median = point.percentile(0.5)
    assert median is not None
    assert median.value_ms is not None
    assert point.throughput == pytest.approx(point.batch * 1000 / median.value_ms, rel=0.8)


def test_faster_variant_is_told_from_a_slower_one(tmp_path: Path) -> None:
    quick = write_tiny(tmp_path / "quick.bundle", hard=sum_model(), baseline=slow_sum_model())
    slow = write_tiny(tmp_path / "slow.bundle", hard=slow_sum_model(), baseline=sum_model())
    found = measure_bundle(quick, SHORT)
    assert [item.verdict for item in found.comparisons] == ["faster"] * len(found.comparisons)
    assert [item.batch for item in faster_variants(found)["hard"]] == [1, 8]
    assert "times as fast as float" in found.comparisons[0].sentence()
    lost = measure_bundle(slow, SHORT)
    assert [item.verdict for item in lost.comparisons] == ["slower"] * len(lost.comparisons)
    assert faster_variants(lost) == {"hard": ()}
    assert "is slower" in lost.comparisons[0].sentence()


def test_an_interval_around_one_is_no_difference() -> None:
    item = Comparison(variant="hard", baseline="float", batch=1, ratio=1.2, low=0.9, high=1.4, pairs=30, block=5)
    assert item.verdict == "no difference"
    assert "cannot be told apart" in item.sentence()
    assert not item.measured.faster


def test_compare_with_baseline_answers_by_variant_and_batch(bundle: Bundle) -> None:
    told: list[str] = []
    found = compare_with_baseline(bundle, seconds=0.1, report=told.append)
    assert list(found) == told == ["hard", "hard at batch 8"]
    assert all(ratio.faster for ratio in found.values())


def test_without_a_baseline_nothing_is_compared(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "alone.bundle")
    assert compare_with_baseline(bundle) == {}
    assert measure_bundle(bundle, SHORT).comparisons == ()


def test_a_file_for_batch_one_is_not_swept(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "one.bundle", baseline=slow_sum_model(), dynamic_batch=False)
    found = measure_bundle(bundle, SHORT)
    entry = found.of("hard")
    assert entry is not None
    assert [point.batch for point in entry.points] == [1]
    assert [item.batch for item in found.comparisons] == [1]


def test_p99_of_few_calls_is_refused_with_the_count_needed(tmp_path: Path) -> None:
    slow = write_tiny(tmp_path / "slow.bundle", hard=slow_sum_model(products=60, width=1024), largest=1)
    found = measure_bundle(slow, ProfileOptions(seconds=0.2, largest_batch=1))
    entry = found.variants[0].points[0].percentile(0.99)
    assert entry is not None
    assert entry.samples < 459
    assert entry.needed == 459
    assert entry.value_ms is None
    assert entry.high_ms is None


def test_profile_is_kept_by_host_and_leaves_foreign_ones_alone(bundle: Bundle) -> None:
    profile = measure_bundle(bundle, SHORT)
    foreign = profile.model_copy(update={"host": profile.host.model_copy(update={"id": "0" * 12})})
    data = foreign.model_dump_json().encode()
    extend_bundle(bundle, {profile_file("0" * 12): data})
    only_foreign = open_bundle(bundle.path)
    with pytest.raises(BundleError, match=rf"no profile of host {HERE} \(profiles of: 000000000000\); run: deploykit"):
        read_profile(only_foreign, HERE)
    written = profile_bundle(bundle.path, SHORT)
    assert sorted(recorded_hosts(written)) == sorted([HERE, "0" * 12])
    assert written.read(profile_file("0" * 12)) == data
    assert read_profile(written, HERE).host.id == HERE


def test_a_profile_under_another_hosts_name_is_refused(bundle: Bundle) -> None:
    data = measure_bundle(bundle, SHORT).model_dump_json().encode()
    written = extend_bundle(bundle, {profile_file("0" * 12): data})
    with pytest.raises(BundleError, match=f"was taken on host {HERE}, not 000000000000"):
        read_profile(written, "0" * 12)


def test_a_profile_of_an_older_file_is_stale(bundle: Bundle) -> None:
    written = profile_bundle(bundle.path, SHORT)
    changed = extend_bundle(written, {"models/hard.onnx": slow_sum_model(products=2)})
    with pytest.raises(BundleError, match="stale: variant 'hard' has changed since"):
        read_profile(changed, HERE)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 99}, "has version 99; this deploykit reads 2"), ({"surprise": 1}, "is not valid: surprise")],
)
def test_a_profile_of_another_kind_is_refused(bundle: Bundle, change: dict[str, int], message: str) -> None:
    content = json.loads(measure_bundle(bundle, SHORT).model_dump_json()) | change
    written = extend_bundle(bundle, {profile_file(HERE): json.dumps(content).encode()})
    with pytest.raises(BundleError, match=message):
        read_profile(written, HERE)


def test_an_interrupted_profile_leaves_the_bundle_as_it_was(bundle: Bundle) -> None:
    before = _bytes(bundle.path)

    def interrupt(what: str, done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_bundle(bundle.path, SHORT, report=interrupt)
    assert _bytes(bundle.path) == before


def test_a_killed_profile_leaves_the_bundle_as_it_was(bundle: Bundle) -> None:
    before = _bytes(bundle.path)
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from deploykit_serving.profiling.profile import ProfileOptions, profile_bundle;"
        "kill = lambda what, done: done < 1 or os.kill(os.getpid(), signal.SIGKILL);"
        "profile_bundle(Path(sys.argv[1]), ProfileOptions(seconds=0.3, largest_batch=2), report=kill)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bundle.path)], check=False)
    assert done.returncode == -9
    assert _bytes(bundle.path) == before
    assert open_bundle(bundle.path).names("profiles") == []


def test_a_model_that_fails_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "bad.bundle", hard=sum_model("another_input"))
    before = _bytes(bundle.path)
    with pytest.raises(ServingError, match=r"variant 'hard' fails at batch 1: "):
        profile_bundle(bundle.path, SHORT)
    assert _bytes(bundle.path) == before


def test_a_bundle_without_a_file_for_this_runtime_is_refused(bundle: Bundle) -> None:
    variants = tuple(
        {**entry.model_dump(), "targets": ("tensorrt",)} for entry in bundle.manifest.variants
    )  # fmt: skip
    only_tensorrt = extend_bundle(bundle, {}, {"variants": variants})
    with pytest.raises(ServingError, match="no variant for 'onnxruntime'; its variants are for tensorrt"):
        measure_bundle(only_tensorrt, SHORT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": 0}, "seconds must be above 0, got 0"),
        ({"seconds": float("nan")}, "seconds must be above 0, got nan"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"largest_batch": -1}, "largest_batch must be at least 1, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProfileOptions(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_what_it_wrote(bundle: Bundle, as_json: bool) -> None:
    script = "from deploykit.cli.main import run; run()"
    arguments = [str(bundle.path), "--seconds", "0.5", "--largest-batch", "2", *(["--json"] if as_json else [])]
    command = [sys.executable, "-c", script, "profile", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    written = read_profile(open_bundle(bundle.path), HERE)
    if as_json:
        assert Profile.model_validate_json(done.stdout) == written
        return
    assert "samples/s" in done.stdout
    assert "[low, high]: 95 % interval" in done.stdout
    assert written.comparisons[0].sentence() in done.stdout.replace("\n", " ")


def test_profiling_imports_no_torch() -> None:
    script = "import sys, deploykit_serving.profiling.profile; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
