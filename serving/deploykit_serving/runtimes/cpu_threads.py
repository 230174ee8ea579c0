"""How many threads this process can keep busy: what the scheduler lets it use and what its control group grants."""

from __future__ import annotations

import math
import os

from deploykit_serving.profiling.host import cpu_quota


def usable_threads() -> int:
    """Return the threads that can run at once, at least one.

    More than the quota of the control group would be stopped in the middle of an operator, all of them at once.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads_for(cores, cpu_quota())


def threads_for(cores: int, quota: float | None) -> int:
    """Return the threads for a number of usable cores and a quota in cores; half a core is no thread of its own."""
    return max(1, cores if quota is None else min(cores, math.floor(quota)))
