"""The threads of a worker that models run on, and how many requests may wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from deploykit_serving.models import LoadedModel
from deploykit_serving.protocol.faults import RequestFault
from deploykit_serving.runtimes.cpu_threads import usable_threads
from deploykit_serving.settings import ServingSettings

ResultT = TypeVar("ResultT")


class Threads:
    """A pool with a short queue: who would wait long is told to come again, while there is memory left to say so.

    Args:
        threads: how many.
        queue: calls that may wait beside those that run.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="models")
        self._limit = threads + queue
        self._calls = 0

    async def run(self, work: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Call ``work`` on a thread; only from the thread of the event loop.

        Raises:
            RequestFault: 503 when too many calls wait already.
        """
        if self._calls >= self._limit:
            raise RequestFault("too many requests are waiting; try again", 503, ((b"retry-after", b"1"),))
        self._calls += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        # Not `finally` around the wait: a caller that stops waiting does not stop the call.
        future.add_done_callback(self._leave)
        try:
            return await future
        finally:
            # An exception's traceback would refer to this frame, and the frame through the future to the exception: a
            # circle that keeps the request's body until the collector comes by.
            del future

    def _leave(self, _: object) -> None:
        self._calls -= 1


def lanes(settings: ServingSettings, models: Iterable[LoadedModel]) -> int:
    """Return how many requests to deployments a worker runs at once.

    As many as its share of the cores carries when each uses the threads it was measured with: were there more, none
    would be as fast as measured.
    """
    widest = max((model.choice.widest for model in models if model.choice is not None), default=1)
    share = usable_threads() // settings.workers
    return max(1, min(settings.threads, share) // widest)
