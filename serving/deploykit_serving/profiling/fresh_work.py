"""What a fresh process does: import, load, run, and say how long that took and what it held.

:mod:`deploykit_serving.profiling.fresh_process` starts it. Imports of weight are inside functions because they are
measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any, Final

from deploykit_serving.parent_process import end_with

_RUNS: Final = 5


def answer(job_file: str, parent: int, started: float) -> None:
    """Do the job that a file describes and write the answer, or ``error``, where the job says.

    Args:
        parent: number of the process that started this one, which must not outlive it.
        started: ``time.perf_counter()`` before the first import of ours.
    """
    if not end_with(parent, by=signal.SIGKILL):
        os._exit(1)
    job = json.loads(Path(job_file).read_text())
    try:
        told: dict[str, Any] = _measure(job, started)
    except Exception as error:  # engines' exceptions share no base class
        from deploykit.errors import DeploykitError

        told = {"error": str(error) if isinstance(error, DeploykitError) else f"{type(error).__name__}: {error}"[:300]}
    Path(job["told"]).write_text(json.dumps(told))


def _measure(job: dict[str, Any], started: float) -> dict[str, float | None]:
    from deploykit.bundle import open_bundle
    from deploykit.errors import ServingError
    from deploykit_serving.profiling.sample_inputs import SampleInputs
    from deploykit_serving.runtimes import RuntimeOptions, open_variant
    from deploykit_serving.runtimes.opening import usable_runtime

    usable_runtime(job["runtime"]).version()  # imports the engine
    imported = time.perf_counter()
    bundle = open_bundle(Path(job["bundle"]))
    entry = bundle.manifest.variant(job["variant"])
    if entry is None:
        raise ServingError(f"{bundle.path}: holds no variant {job['variant']!r}")
    samples = SampleInputs(bundle)
    smallest, largest = samples.smallest_batch, samples.largest_batch if entry.dynamic_batch else 1
    batch = max(smallest, min(job["batch"] or smallest, largest or job["batch"] or smallest))
    inputs = samples.batches(batch, at_most=1)[0]
    _forget_peak()
    before = _resident("VmRSS")
    begun = time.perf_counter()
    session = open_variant(bundle, entry, job["runtime"], RuntimeOptions(threads=job["threads"], spin=True))
    loaded = time.perf_counter()
    after = _resident("VmRSS")
    ready = time.perf_counter()
    session.run(inputs)
    first = time.perf_counter()
    for _ in range(_RUNS - 1):
        session.run(inputs)
    peak = _resident("VmHWM")
    return {
        "import_ms": (imported - started) * 1e3,
        "load_ms": (loaded - begun) * 1e3,
        "first_ms": (first - ready) * 1e3,
        "loaded_mib": None if before is None or after is None else max(after - before, 0.0),
        "peak_mib": None if before is None or peak is None else max(peak - before, 0.0),
    }


def _resident(which: str) -> float | None:
    """Return resident memory in MiB as the kernel shows it now (VmRSS) or at its peak (VmHWM)."""
    try:
        found = re.search(rf"^{which}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024.0 if found else None


def _forget_peak() -> None:
    """Let the peak begin anew, so that imports do not hide the model's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
