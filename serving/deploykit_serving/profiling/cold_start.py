"""The first answer of a fresh process."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Final

from deploykit_serving.profiling.fresh_process import run_fresh
from deploykit_serving.profiling.schema import ColdStart
from deploykit_serving.runtimes import REFERENCE

_FEWEST: Final = 3


def cold_start(
    bundle: Path,
    variant: str,
    runtime: str = REFERENCE,
    threads: int = 1,
    *,
    processes: int = 3,
    timeout: float = 120.0,
) -> ColdStart:
    """Import, load and run a variant once in fresh processes; each figure is the median over them.

    ``import_ms`` is deploykit, its plugins and the engine's library, without the start of Python itself; ``load_ms`` is
    reading the file, checking its hash and whatever the engine compiles; ``first_ms`` one run of the fewest samples
    that are legal. The file system's cache is warm: the bundle was read before.

    Args:
        processes: how many, at least 3.
        timeout: seconds for each.

    Raises:
        ValueError: fewer than 3 processes.
        ServingError: the variant does not load or run, or a process crashed or hung; with its last words.
    """
    if processes < _FEWEST:
        raise ValueError(f"a median takes {_FEWEST} processes, got {processes}")
    found = [run_fresh(bundle, variant, runtime, threads, batch=None, timeout=timeout) for _ in range(processes)]
    return ColdStart(**{name: median(answer[name] or 0.0 for answer in found) for name in ColdStart.model_fields})
