"""Wait until a moment to within microseconds, without taking the core from what is measured."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from typing import Final

_SPIN_NS: Final = 100_000  # what a sleep overshoots by, at the most and nearly always, once its slack is gone
_SPIN_SHARE: Final = 0.1
_NAP_SECONDS: Final = 0.1
_SET_TIMER_SLACK: Final = 29  # PR_SET_TIMERSLACK of linux/prctl.h
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))


class Waiting:
    """Sleep, then spin for the last 100 us at most.

    One thread spins at a time, for a tenth of a core at most, and lets go of the interpreter's lock in every turn: a
    thread whose call has just ended would else wait for it for as long as 5 ms, and that would be measured.

    Args:
        rate: of the moments waited for, a second.
    """

    def __init__(self, rate: float) -> None:
        self._spin = int(min(_SPIN_NS, _SPIN_SHARE / rate * 1e9))
        self._spinning = threading.Lock()

    @staticmethod
    def prepare() -> None:
        """Ask for exact timers on this thread; on Linux only, where the kernel else rounds sleeps up by 50 us."""
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_TIMER_SLACK, 1, 0, 0, 0)

    def until(self, moment: int, stopped: threading.Event) -> None:
        """Return at a moment of ``time.perf_counter_ns``, at once if it is over, or soon after ``stopped`` is set."""
        clock = time.perf_counter_ns
        while (left := moment - self._spin - clock()) > 0:
            time.sleep(min(left * 1e-9, _NAP_SECONDS))
            if stopped.is_set():
                return
        if clock() >= moment:
            return
        if not self._spinning.acquire(blocking=False):
            time.sleep(max(moment - clock(), 0) * 1e-9)
            return
        try:
            while clock() < moment:
                _yield()
        finally:
            self._spinning.release()
