from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploykit.bundle import Bundle, open_bundle
from deploykit.errors import BundleError
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.journal import journal_file
from deploykit_serving.profiling.profile import ProfileOptions, profile_bundle
from deploykit_serving.profiling.recorded import read_profile
from tests.serving.profiling.tiny_bundles import slow_sum_model, write_tiny

OPTIONS = ProfileOptions(seconds=0.6, largest_batch=2, brief=True, canary=False)
HERE = fingerprint().id
MARK = "DEPLOYKIT_TEST_MARK"
# Kills itself as soon as it is told that it is about to do what the second argument says.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from deploykit_serving.profiling.profile import ProfileOptions, profile_bundle

def report(what, done):
    if what.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

profile_bundle(Path(sys.argv[1]), ProfileOptions(seconds=0.6, largest_batch=2, brief=True, canary=False), report=report)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny(tmp_path / "tiny.bundle", baseline=slow_sum_model())


def _bytes(bundle: Path) -> dict[str, bytes]:
    return {str(path.relative_to(bundle)): path.read_bytes() for path in sorted(bundle.rglob("*")) if path.is_file()}


def _killed_at(bundle: Path, what: str) -> None:
    environment = {**os.environ, MARK: str(bundle)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(bundle), what], check=False, env=environment)
    assert done.returncode == -signal.SIGKILL


def _alive(mark: str) -> list[int]:
    """Return the processes that carry a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("trying hard, batch 2", 1),
        ("measuring float, batch 2", 3),
        ("hard against float, batch 8", 5),
        ("done", 6),
    ],
)
def test_killed_at_any_stage_nothing_finished_is_lost(bundle: Bundle, stage: str, kept: int) -> None:
    before = _bytes(bundle.path)
    _killed_at(bundle.path, stage)
    assert _bytes(bundle.path) == before
    records = [json.loads(line) for line in journal_file(bundle.path).read_text().splitlines()[1:]]
    finished = [record for record in records if "point" in record or "comparison" in record]
    assert len(finished) == kept
    notes: list[str] = []
    told: list[str] = []
    published = profile_bundle(bundle.path, OPTIONS, report=lambda what, _: told.append(what), note=notes.append)
    taken = [f"{kept} measurements of an interrupted call are taken over; --fresh would make them again"]
    assert notes == (taken if kept else [])
    assert sum(what.startswith("measuring") or " against " in what for what in told) == 6 - kept
    assert not journal_file(bundle.path).exists()
    profile = read_profile(published, HERE)
    assert [[point.batch for point in entry.points] for entry in profile.variants] == [[1, 2], [1, 2]]
    assert [item.batch for item in profile.comparisons] == [1, 8]
    # What was measured before the kill is in the profile as it was.
    written = [point.model_dump(mode="json") for entry in profile.variants for point in entry.points]
    written += [item.model_dump(mode="json") for item in profile.comparisons]
    for record in finished:
        part = record.get("point") or record["comparison"]
        assert any(part.items() <= item.items() for item in written)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
def test_a_killed_call_leaves_no_process_behind(bundle: Bundle) -> None:
    _killed_at(bundle.path, "measuring hard, batch 1")
    patience = time.monotonic() + 60.0
    while alive := _alive(str(bundle.path)):
        assert time.monotonic() < patience, alive
        time.sleep(0.05)


def test_interrupted_it_goes_on_too_and_leaves_the_bundle_as_it_was(bundle: Bundle) -> None:
    before = _bytes(bundle.path)

    def interrupt(what: str, done: float) -> None:
        if what.startswith("loading float"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_bundle(bundle.path, OPTIONS, report=interrupt)
    assert _bytes(bundle.path) == before
    notes: list[str] = []
    profile_bundle(bundle.path, OPTIONS, note=notes.append)
    assert [note.split()[0] for note in notes] == ["2"]


def test_other_settings_take_nothing_over_and_fresh_drops_it(bundle: Bundle) -> None:
    _killed_at(bundle.path, "loading float")
    notes: list[str] = []

    def interrupt(what: str, done: float) -> None:
        raise KeyboardInterrupt

    other = ProfileOptions(seconds=0.7, largest_batch=2, brief=True, canary=False)
    with pytest.raises(KeyboardInterrupt):
        profile_bundle(bundle.path, other, report=interrupt, note=notes.append)
    assert notes == ["2 measurements of an interrupted call were made otherwise; they go when this one ends"]
    fresh = ProfileOptions(seconds=0.6, largest_batch=2, brief=True, canary=False, fresh=True)
    with pytest.raises(KeyboardInterrupt):
        profile_bundle(bundle.path, fresh, report=interrupt, note=notes.append)
    assert len(notes) == 1
    assert len(journal_file(bundle.path).read_text().splitlines()) == 1


def test_another_hosts_journal_stops_the_call_before_it_measures(bundle: Bundle) -> None:
    _killed_at(bundle.path, "loading float")
    path = journal_file(bundle.path)
    path.write_text(path.read_text().replace(HERE, "0" * 12))
    told: list[str] = []
    with pytest.raises(BundleError, match=r"was begun on host 0{12}, and this is .*start anew with --fresh"):
        profile_bundle(bundle.path, OPTIONS, report=lambda what, _: told.append(what))
    assert told == []
    assert open_bundle(bundle.path).names("profiles") == []
