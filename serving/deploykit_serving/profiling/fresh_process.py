"""Load and run one variant in a process of its own, and say how long that took and what it held."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from deploykit.errors import ServingError

# The clock starts before the first import of ours.
_PROGRAM: Final = (
    "import sys, time; started = time.perf_counter(); "
    "from deploykit_serving.profiling.fresh_work import answer; answer(sys.argv[1], int(sys.argv[2]), started)"
)
_TAIL: Final = 1000


def run_fresh(
    bundle: Path, variant: str, runtime: str, threads: int, *, batch: int | None, timeout: float
) -> dict[str, float | None]:
    """Start a process that loads and runs a variant.

    It is ended with all that it started when this function is left in any way, and by the kernel if this process is
    killed.

    Args:
        batch: samples of a run; ``None`` for the fewest that are legal.
        timeout: seconds until it is stopped.

    Returns:
        ``import_ms``, ``load_ms``, ``first_ms``, and ``loaded_mib``, ``peak_mib``, which are ``None`` off Linux.

    Raises:
        ServingError: it failed, crashed or hung; with its last words.
    """
    what = f"{variant}@{runtime}/{threads} of {bundle.name} in a fresh process"
    job = {"bundle": str(bundle.absolute()), "variant": variant, "runtime": runtime, "threads": threads, "batch": batch}
    with tempfile.TemporaryDirectory(prefix="deploykit-fresh-") as home:
        asked, told, log = Path(home, "job.json"), Path(home, "told.json"), Path(home, "log")
        asked.write_text(json.dumps({**job, "told": str(told)}))
        # A file, not a pipe: nobody reads a pipe while the process runs, and a full one would hang it.
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(asked), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                # Plugins that this process found must be found there, too.
                env={**os.environ, "OMP_NUM_THREADS": str(threads),
                     "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )  # fmt: skip
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise ServingError(f"{what} did not end within {timeout:g} s; last words: {_tail(log)}") from None
            finally:
                # The whole group, even if its first process has ended: engines start processes of their own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status < 0:
            raise ServingError(f"{what} crashed with {signal.Signals(-status).name}; last words: {_tail(log)}")
        if not told.is_file():
            raise ServingError(f"{what} ended with status {status}; last words: {_tail(log)}")
        answer: dict[str, Any] = json.loads(told.read_text())
    if "error" in answer:
        raise ServingError(f"{what}: {answer['error']}")
    return answer


def _tail(log: Path) -> str:
    return log.read_bytes()[-_TAIL:].decode(errors="replace").strip() or "(nothing)"
