"""Two processes train one model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploykit_training.run_folder import open_run


@pytest.mark.slow
def test_two_processes_train_one_model_through_the_command_line(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("deploykit")
    # pruned.gate freezes its gates on the way, which plain DDP does not survive.
    done = subprocess.run(
        [str(command), "train", "pruned.gate", "--epochs", "3", "--devices", "2", "--strategy", "ddp", "--out", "run"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("soft accuracy") == 1  # only one of the two reports
    assert "Starting with 2 processes" in done.stderr
    record = open_run(tmp_path / "run")
    assert record.finished
    losses = [entry["loss"] for entry in record.history]
    assert losses[-1] < losses[0]
