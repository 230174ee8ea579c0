"""``deploykit compare`` through the installed program's own entry, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploykit.bundle_writer import extend_bundle
from deploykit_serving.profiling.schema import Profile, profile_file
from deploykit_serving.profiling.significance import Difference
from deploykit_serving.report.difference import Compared
from tests.serving.profiling.tiny_bundles import slow_sum_model, sum_model, write_tiny
from tests.serving.report.written import HOST, measured, point, profile, write_reported

Call = Callable[..., tuple[int, str, str]]


def _run_of(median_ms: float, **changes: Any) -> Profile:
    fields: dict[str, Any] = {"points": (point(median_ms, seed=int(median_ms * 1000), **changes),)}
    return profile((measured("0" * 64, **fields),), comparisons=())


def _save(path: Path, run: Profile) -> Path:
    path.write_text(run.model_dump_json())
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Profile files of the same thing once more, a fifth slower, and invalid."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "once": _save(folder / "once.json", _run_of(0.200)),
        "again": _save(folder / "again.json", _run_of(0.2001)),
        "slower": _save(folder / "slower.json", _run_of(0.240)),
        "invalid": _save(folder / "invalid.json", _run_of(0.2, invalid="the canary never rested")),
        "short": _save(folder / "short.json", _run_of(0.2, blocks_ms=(0.2, 0.2))),
    }


def test_two_runs_of_one_thing_are_equal_and_a_fifth_is_seen(call: Call, runs: dict[str, Path]) -> None:
    code, out, err = call("compare", runs["once"], runs["again"])
    assert (code, err) == (0, "")
    assert "as fast as that of A: ratio 1.0" in out or "as fast as that of A: ratio 0.99" in out
    code, out, _ = call("compare", runs["once"], runs["slower"])
    assert code == 0
    assert "hard@onnxruntime-cpu/1 of B at batch 1: slower, takes 1.2" in out
    assert "two runs, 20 and 20 blocks" in out
    code, out, _ = call("compare", runs["slower"], runs["once"])
    assert "of B at batch 1: faster, 1.2" in out


def test_exit_code_3_only_if_asked_for_and_beyond_the_percentage(call: Call, runs: dict[str, Path]) -> None:
    assert call("compare", runs["once"], runs["slower"])[0] == 0
    code, out, _ = call("compare", runs["once"], runs["slower"], "--fail-if-slower", "5")
    assert code == 3
    assert "1 of 1 slower by more than 5 %" in out
    assert call("compare", runs["once"], runs["slower"], "--fail-if-slower", "40")[0] == 0
    assert call("compare", runs["slower"], runs["once"], "--fail-if-slower", "0")[0] == 0
    assert call("compare", runs["once"], runs["again"], "--fail-if-slower", "0")[0] == 0
    code, out, _ = call("compare", runs["once"], runs["slower"], "--fail-if-slower", "5", "--json")
    assert code == 3
    assert json.loads(out)["failed"] is True


def test_json_holds_the_ratio_of_medians(call: Call, runs: dict[str, Path]) -> None:
    code, out, _ = call("compare", runs["once"], runs["slower"], "--json")
    assert code == 0
    (item,) = json.loads(out)["compared"]
    mine, theirs = (Profile.model_validate_json(runs[name].read_bytes()).variants[0].points[0]
                    for name in ("once", "slower"))  # fmt: skip
    wanted = float(np.median(mine.blocks_ms) / np.median(theirs.blocks_ms))
    assert item["found"]["ratio"] == pytest.approx(wanted, rel=0.02)
    assert item["found"]["low"] < wanted < item["found"]["high"]
    assert item["found"]["verdict"] == "slower"
    assert item["percentiles"][0] == ["p50", mine.percentiles[0].value_ms, theirs.percentiles[0].value_ms]


def test_points_that_may_not_be_used_are_not_compared_and_never_fail(call: Call, runs: dict[str, Path]) -> None:
    code, out, _ = call("compare", runs["invalid"], runs["slower"], "--fail-if-slower", "0")
    assert code == 0
    assert "not compared: in A the point is invalid: the canary never rested" in out
    code, out, _ = call("compare", runs["once"], runs["short"])
    assert code == 0
    assert "not compared: in B it has 2 blocks, which says nothing; 8 are needed: profile longer" in out


def test_recorded_bundles_with_metric_and_size(call: Call, tmp_path: Path) -> None:
    for name, metric in (("a", 0.975), ("b", 0.95)):
        write_reported(tmp_path / f"{name}.bundle", metric=metric)
    first, second = tmp_path / "a.bundle", tmp_path / "b.bundle"
    code, out, err = call("compare", first, second, "--recorded", "--host", HOST.id, "--batch", 2, "--variant", "hard")
    assert (code, err) == (0, "")
    assert "accuracy 0.95 against 0.975: -0.025" in out
    assert "file 1,200 bytes against 1,200: the same size" in out
    assert "at batch 2" in out
    assert "at batch 1" not in out
    code, _, err = call("compare", first, second, "--recorded")
    assert code == 1
    assert "no profile of host" in err


def test_one_bundle_on_two_hosts(call: Call, tmp_path: Path) -> None:
    bundle = write_reported(tmp_path / "a.bundle")
    other = HOST.model_copy(update={"id": "ba9876543210"})
    sha256 = bundle.manifest.files["models/hard.onnx"].sha256
    elsewhere = profile((measured(sha256, median_ms=0.3),), host=other)
    extend_bundle(bundle, {profile_file(other.id): elsewhere.model_dump_json().encode()})
    code, out, _ = call("compare", bundle.path, "--host", HOST.id, "--host", other.id, "--variant", "hard")
    assert code == 0
    assert "hard@onnxruntime-cpu/1 of B at batch 1: slower, takes 1.5" in out
    assert f"20 and 20 blocks, on hosts {HOST.id} and {other.id}" in out
    code, _, err = call("compare", bundle.path, "--host", HOST.id)
    assert code == 1
    assert "one bundle alone has nothing to be compared with" in err


def test_bundles_are_measured_in_turns_on_the_spot(call: Call, tmp_path: Path) -> None:
    write_tiny(tmp_path / "slow.bundle", hard=slow_sum_model(), baseline=sum_model())
    write_tiny(tmp_path / "fast.bundle", hard=sum_model())
    code, out, err = call("compare", tmp_path / "slow.bundle", tmp_path / "fast.bundle", "--seconds", 1, "--json")
    assert code == 0, err
    (item,) = json.loads(out)["compared"]
    assert (item["first"], item["second"], item["batch"]) == ("hard", "hard", 1)
    assert item["found"]["verdict"] == "faster"
    assert item["found"]["ratio"] > 2
    assert item["sizes"][0] > item["sizes"][1]
    names = ("--variant", "float=hard", "--seconds", 1)
    code, out, _ = call("compare", tmp_path / "slow.bundle", tmp_path / "fast.bundle", *names)
    assert code == 0
    assert "hard of B at batch 1: " in out
    assert "float of A" in out


def test_bundles_that_answer_other_requests_are_refused_in_words(call: Call, tmp_path: Path) -> None:
    first = write_reported(tmp_path / "a.bundle").path
    second = write_reported(tmp_path / "b.bundle", width=5).path
    for further in ((), ("--recorded", "--host", HOST.id)):
        code, _, err = call("compare", first, second, *further)
        assert code == 1
        assert "do not answer the same requests" in err
        assert "inputs of A are x float32[batch, 4]; of B x float32[batch, 5]" in err


def test_mistakes_are_one_message(call: Call, tmp_path: Path, runs: dict[str, Path]) -> None:
    bundle = write_reported(tmp_path / "a.bundle").path
    garbage = tmp_path / "garbage.json"
    garbage.write_text("{}")
    for arguments, said in (
        ((runs["once"], bundle), "once.json is a profile file; wanted two of them, or two bundles"),
        ((runs["once"],), "wanted two of them"),
        ((garbage, runs["once"]), "garbage.json is not a profile: "),
        ((tmp_path / "none.json", runs["once"]), "none.json cannot be read: No such file or directory"),
        ((bundle, bundle, "--variant", "nope"), "has no variant 'nope'; it has float, hard: --variant NAME"),
        ((bundle, bundle, *("--host", "a") * 3), "wanted at most two --host"),
        ((runs["once"], runs["again"], "--batch", 64), "no point in common (variant, runtime, threads, at batch 64)"),
        ((runs["once"], runs["again"], "--variant", "nope"), "no point in common"),
    ):
        code, out, err = call("compare", *arguments)
        assert (code, out) == (1, ""), arguments
        assert err.startswith("error: "), arguments
        assert said in err


@pytest.mark.parametrize(
    ("verdict", "ratio", "said"),
    [
        ("faster", 1.25, "faster, 1.250 times the speed of that of A"),
        ("slower", 0.8, "slower, takes 1.250 times the time of that of A"),
        ("equal", 1.001, "as fast as that of A: ratio 1.001"),
        ("undecided", 1.02, "undecided against that of A: ratio 1.020"),
    ],
)
def test_each_verdict_has_its_sentence(verdict: Any, ratio: float, said: str) -> None:
    found = Difference(ratio, ratio * 0.9, ratio * 1.1, 0.00001, verdict)
    item = Compared("hard", "hard", 1, "20 pairs in turns", found)
    assert said in item.sentences()[0]
    assert "p < 0.0001, 20 pairs in turns" in item.sentences()[0]
    # 20 % off is 25 % more time.
    assert item.slower_than(24.9) is (verdict == "slower")
    assert item.slower_than(25.1) is False
