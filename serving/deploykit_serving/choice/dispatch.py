"""From a checked request to a deployment to its answer: choose, wait in line, choose again if need be, compute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from deploykit.choice import Asked, Candidate
from deploykit.registry import installed
from deploykit_serving.choice import policy
from deploykit_serving.choice.hook import Choosers
from deploykit_serving.choice.queue import FullError, Job, WorkQueue
from deploykit_serving.inference import Timed, timed_answer
from deploykit_serving.metrics import Metrics
from deploykit_serving.models import LoadedModel
from deploykit_serving.protocol.faults import RequestFault
from deploykit_serving.protocol.infer_request import InferRequest
from deploykit_serving.protocol.infer_response import Headers

NOBODY: Final = "none"
"""The label of a request that no variant answered."""

_NOT_ANSWERED: Final = {503: "refused", 504: "expired"}
_WORTH_SAYING: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request enters the line with.

    Attributes:
        reason: ``named``, ``hook``, ``chosen`` or ``stepped_down``.
        others: who may take over when its turn comes too late for the chosen one.
    """

    chosen: Candidate
    reason: str
    others: Sequence[Candidate] = ()


@dataclass(frozen=True, slots=True)
class _Answered:
    variant: str
    stepped_down: bool
    timed: Timed


class Dispatcher:
    """Answers requests to deployments; one for a worker, so that all its deployments wait in one line.

    Args:
        lanes: asked once, at the first request: how many may run at once.
        places: how many may wait beside those.
    """

    def __init__(self, lanes: Callable[[], int], places: int, metrics: Metrics) -> None:
        self._lanes = lanes
        self._places = places
        self._metrics = metrics
        self._opened: tuple[WorkQueue, Choosers] | None = None

    async def answer(
        self, model: LoadedModel, request: InferRequest, budget: float | None, arrived: float
    ) -> tuple[Headers, bytes]:
        """Return headers and body of the response.

        Args:
            request: checked by :func:`deploykit_serving.inference.check`.
            budget: seconds from ``arrived`` until the answer must be ready; ``None`` without one.
            arrived: by :func:`time.perf_counter`.

        Raises:
            RequestFault: 503 if nothing can answer in time or the line is full, 504 if the budget passed in line.
        """
        measured = model.choice
        assert measured is not None
        if self._opened is None:
            self._opened = WorkQueue(self._lanes(), self._places), Choosers(installed().manager)
        queue, choosers = self._opened
        batch = model.samples_in(request.inputs)
        size = sum(array.size for array in request.inputs.values()) / model.default.elements
        now = time.perf_counter()
        wait, queued = queue.backlog(now)
        asked = Asked(batch, budget, now - arrived, wait, queued)
        only = model.variant(request.variant).name if request.variant else ""
        candidates = measured.candidates(size, batch, request.decode, now, only)
        if not candidates:
            raise RequestFault(f"model {model.name!r} takes one sample at a time, got {batch}")
        try:
            plan = _plan(candidates, asked, measured.patience(size), only, choosers)
            answered = await queue.run(_work(model, request, plan, budget, arrived, now), plan.chosen.seconds)
        except FullError:
            self._metrics.chose(model.name, NOBODY, "refused")
            raise RequestFault("too many requests are waiting; try again", 503, _retry_after(wait)) from None
        except RequestFault as fault:
            if fault.status in _NOT_ANSWERED:
                self._metrics.chose(model.name, NOBODY, _NOT_ANSWERED[fault.status])
            raise
        measured.observe(answered.variant, size, request.decode, answered.timed.seconds, time.perf_counter())
        self._metrics.chose(model.name, answered.variant, "stepped_down" if answered.stepped_down else plan.reason)
        return answered.timed.headers, answered.timed.body


def _plan(candidates: list[Candidate], asked: Asked, patience: float, only: str, choosers: Choosers) -> Plan:
    """Choose; the request's own wish comes first, then the plugins', then the server's policy.

    Raises:
        RequestFault: nothing is predicted to meet the budget.
    """
    if only:
        if not asked.meets(candidates[0]):
            raise _refusal(candidates, asked)
        return Plan(candidates[0], "named")
    if hooked := choosers.ask(candidates, asked):
        return Plan(hooked, "hook")
    chosen = policy.choose(candidates, asked, patience)
    if chosen is None:
        raise _refusal(candidates, asked)
    reason = "stepped_down" if policy.steps_down(candidates, asked, patience, chosen) else "chosen"
    return Plan(chosen, reason, candidates)


def _work(
    model: LoadedModel, request: InferRequest, plan: Plan, budget: float | None, arrived: float, queued: float
) -> Callable[[Job[_Answered]], _Answered]:
    """Return what the request does on a thread when its turn has come."""

    def work(job: Job[_Answered]) -> _Answered:
        started = time.perf_counter() if job.started is None else job.started
        chosen = plan.chosen
        if budget is not None:
            elapsed = started - arrived
            if elapsed >= budget:
                raise RequestFault(
                    f"the turn came after {_time(elapsed)}, beyond the budget of {_time(budget)}; nothing was computed",
                    504,
                )
            if plan.others:
                chosen = policy.at_turn(plan.others, chosen, budget, elapsed)
                job.seconds = chosen.seconds
        timed = timed_answer(model, model.variants[chosen.name], request, started - queued)
        return _Answered(chosen.name, chosen is not plan.chosen, timed)

    return work


def _refusal(candidates: Sequence[Candidate], asked: Asked) -> RequestFault:
    """Say why nothing answers, and when to come again; never, if even an idle server would be too slow."""
    fastest = policy.fastest(candidates)
    budget = asked.budget or 0.0
    who = f"variant {fastest.name!r} cannot" if len(candidates) == 1 else "no variant can"
    what = "it" if len(candidates) == 1 else f"the fastest, {fastest.name!r},"
    text = f"{who} answer within {_time(budget)}: {what} is predicted to take {_time(fastest.seconds)}"
    if asked.wait:
        text += f" after waiting {_time(asked.wait)}"
    if asked.elapsed >= _WORTH_SAYING:
        text += f", and {_time(asked.elapsed)} went by before it could be looked at"
    late = asked.wait + fastest.seconds - budget
    return RequestFault(text, 503, _retry_after(late) if fastest.seconds <= budget else ())


def _retry_after(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", b"%d" % max(1, math.ceil(seconds))),)


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
