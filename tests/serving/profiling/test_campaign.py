"""What a call does when something beside the points cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.profile import ProfileOptions, profile_bundle
from deploykit_serving.profiling.recorded import read_profile
from tests.serving.profiling.tiny_bundles import write_tiny

OPTIONS = ProfileOptions(seconds=0.6, largest_batch=2, brief=True, canary=False, http=True)
FAULT = "hard@onnxruntime-cpu/1: not measured through HTTP: the server did not come up: it ended with exit code"


def test_without_a_server_the_points_in_process_stand_and_a_later_call_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny(tmp_path / "tiny.bundle")
    # Only what serves imports BentoML, and finds a broken one first.
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bentoml.py").write_text("raise ImportError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))

    def interrupted(what: str, done: float) -> None:
        if what == "done":
            raise KeyboardInterrupt

    first: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        profile_bundle(bundle.path, OPTIONS, report=interrupted, note=first.append)
    assert len(first) == 1
    assert first[0].startswith(FAULT)
    second: list[str] = []
    published = profile_bundle(bundle.path, OPTIONS, note=second.append)
    assert second[0].startswith("2 measurements of an interrupted call are taken over")
    assert second[1].startswith(FAULT)
    entry = read_profile(published, fingerprint().id).variants[0]
    assert entry.failure == ""
    assert [(point.batch, point.load.through) for point in entry.points] == [(1, "process"), (2, "process")]
