from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploykit.bundle import Bundle, open_bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.cli.profile import _percentiles
from deploykit.errors import ConfigError, ServingError, UnknownNameError
from deploykit.testing.offering import offered
from deploykit_serving.profiling.plan import ProfileOptions, Unit, make_plan
from deploykit_serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from tests.serving.profiling.tiny_bundles import slow_sum_model, sum_model, write_tiny

HOST = "0123456789ab"


class Twin(OnnxRuntimeCpu):
    """Runs here as the reference does."""

    def version(self) -> str:
        return "twin 1"


class NewerTwin(Twin):
    """The same after an upgrade."""

    def version(self) -> str:
        return "twin 2"


class Missing(OnnxRuntimeCpu):
    """Cannot run here."""

    def missing(self) -> str:
        return "no such device"


class FromParts(OnnxRuntimeCpu):
    """A reference that is never served."""

    starts_from = "bundle"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny(tmp_path / "tiny.bundle", baseline=slow_sum_model())


def _names(units: tuple[Unit, ...]) -> list[str]:
    return [unit.name for unit in units]


def test_sweeps_come_first_then_comparisons(bundle: Bundle) -> None:
    with offered(runtimes={"twin": Twin}):
        units = make_plan(bundle, ProfileOptions(runtimes=("onnxruntime-cpu", "twin"), threads=(2, 1, 2)), HOST)
    sweeps = [
        f"{variant}@{runtime}/{threads}"
        for runtime in ("onnxruntime-cpu", "twin")
        for variant in ("hard", "float")
        for threads in (1, 2)
    ]
    compared = [f"{name} against the baseline" for name in sweeps if name.startswith("hard")]
    assert _names(units) == sweeps + compared
    assert {unit.version for unit in units if unit.job.runtime == "twin"} == {"twin 1"}
    assert len({unit.key for unit in units}) == len(units)


def test_all_are_those_that_can_run_here_and_are_served(bundle: Bundle) -> None:
    kinds = {"twin": Twin, "gone": Missing, "parts": FromParts}
    with offered(runtimes=kinds):
        found = {unit.job.runtime for unit in make_plan(bundle, ProfileOptions(runtimes=("all",)), HOST)}
    assert {"onnxruntime-cpu", "twin"} <= found
    assert not {"gone", "parts"} & found


def test_one_that_was_named_and_cannot_run_is_a_unit_that_takes_no_time(bundle: Bundle) -> None:
    with offered(runtimes={"gone": Missing}):
        units = make_plan(bundle, ProfileOptions(runtimes=("gone", "onnxruntime-cpu")), HOST)
        alone = make_plan(bundle, ProfileOptions(), HOST)
    gone = [unit for unit in units if unit.job.runtime == "gone"]
    assert _names(tuple(gone)) == ["hard@gone/1", "float@gone/1"]
    assert [(unit.missing, unit.seconds) for unit in gone] == [("no such device", 0.0)] * 2
    assert sum(unit.seconds for unit in units) == pytest.approx(sum(unit.seconds for unit in alone))


@pytest.mark.parametrize(
    "options",
    [
        ProfileOptions(),
        ProfileOptions(brief=True),
        ProfileOptions(seconds=80.0, threads=(1, 2), http=True, streams=(1, 4), loads=(0.5, 0.8)),
        ProfileOptions(seconds=100.0, http=True),
    ],
)
def test_everything_together_takes_about_the_seconds_asked_for(bundle: Bundle, options: ProfileOptions) -> None:
    total = sum(unit.seconds for unit in make_plan(bundle, options, HOST))
    assert total == pytest.approx(options.seconds)


def test_what_begins_and_ends_processes_leaves_most_of_a_short_time_for_measuring(bundle: Bundle) -> None:
    units = make_plan(bundle, ProfileOptions(seconds=1.0, http=True), HOST)
    assert sum(unit.job.seconds + unit.details for unit in units) == pytest.approx(0.7)


def test_only_what_a_server_does_is_measured_through_one(bundle: Bundle) -> None:
    units = make_plan(bundle, ProfileOptions(threads=(1, 2), http=True), HOST)
    assert {(unit.job.threads, unit.job.kind) for unit in units if unit.job.http} == {(1, "sweep")}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (ProfileOptions, True),
        (lambda: ProfileOptions(limit=5.0, fresh=True), True),
        (lambda: ProfileOptions(percentiles=(0.99, 0.9)), True),
        (lambda: ProfileOptions(percentiles=(0.9, 0.99, 0.999)), False),
        (lambda: ProfileOptions(seconds=31.0), False),
        (lambda: ProfileOptions(canary=False), False),
        (lambda: ProfileOptions(largest_batch=64), False),
        (lambda: ProfileOptions(loads=(0.5,)), False),
        (lambda: ProfileOptions(http=True), False),
        (lambda: ProfileOptions(brief=True), False),
    ],
)  # fmt: skip
def test_the_key_holds_what_the_figures_depend_on(
    bundle: Bundle, change: Callable[[], ProfileOptions], same: bool
) -> None:
    before = make_plan(bundle, ProfileOptions(), HOST)[0].key
    assert (make_plan(bundle, change(), HOST)[0].key == before) is same


def test_the_key_changes_with_host_file_baseline_samples_and_version(bundle: Bundle) -> None:
    hard, _, compared = (unit.key for unit in make_plan(bundle, ProfileOptions(), HOST))
    assert make_plan(bundle, ProfileOptions(), "f" * 12)[0].key != hard
    newer = make_plan(extend_bundle(bundle, {"models/float.onnx": slow_sum_model(2)}), ProfileOptions(), HOST)
    assert newer[0].key == hard
    assert newer[2].key != compared
    other = make_plan(
        extend_bundle(open_bundle(bundle.path), {"models/hard.onnx": sum_model(factor=2.0)}), ProfileOptions(), HOST
    )
    assert other[0].key != hard
    options = ProfileOptions(runtimes=("twin",))
    with offered(runtimes={"twin": Twin}):
        old = make_plan(bundle, options, HOST)[0].key
    with offered(runtimes={"twin": NewerTwin}):
        assert make_plan(bundle, options, HOST)[0].key != old


def test_an_unknown_runtime_is_told(bundle: Bundle) -> None:
    with pytest.raises(UnknownNameError, match=r"no runtime 'onnxruntime-cup'.*Did you mean 'onnxruntime-cpu'"):
        make_plan(bundle, ProfileOptions(runtimes=("onnxruntime-cup",)), HOST)


def test_a_bundle_without_a_file_for_a_runtime_is_told(bundle: Bundle) -> None:
    variants = [{**entry.model_dump(), "targets": ("paper",)} for entry in bundle.manifest.variants]
    on_paper = extend_bundle(bundle, {}, {"variants": variants})
    with pytest.raises(ServingError, match="no variant for 'onnxruntime'; its variants are for paper"):
        make_plan(on_paper, ProfileOptions(), HOST)
    with pytest.raises(ServingError, match="no runtime that can run here fits its variants; see: deploykit runtimes"):
        make_plan(on_paper, ProfileOptions(runtimes=("all",)), HOST)


def test_more_threads_than_the_machine_can_run_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"9999 threads on .* usable cores measure nothing but their waiting"):
        ProfileOptions(threads=9999)


def test_what_is_asked_for_comes_beside_the_usual_percentiles() -> None:
    assert sorted(_percentiles(["p99.9"], 100_000)) == [0.5, 0.9, 0.99, 0.999]
    assert sorted(set(_percentiles(["p50"], 60))) == [0.5, 0.9]  # p99 takes 459 calls, and nobody asked for it
