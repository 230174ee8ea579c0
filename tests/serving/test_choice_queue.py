"""The line: order, bound, what is known to be ahead, and threads that outlive what they run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit_serving.choice.queue import FullError, Job, WorkQueue

PATIENCE = 30.0


class Gate:
    """Work that says when it began and ends when it is let go."""

    def __init__(self, answer: object = None) -> None:
        self.began = threading.Event()
        self.let_go = threading.Event()
        self.answer = answer

    def __call__(self, job: Job[Any]) -> object:
        self.began.set()
        assert self.let_go.wait(PATIENCE)
        return self.answer


def _note(order: list[int], number: int, job: Job[Any]) -> None:
    order.append(number)


async def began(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.began.wait, PATIENCE)


async def entered(queue: WorkQueue, work: Callable[[Job[Any]], Any], seconds: float) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(queue.run(work, seconds))
    await asyncio.sleep(0)
    return task


def test_first_come_first_served_and_the_work_ahead_is_known() -> None:
    async def main() -> None:
        queue = WorkQueue(lanes=1, places=8)
        assert queue.backlog(time.perf_counter()) == (0.0, 0)
        order: list[int] = []
        gate = Gate()
        first = await entered(queue, gate, 1000.0)
        await began(gate)
        rest = [await entered(queue, partial(_note, order, number), 10.0) for number in range(3)]
        wait, queued = queue.backlog(time.perf_counter())
        assert queued == 4
        assert 1000 + 30 - PATIENCE < wait <= 1030
        gate.let_go.set()
        await asyncio.gather(first, *rest)
        assert order == [0, 1, 2]
        assert queue.backlog(time.perf_counter()) == (0.0, 0)

    asyncio.run(main())


def test_who_overruns_is_not_nearly_done() -> None:
    async def main() -> None:
        queue = WorkQueue(lanes=1, places=8)
        gate = Gate()
        task = await entered(queue, gate, 1.0)
        await began(gate)
        now = time.perf_counter()
        assert queue.backlog(now + 500)[0] == pytest.approx(499, abs=PATIENCE)
        gate.let_go.set()
        await task

    asyncio.run(main())


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.lists(st.floats(0.01, 10), max_size=12))
def test_the_predicted_wait_is_that_of_a_simulation(lanes: int, work: list[float]) -> None:
    """Oracle: play the line through, one event after the other."""
    queue = WorkQueue(lanes, 100)

    async def main() -> float:
        for seconds in work:
            queue._inside[Job(lambda job: None, seconds)] = None
        return queue.backlog(0.0)[0]

    ends: list[float] = []
    clock = 0.0
    for seconds in work:
        if len(ends) == lanes:
            clock = max(clock, heappop(ends))
        heappush(ends, clock + seconds)
    wanted = 0.0 if len(ends) < lanes else max(clock, ends[0])
    assert asyncio.run(main()) == pytest.approx(wanted)


def test_lanes_run_side_by_side() -> None:
    async def main() -> None:
        queue = WorkQueue(lanes=2, places=0)
        gates = [Gate("a"), Gate("b")]
        tasks = [await entered(queue, gate, 1.0) for gate in gates]
        for gate in gates:
            await began(gate)
        with pytest.raises(FullError):
            await queue.run(Gate(), 1.0)
        for gate in gates:
            gate.let_go.set()
        assert await asyncio.gather(*tasks) == ["a", "b"]

    asyncio.run(main())


def test_what_the_work_raises_reaches_its_caller_and_nobody_else() -> None:
    async def main() -> None:
        queue = WorkQueue(lanes=1, places=8)

        def fails(job: Job[Any]) -> None:
            raise SystemExit("a runtime gave up")

        # An exit on a thread must not become the exit of the event loop.
        with pytest.raises(RuntimeError, match="SystemExit: a runtime gave up"):
            await queue.run(fails, 1.0)
        assert await queue.run(lambda job: 7, 1.0) == 7

    asyncio.run(main())


def test_who_was_cancelled_in_line_is_not_run() -> None:
    async def main() -> None:
        queue = WorkQueue(lanes=1, places=8)
        gate = Gate()
        ran: list[int] = []
        first = await entered(queue, gate, 1.0)
        gone = await entered(queue, lambda job: ran.append(1), 1.0)
        gone.cancel()
        last = await entered(queue, lambda job: ran.append(2), 1.0)
        gate.let_go.set()
        await asyncio.gather(first, last)
        assert ran == [2]
        assert queue.backlog(time.perf_counter())[1] == 0

    asyncio.run(main())


def test_a_loop_that_was_closed_leaves_the_line_usable() -> None:
    queue = WorkQueue(lanes=1, places=0)
    gate = Gate()

    async def leaves() -> None:
        await entered(queue, gate, 1.0)
        await began(gate)

    asyncio.run(leaves())
    gate.let_go.set()

    async def again() -> int:
        while True:
            try:
                return await queue.run(lambda job: 7, 1.0)
            except FullError:
                await asyncio.sleep(0.01)

    assert asyncio.run(asyncio.wait_for(again(), PATIENCE)) == 7
