"""What a variant takes of the machine's memory."""

from __future__ import annotations

from pathlib import Path

from deploykit_serving.profiling.fresh_process import run_fresh
from deploykit_serving.profiling.schema import Memory
from deploykit_serving.runtimes import REFERENCE


def memory(
    bundle: Path, variant: str, runtime: str = REFERENCE, threads: int = 1, *, batch: int = 1, timeout: float = 120.0
) -> Memory | None:
    """Load and run a variant in a process of its own and read its resident memory; ``None`` off Linux.

    The engine's library and the inputs are in memory before the first reading: counted is what the model adds.

    Args:
        batch: samples of the runs the peak is taken over; made legal if it is not.
        timeout: seconds for the process.

    Raises:
        ServingError: the variant does not load or run, or the process crashed or hung; with its last words.
    """
    found = run_fresh(bundle, variant, runtime, threads, batch=batch, timeout=timeout)
    loaded, peak = found["loaded_mib"], found["peak_mib"]
    return None if loaded is None or peak is None else Memory(loaded_mib=loaded, peak_mib=peak)
