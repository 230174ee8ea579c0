"""A process that must not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with(parent: int, by: signal.Signals = signal.SIGTERM) -> bool:
    """Ask Linux to send this process a signal when the thread that started it ends, as it does when it is killed.

    Elsewhere nothing is asked for.

    Args:
        parent: number of the process that started this one.

    Returns:
        whether that process is still there; it may have died before there was anybody to be told.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    return os.getppid() == parent
