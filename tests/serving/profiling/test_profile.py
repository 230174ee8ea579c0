from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import ConfigError, ServingError
from deploykit_serving.profiling.comparison import compare_with_baseline, faster_variants
from deploykit_serving.profiling.histogram import Histogram
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.profile import ProfileOptions, measure_bundle, profile_bundle
from deploykit_serving.profiling.recorded import read_profile
from deploykit_serving.profiling.schema import Comparison, Profile
from tests.serving.profiling.tiny_bundles import slow_sum_model, sum_model, write_tiny

SHORT = ProfileOptions(seconds=0.3, largest_batch=4, brief=True, canary=False)
HERE = fingerprint().id


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    samples = np.ones((5, 4), dtype=np.float32)
    return write_tiny(tmp_path / "tiny.bundle", baseline=slow_sum_model(), samples=samples)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    path = tmp_path_factory.mktemp("measured") / "tiny.bundle"
    write_tiny(path, baseline=slow_sum_model())
    return read_profile(
        profile_bundle(path, ProfileOptions(seconds=0.8, largest_batch=4, brief=True, canary=False)), HERE
    )


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


def test_throughput_and_histogram_tell_the_same_story(measured: Profile) -> None:
    # By the mean, not by the median: on a busy machine a few calls last a hundred times as long as the others.
    for entry in measured.variants:
        for point in entry.points:
            lows, highs, counts = Histogram.decode(point.histogram).buckets()
            most, least = (point.batch * point.calls * 1e9 / float((ends * counts).sum()) for ends in (lows, highs))
            assert least * 0.999 <= point.throughput <= most * 1.001


def test_an_entry_says_when_and_with_what_it_was_measured(measured: Profile) -> None:
    for entry in measured.variants:
        assert entry.runtime == "onnxruntime-cpu"
        assert entry.runtime_version.startswith("onnxruntime ")
        assert entry.created == measured.created
        assert entry.failure == entry.uncompared == ""
        assert (entry.cold_start, entry.memory, entry.energy, entry.layers) == (None, None, None, None)


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
    assert item.verdict == "undecided"
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
    found = measure_bundle(slow, ProfileOptions(seconds=0.2, largest_batch=1, brief=True, canary=False))
    entry = found.variants[0].points[0].percentile(0.99)
    assert entry is not None
    assert entry.samples < 459
    assert entry.needed == 459
    assert entry.value_ms is None
    assert entry.high_ms is None


def test_a_model_that_fails_is_marked_and_the_others_are_measured(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "bad.bundle", hard=sum_model("another_input"), baseline=sum_model())
    profile = read_profile(profile_bundle(bundle.path, SHORT), HERE)
    bad, good = profile.of("hard"), profile.of("float")
    assert bad is not None
    assert good is not None
    assert bad.points == ()
    assert bad.failure.startswith("variant 'hard' fails at batch 1: ")
    assert bad.uncompared.startswith("hard failed before: variant 'hard' fails")
    assert [point.batch for point in good.points] == [1, 2, 4]
    assert profile.comparisons == ()


def test_points_hold_a_histogram_and_blocks_of_the_same_calls(measured: Profile) -> None:
    for entry in measured.variants:
        for point in entry.points:
            histogram = Histogram.decode(point.histogram)
            assert histogram.count == point.calls
            median = point.percentile(0.5)
            assert median is not None
            assert median.value_ms is not None
            assert histogram.percentile(0.5) / 1e6 == pytest.approx(median.value_ms, rel=2e-3)
            assert len(point.blocks_ms) == min(50, point.calls // 5)
            assert min(point.blocks_ms) <= median.value_ms <= max(point.blocks_ms)
            assert point.rejected is None


def test_several_streams_and_open_loops_are_points_of_their_own(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle", hard=slow_sum_model(), largest=1)
    options = ProfileOptions(seconds=1.0, streams=(2,), loads=(0.1, 0.3), brief=True, canary=False)
    entry = measure_bundle(bundle, options).variants[0]
    assert entry.failure == ""
    loads = [point.load for point in entry.points]
    capacity = entry.points[1].throughput
    assert [(load.kind, load.streams) for load in loads] == [("closed", 1), ("closed", 2), ("open", 2), ("open", 2)]
    assert [load.rate for load in loads[2:]] == [pytest.approx(share * capacity, rel=1e-3) for share in (0.1, 0.3)]


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
        ({"limit": 0}, "limit must be above 0, got 0"),
        ({"streams": (1, 0)}, "streams must be at least 1, got 0"),
        ({"runtimes": ()}, "runtimes is empty"),
        ({"loads": (1.0,)}, "a load is a share of the capacity between 0 and 1, got 1"),
        ({"percentiles": (99.0,)}, "a percentile is given as a share inside .*, 0.99 for p99; got 99"),
        ({"percentiles": (0.999,), "calls": 4602}, "p99.9 takes at least 4603 calls and calls is 4602"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProfileOptions(**settings)  # type: ignore[arg-type]


def test_profiling_imports_no_torch() -> None:
    script = "import sys, deploykit_serving.profiling.profile; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
