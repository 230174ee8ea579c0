"""Watches over the worker processes: a dead one is replaced at once, and the end of the server is orderly.

BentoML looks for dead workers every ten seconds and, inside a container, replaces none; while it stops, its socket
still takes connections that nobody will answer.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections import deque
from typing import Any, Final

from circus.process import DEAD_OR_ZOMBIE, UNEXISTING

from deploykit.errors import ServingError

_POLL: Final = 0.1
_DEATHS_PER_WORKER: Final = 5
_DEATHS_WITHIN: Final = 60.0
_log = logging.getLogger("deploykit.serving")


class Supervisor:
    """Keeps the workers of one server up, on the main thread.

    Args:
        arbiter: BentoML's, which runs on a thread of its own.
    """

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter
        self._watcher = next(iter(arbiter.iter_watchers()))
        self._watcher.respawn = True
        self._workers: set[int] = set()
        self._deaths: deque[float] = deque(maxlen=_DEATHS_PER_WORKER * self._watcher.numprocesses)
        self._asked = threading.Event()

    def run(self) -> None:
        """Return after SIGTERM or SIGINT, when requests in flight are finished.

        Raises:
            ServingError: the workers die again and again, or nothing is left that could replace them.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked.set())
        try:
            while not self._asked.wait(_POLL):
                self._look()
        finally:
            self._stop()

    def _look(self) -> None:
        if not self._arbiter._thread.is_alive():
            raise ServingError("the process that starts the workers failed; its log has the cause")
        alive = {
            pid
            for pid, process in list(self._watcher.processes.items())
            if process.status not in (DEAD_OR_ZOMBIE, UNEXISTING)
        }
        dead = self._workers - alive
        self._workers = alive
        if not dead:
            return
        _log.error("worker %s died; starting another", ", ".join(map(str, sorted(dead))))
        now = time.monotonic()
        self._deaths.extend([now] * len(dead))
        if len(self._deaths) == self._deaths.maxlen and now - self._deaths[0] < _DEATHS_WITHIN:
            raise ServingError(
                f"workers died {len(self._deaths)} times within {_DEATHS_WITHIN:g} seconds; their log has the cause"
            )
        self._arbiter.loop.add_callback(self._arbiter.manage_watchers)

    def _stop(self) -> None:
        """Refuse connections first, for all who hold the socket; then let the workers finish."""
        for listening in list(self._arbiter.sockets.values()):
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
        self._arbiter.stop()
