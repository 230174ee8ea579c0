"""Check a plugin in a process of its own: what it imports, breaks or leaves behind goes with that process."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploykit.errors import MissingExtraError
from deploykit.plugin_check.events import EventReader
from deploykit.plugin_check.report import Check, PluginReport
from deploykit.plugin_check.staging import stage
from deploykit.plugin_check.subject import Subject

_TICK: Final = 0.05
_LAST_WORDS: Final = 1500


def check_plugin(
    subject: Subject,
    *,
    quick: bool = False,
    timeout: float,
    tell: Callable[[str], None] = lambda _: None,
) -> PluginReport:
    """Run the contract over everything a plugin offers.

    Args:
        quick: leave out writing files and serving them.
        timeout: seconds after which the process is ended, which counts as a failure.
        tell: is told what is looked at now.

    Raises:
        MissingExtraError: pytest or hypothesis is not installed.
    """
    for needed in ("pytest", "hypothesis"):
        if importlib.util.find_spec(needed) is None:
            raise MissingExtraError(needed, "testing")
    started = time.monotonic()
    report = PluginReport(subject=f"{subject.title} {subject.version}")
    with tempfile.TemporaryDirectory(prefix="deploykit-check-") as folder:
        home = Path(folder)
        job = {
            "entry_points": subject.entry_points,
            "tests": [str(test) for test in subject.tests],
            "import_path": [str(place) for place in subject.import_path],
            "quick": quick,
            "events": str(home / "events"),
        }
        (home / "job.json").write_text(json.dumps(job), encoding="utf-8")
        with (home / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploykit.plugin_check.worker", str(home / "job.json")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=_environment(subject, home),
                start_new_session=True,
            )  # fmt: skip
            progress = _Progress(report, EventReader(home / "events"), tell)
            try:
                in_time = _follow(process, progress, started + timeout)
            finally:
                _end(process)
        if not progress.complete:
            why = f"died with exit code {process.returncode}" if in_time else f"took more than {timeout:g} s"
            words = (home / "output").read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
            report.checks.append(_cut_short(why, progress.latest, words))
    report.seconds = time.monotonic() - started
    return report


def _environment(subject: Subject, home: Path) -> dict[str, str]:
    environment = {"BENTOML_DO_NOT_TRACK": "True", "OMP_NUM_THREADS": "1", **os.environ}
    # As -P, also for the processes that the contract starts: what lies in the caller's folder, which Python would
    # search first, is neither the plugin's nor ours.
    environment["PYTHONSAFEPATH"] = "1"
    # Other packages' pytest plugins would run in every check, and cost seconds each.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment.pop("PYTEST_ADDOPTS", None)
    if subject.roots:
        staged = stage(home / "staged", subject.distribution, subject.version, subject.entry_points)
        former = [entry for entry in (os.environ.get("PYTHONPATH"),) if entry]
        environment["PYTHONPATH"] = os.pathsep.join([str(staged), *map(str, subject.roots), *former])
    return environment


class _Progress:
    """What is known so far."""

    def __init__(self, report: PluginReport, reader: EventReader, tell: Callable[[str], None]) -> None:
        self.latest = ""
        self.complete = False
        self._report = report
        self._reader = reader
        self._tell = tell

    def read(self) -> None:
        """Take in what the checking process has said since."""
        for event in self._reader.new():
            if "fact" in event:
                self._report.facts.append(event["fact"])
            elif "check" in event:
                self._report.checks.append(Check(**event["check"]))
            elif "started" in event:
                self.latest = event["started"]
                self._tell(self.latest)
            else:
                self.complete = True


def _follow(process: subprocess.Popen[bytes], progress: _Progress, until: float) -> bool:
    """Read on until the process has ended; false if it has not by then."""
    while True:
        ended = process.poll() is not None
        progress.read()  # after the question, so that the last words are not missed
        if ended:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_TICK)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started, servers for instance."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _cut_short(why: str, latest: str, words: str) -> Check:
    at = f"while it looked at: {latest}" if latest else "while the plugin was loaded"
    message = f"the process that checks the plugin {why} {at}" + (f"\nits last words:\n{words}" if words else "")
    return Check("plugin", "end", "Every check comes to an end.", "failed", message)
