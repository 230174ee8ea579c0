"""Run native exporters in a process of their own: a crash or a hang becomes an error message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deploykit.errors import ExportError

_TAIL: Final = 1500
REPORT: Final = "report.json"


def run_isolated(module: str, job: Mapping[str, Any], folder: Path, *, what: str, timeout: float) -> dict[str, Any]:
    """Run ``python -m module job.json`` and return the report it writes.

    Args:
        module: a module of ours whose main reads the job and writes ``report.json`` beside it. The report's key
            ``error`` is a message for the user.
        folder: where job, report and files go; the caller owns it.
        what: names the work in messages ("writing ONNX for lowering 'qdq'").
        timeout: seconds until the process is killed.

    Raises:
        ExportError: the process reported an error, died, or did not end in time; its last words are in the text.
    """
    (folder / "job.json").write_text(json.dumps(job))
    report = folder / REPORT
    report.unlink(missing_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    # A file, not a pipe: nobody reads a pipe while the process runs, and a full one would hang it.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder / "job.json")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ExportError(
                f"{what} did not end within {timeout:g} s and was stopped; last words:\n{_tail(log)}"
            ) from None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if status < 0:
            name = signal.Signals(-status).name
            raise ExportError(f"{what} crashed with {name} in native code; last words:\n{_tail(log)}")
        if not report.is_file():
            raise ExportError(f"{what} ended with status {status} and no report; last words:\n{_tail(log)}")
    content: dict[str, Any] = json.loads(report.read_text())
    if message := content.get("error"):
        raise ExportError(f"{what} failed: {message}")
    return content


def _tail(log: Any) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - _TAIL))
    text: str = log.read().decode(errors="replace").strip()
    return text or "(nothing)"
