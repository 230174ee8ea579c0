from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.figure import Figure, Measured, at_least, main
from benchmarks.run_all import BENCHMARKS, row, run, text
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.statistics import Ratio


def _measured(wall_low: float, busy_low: float) -> Measured:
    return Measured(
        wall=Ratio(ratio=3.2, low=wall_low, high=3.4, pairs=40),
        busy=Ratio(ratio=3.1, low=busy_low, high=3.3, pairs=40),
        milliseconds=(1.0, 3.2),
    )


@pytest.mark.parametrize(("wall", "busy", "met"), [(3.1, 3.0, True), (3.1, 2.9, False), (2.9, 3.1, False)])
def test_a_speed_is_met_only_if_both_intervals_reach_the_target(wall: float, busy: float, met: bool) -> None:
    assert at_least("speed", 3.0, _measured(wall, busy), "").met is met


def test_equal_speed_is_not_faster() -> None:
    assert not at_least("speed", 1.0, _measured(1.0, 1.2), "").met
    assert at_least("speed", 1.0, _measured(1.01, 1.2), "").met


def test_a_missed_target_is_written_as_missed() -> None:
    figure = {
        "name": "a|b", "target": "at least 3x", "measured": "1.90x", "interval": "1.90 to 1.91", "met": False,
        "beside": "",
    }  # fmt: skip
    line = row(figure, "binarized")
    assert line == (
        "| a\\|b | at least 3x | 1.90x | 1.90 to 1.91 | **no** | `python -m benchmarks.binarized` |"
    )  # fmt: skip
    page = text(fingerprint(), [line], ["- note"], load_after=1.5)
    assert line in page
    assert f"## Host {fingerprint().id}" in page


def test_a_benchmark_that_does_not_exist_did_not_finish() -> None:
    figures, problem = run("no_such_benchmark")
    assert figures == []
    assert "no_such_benchmark" in problem


def test_every_benchmark_of_the_page_exists() -> None:
    folder = Path(sys.modules["benchmarks.run_all"].__file__ or "").parent
    for name in BENCHMARKS:
        assert f"python -m benchmarks.{name}" in (folder / f"{name}.py").read_text()


def test_a_script_exits_with_1_when_a_target_was_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark"])
    missed = Figure(name="f", target="3x", measured="2x", interval="", met=False)
    with pytest.raises(SystemExit, match="1"):
        main(lambda: [missed])
    assert "wanted 3x: MISSED" in capsys.readouterr().out
