from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploykit.bundle import open_bundle
from deploykit.cli.main import run
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.journal import journal_file
from deploykit_serving.profiling.recorded import read_profile
from deploykit_serving.profiling.schema import Profile
from tests.serving.profiling.ill_plugin import ill_runtimes
from tests.serving.profiling.tiny_bundles import slow_sum_model, write_tiny

__all__ = ["ill_runtimes"]

HERE = fingerprint().id


class CommandLine:
    """Runs ``deploykit profile ARGUMENTS`` in this process; what it measures runs in others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        self._monkeypatch.setenv("COLUMNS", "200")
        self._monkeypatch.setattr(sys, "argv", ["deploykit", "profile", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            run()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return int(exit_info.value.code or 0), out, err


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.bundle", baseline=slow_sum_model(), largest=2).path


def test_it_prints_what_it_wrote(bundle: Path, profile: CommandLine) -> None:
    code, out, err = profile(bundle, "--seconds", 0.5, "--brief", "--no-canary", "--percentile", "p90")
    written = read_profile(open_bundle(bundle), HERE)
    assert code == 0
    assert err == ""
    assert "hard in onnxruntime-cpu, 1 thread(s)" in out
    assert "p50 ms" in out
    assert "p90 ms" in out
    assert "p99 ms" in out  # the usual ones stay: a later select may ask for them
    assert "[low, high]: 95 % interval" in out
    assert all(comparison.sentence() in out for comparison in written.comparisons)
    assert f"written to {bundle / 'profiles' / HERE}.json" in out
    assert not journal_file(bundle).exists()


def test_everything_at_once_is_printed_as_json(tmp_path: Path, profile: CommandLine) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle", largest=2).path
    code, out, err = profile(bundle, "--seconds", 1, "--streams", 2, "--load", 0.2, "--http", "--json")
    assert code == 0, err
    measured = Profile.model_validate_json(out)
    assert measured == read_profile(open_bundle(bundle), HERE)
    assert measured.settings.canary_floor_ms is not None
    for entry in measured.variants:
        loads = [(point.load.kind, point.load.streams, point.load.through) for point in entry.points]
        assert loads == [
            ("closed", 1, "process"), ("closed", 1, "process"), ("closed", 2, "process"), ("open", 2, "process"),
            ("closed", 1, "http"), ("closed", 2, "http"), ("open", 2, "http"),
        ]  # fmt: skip
        assert all(point.rejected is not None for point in entry.points if point.load.streams == 1)
        assert entry.cold_start is not None
        assert entry.cold_start.load_ms > 0
        assert entry.energy is not None
        assert entry.layers is not None
        assert entry.layers.not_run == ""
        assert sum(layer.share for layer in entry.layers.layers) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.usefixtures("ill_runtimes")
def test_what_crashes_is_shown_and_the_rest_is_measured(bundle: Path, profile: CommandLine) -> None:
    code, out, _ = profile(
        bundle, "--seconds", 0.5, "--brief", "--no-canary", "--runtime", "crashing", "--runtime", "onnxruntime-cpu"
    )
    assert code == 0
    assert "FAILED hard@crashing/1: crashed with SIGSEGV while trying hard, batch 2" in out
    assert "hard in onnxruntime-cpu, 1 thread(s)" in out
    assert "not compared with the float baseline: hard@crashing/1: hard failed before" in out


@pytest.mark.usefixtures("ill_runtimes")
def test_where_nothing_could_be_measured_the_exit_code_says_so(bundle: Path, profile: CommandLine) -> None:
    code, out, err = profile(bundle, "--seconds", 0.5, "--runtime", "absent")
    assert code == 1
    assert "error: nothing could be measured:\nhard@absent/1: cannot run here: there is no such device; buy one" in err
    assert "FAILED hard@absent/1" in out


def test_interrupted_it_says_how_to_go_on(bundle: Path) -> None:
    script = (
        "import os, signal, threading, time, sys; from pathlib import Path\n"
        "from deploykit.cli.main import run\n"
        "def watch():\n"
        "    while b'point' not in (journal.read_bytes() if journal.exists() else b''): time.sleep(0.02)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "journal = Path(sys.argv[2] + '.profiling.jsonl')\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "run()"
    )
    command = [sys.executable, "-c", script, "profile", str(bundle), "--seconds", "20", "--brief", "--no-canary"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + signal.SIGINT
    assert "what is finished is kept in tiny.bundle.profiling.jsonl; the same command goes on from there" in done.stderr
    lines = journal_file(bundle).read_text().splitlines()
    assert any("point" in json.loads(line) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--percentile", "p100"), "there is no p100"),
        (("--percentile", "median"), "'pmedian' is no percentile"),
        (("--percentile", "99.9", "--calls", "4000"), "p99.9 takes at least 4603 calls and calls is 4000"),
        (("--threads", "0"), "--threads: wanted a number of at least 1 or 'auto', got '0'"),
        (("--threads", "many"), "--threads: wanted a number of at least 1 or 'auto', got 'many'"),
        (("--load", "1.5"), "a load is a share of the capacity between 0 and 1, got 1.5"),
        (("--runtime", "onnxruntime-cup"), "Did you mean 'onnxruntime-cpu'?"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_measured(
    bundle: Path, profile: CommandLine, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = profile(bundle, *arguments)
    assert code == 1
    assert message in err
    assert out == ""
    assert not journal_file(bundle).exists()


def test_a_journal_that_is_none_is_left_alone(bundle: Path, profile: CommandLine) -> None:
    journal_file(bundle).write_text("my notes\n")
    code, _, err = profile(bundle, "--seconds", 0.5)
    assert code == 1
    assert "is no journal of deploykit profile" in err
    assert journal_file(bundle).read_text() == "my notes\n"
