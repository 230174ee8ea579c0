"""Which runtimes this machine has, asked in a process of its own.

A runtime can only tell its version by being imported, which takes long, may need a device and may end the process.
None of this may happen to who selects.

Run: python -m deploykit_serving.selection.installed PARENT RUNTIME..., PARENT being the number of the process that
waits; prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from deploykit_serving.parent_process import end_with

SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Installed:
    """What this machine has of a runtime.

    Attributes:
        version: as :meth:`deploykit.Runtime.version` gives it.
        missing: why it cannot run here; empty if it can.
        unserved: why it is never served, on whatever host; empty if it is.
    """

    version: str = ""
    missing: str = ""
    unserved: str = ""


def installed_runtimes(names: Iterable[str], seconds: float = SECONDS) -> dict[str, Installed]:
    """Return what this machine has of each runtime; whatever goes wrong stands in ``missing``."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    ended = _run([sys.executable, "-m", __name__, str(os.getpid()), *wanted], seconds)
    if ended is None:
        return dict.fromkeys(wanted, Installed(missing=f"asked for its version, it said nothing within {seconds:g} s"))
    code, out, err = ended
    # What a runtime prints while it is imported stands before our line.
    *_, last = out.splitlines() or [""]
    try:
        answers = json.loads(last)
        return {name: Installed(**answers[name]) for name in wanted}
    except (ValueError, KeyError, TypeError):
        *_, said = err.strip().splitlines() or [f"exit code {code}"]
        if len(wanted) == 1:
            return {wanted[0]: Installed(missing=f"asked for its version, it ended the process: {said[:300]}")}
        # One of them ends the process: ask each alone, so that it speaks for itself only.
        return {name: found for one in wanted for name, found in installed_runtimes([one], seconds).items()}


def _run(command: list[str], seconds: float) -> tuple[int, str, str] | None:
    """Run a program; return its exit code and what it printed, or ``None`` if it took too long.

    Whatever it started ends with it. Output goes to files: a pipe would stay open as long as any of those live.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(errors="replace"), err.read().decode(errors="replace")


def ask(name: str) -> Installed:
    """Ask one runtime in this process."""
    from deploykit.making import make_runtime

    try:
        runtime = make_runtime(name)
        if runtime.starts_from != "file":
            return Installed(unserved="it makes the model anew from the bundle's parts, which needs the training stack")
        missing = runtime.missing()
        return Installed(missing=missing) if missing else Installed(version=runtime.version())
    except Exception as error:  # whatever a plugin raises, its runtime cannot be used
        return Installed(missing=next(iter(str(error).splitlines()), type(error).__name__)[:300])


if __name__ == "__main__":
    if end_with(int(sys.argv[1]), by=signal.SIGKILL):
        print(json.dumps({name: asdict(ask(name)) for name in sys.argv[2:]}))
