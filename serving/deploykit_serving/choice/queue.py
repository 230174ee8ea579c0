"""The requests of deployments in line: first come, first served, by threads of their own, with known work ahead.

The line is bounded and every entry says how long it is predicted to run, so that the wait of one more is known
before it enters. What still lies in a socket is not seen: the event loop must be kept free to take it in.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from heapq import heapify, heapreplace
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")


class FullError(Exception):
    """As many requests wait as may."""


class Job(Generic[ResultT]):
    """One request in line.

    Attributes:
        seconds: predicted to run; whoever runs it may find a better number when its turn comes.
        started: when its turn came, by :func:`time.perf_counter`; ``None`` while it waits.
        ended: whether its thread is done with it.
    """

    __slots__ = ("ended", "future", "loop", "seconds", "started", "work")

    def __init__(self, work: Callable[[Job[ResultT]], ResultT], seconds: float) -> None:
        self.work = work
        self.seconds = seconds
        self.started: float | None = None
        self.ended = False
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[ResultT] = self.loop.create_future()


class WorkQueue:
    """A line and the threads that serve it.

    Args:
        lanes: how many requests run at once.
        places: how many may wait beside those.
    """

    def __init__(self, lanes: int, places: int) -> None:
        self._lanes = lanes
        self._limit = lanes + places
        self._line: SimpleQueue[Job[Any]] = SimpleQueue()
        self._inside: dict[Job[Any], None] = {}  # in their order
        self._threads: list[threading.Thread] = []

    def backlog(self, now: float) -> tuple[float, int]:
        """Return the seconds until one more request would have its turn, and how many are before it.

        Called, as :meth:`run`, on the thread of the event loop.
        """
        if not self._inside:
            return 0.0, 0
        free: list[float] = []
        line: list[float] = []
        for job in self._inside:
            started = job.started
            if started is None:
                line.append(job.seconds)
            elif not job.ended:
                # One that takes longer than predicted is not nearly done: the longer it hangs, the longer it may.
                free.append(abs(started + job.seconds - now))
        free += [0.0] * (self._lanes - len(free))
        heapify(free)
        for seconds in line:
            heapreplace(free, free[0] + seconds)
        return free[0], len(self._inside)

    async def run(self, work: Callable[[Job[ResultT]], ResultT], seconds: float) -> ResultT:
        """Call ``work`` on a thread when its turn comes.

        Raises:
            FullError: the line is full.
            Exception: what ``work`` raises.
        """
        if len(self._inside) >= self._limit:
            raise FullError
        if not self._threads:
            self._start()
        job = Job(work, seconds)
        self._inside[job] = None
        self._line.put(job)
        try:
            return await job.future
        finally:
            # As in Threads.run: no circle of exception, frame and future may keep the request's body.
            del job

    def _start(self) -> None:
        # Daemons: at the end of the process nobody waits for an answer any more, and a run cannot be interrupted.
        self._threads = [
            threading.Thread(target=self._serve, name=f"deployment {number}", daemon=True)
            for number in range(self._lanes)
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        while True:
            job = self._line.get()
            result: Any = None
            failure: Exception | None = None
            # Nobody waits any more for one that was cancelled in line.
            if not job.future.cancelled():
                job.started = time.perf_counter()
                try:
                    result = job.work(job)
                except Exception as error:
                    failure = error
                except BaseException as error:  # neither this thread nor the event loop may end by it
                    failure = RuntimeError(f"{type(error).__name__}: {error}")
            job.ended = True
            try:
                job.loop.call_soon_threadsafe(self._leave, job, result, failure)
            except RuntimeError:  # the loop was closed: nobody is left to be told
                self._inside.pop(job, None)
            del job, result, failure

    def _leave(self, job: Job[Any], result: Any, failure: Exception | None) -> None:
        self._inside.pop(job, None)
        if job.future.done():
            return
        if failure is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(failure)
