"""Carry a plan out: each unit in a process of its own, each finding kept at once, and go on whatever one unit does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from deploykit.bundle import Bundle
from deploykit.errors import DeploykitError, ServingError
from deploykit_serving.launch import running
from deploykit_serving.profiling.cold_start import cold_start
from deploykit_serving.profiling.findings import Findings
from deploykit_serving.profiling.isolation import run_job
from deploykit_serving.profiling.job import Message
from deploykit_serving.profiling.journal import Journal, Record
from deploykit_serving.profiling.memory import memory
from deploykit_serving.profiling.plan import Unit
from deploykit_serving.profiling.schema import Energy, Layers

Report = Callable[[str, float], None]
Note = Callable[[str], None]
_COLD_PROCESSES: Final = 3


class Campaign:
    """Measures the units of a plan that are not known yet.

    Args:
        journal: keeps every finding at once.
        http: ask a server, too.
        tell: told what is measured and how much is done, from 0 to 1.
        note: told what could not be measured beside the points.

    Attributes:
        taken_over: how many measurements of an earlier call are used.
        left_out: how many are not, because they were made otherwise.
    """

    def __init__(
        self, bundle: Bundle, units: tuple[Unit, ...], journal: Journal, *, http: bool, tell: Report, note: Note
    ) -> None:
        self.bundle, self.units, self.journal, self.http = bundle, units, journal, http
        self.findings = Findings()
        self._tell, self._note = tell, note
        self._done = 0.0
        self._total = sum(unit.seconds for unit in units) or 1.0
        others = Findings()
        keys = {unit.key for unit in units}
        for record in journal.taken_over:
            (self.findings if record.unit in keys else others).add(record)
        self.taken_over, self.left_out = self.findings.count, others.count

    def run(self) -> Findings:
        """Measure all; a unit that crashes, hangs or is refused is marked and does not stop the others."""
        for unit in self.units:
            if not self.findings.of(unit).ended:
                if unit.job.kind == "compare":
                    self._compare(unit)
                else:
                    self._sweep(unit)
            self._done += unit.seconds
        self._tell("done", 1.0)
        return self.findings

    def _sweep(self, unit: Unit) -> None:
        found = self.findings.of(unit)
        failure, served = unit.missing and f"cannot run here: {unit.missing}", True
        if not failure:
            failure = self._run(unit, {"known": tuple(found.points)})
        if not failure and unit.job.http:
            # The server is not there before: while it waits for requests it takes time from others.
            with self._server(unit) as (url, fault):
                if fault:
                    # The variant has its points in process, and they are none the worse.
                    self._note(f"{unit.name}: {fault}")
                    served = False
                else:
                    failure = self._run(unit, {"url": url, "known": tuple(found.points)})
        elif not failure and self.http:
            self._note(f"{unit.name}: not measured through HTTP: a server runs bundles on one thread an operator")
        if not failure and unit.details:
            self._details(unit)
        # Without a server the unit is not at its end: a later call that goes on from here tries again.
        self._keep(unit, failure=failure, ended=served)

    def _details(self, unit: Unit) -> None:
        """Measure what is told beside the points; where that fails the points are none the worse."""
        found, job = self.findings.of(unit), unit.job
        place = (self.bundle.path, job.variant, job.runtime, job.threads)
        self._say(unit, f"{job.variant}, cold start")
        if found.cold_start is None:
            with self._noting(unit, "cold start"):
                self._keep(unit, cold_start=cold_start(*place, processes=_COLD_PROCESSES, timeout=job.limit))
        self._say(unit, f"{job.variant}, memory")
        if found.memory is None:
            with self._noting(unit, "memory"):
                self._keep(unit, memory=memory(*place, timeout=job.limit))
        if found.energy is None or found.layers is None:
            failure = self._run(unit, {"kind": "details", "seconds": unit.details})
            if found.energy is None:
                self._keep(unit, energy=Energy(joules=None, source=failure))
            if found.layers is None:
                batch = found.points[0].batch if found.points else 1
                self._keep(unit, layers=Layers(batch=batch, not_run=failure))

    @contextlib.contextmanager
    def _noting(self, unit: Unit, what: str) -> Iterator[None]:
        try:
            yield
        except DeploykitError as error:
            self._note(f"{unit.name}: {what} was not measured: {error}")

    def _compare(self, unit: Unit) -> None:
        found = self.findings.of(unit)
        if failure := self._unfit(unit):
            self._keep(unit, failure=failure, ended=True)
            return
        known = tuple(item.batch for item in found.comparisons)
        failure = self._run(unit, {"known_batches": known})
        self._keep(unit, failure=failure, ended=True)

    def _unfit(self, unit: Unit) -> str:
        """Return why a comparison is not begun: one of the two has failed already, and would again."""
        for other in self.units:
            same = (other.job.runtime, other.job.threads) == (unit.job.runtime, unit.job.threads)
            measured = other.entry.role == "baseline" or other.job.variant == unit.job.variant
            if other.job.kind == "sweep" and same and measured and (failure := self.findings.of(other).failure):
                return f"{other.job.variant} failed before: {failure}"
        return ""

    def _run(self, unit: Unit, changes: dict[str, object]) -> str:
        job = unit.job.model_copy(update={"canary_floor_ms": self.findings.canary_floor_ms, **changes})
        return run_job(job, lambda message: self._hear(unit, message))

    def _hear(self, unit: Unit, message: Message) -> None:
        if message.doing:
            self._say(unit, message.doing)
        news = message.model_dump(exclude_defaults=True, include=_NEWS)
        if news:
            self._keep(unit, **{name: getattr(message, name) for name in news})

    def _keep(self, unit: Unit, **what: object) -> None:
        record = Record.model_validate({"unit": unit.key, "name": unit.name, **what})
        self.journal.append(record)
        self.findings.add(record)

    def _say(self, unit: Unit, what: str) -> None:
        # Of a unit under way as much is done as points are known, of those that a sweep usually has.
        found = self.findings.of(unit)
        share = min(1.0, (len(found.points) + len(found.comparisons)) / _USUAL_POINTS[unit.job.kind])
        several = len({(item.job.runtime, item.job.threads) for item in self.units}) > 1
        where = f" in {unit.job.runtime}, {unit.job.threads} thread(s)" if several else ""
        self._tell(f"{what}{where}", (self._done + share * unit.seconds) / self._total)

    @contextlib.contextmanager
    def _server(self, unit: Unit) -> Iterator[tuple[str, str]]:
        """Serve the bundle in the unit's runtime; yields the URL, or why there is none."""
        self._say(unit, "starting a server")
        with contextlib.ExitStack() as stack:
            url, failure = "", ""
            try:
                # A bundle whose proofs failed is measured all the same: that says nothing of its latency.
                url = stack.enter_context(
                    running([self.bundle.path], runtime=unit.job.runtime, threads=max(unit.job.streams), unproven=True)
                )
            except ServingError as error:
                failure = f"not measured through HTTP: {str(error).splitlines()[0]}"
            yield url, failure


_NEWS: Final = {"point", "comparison", "layers", "energy", "overhead_ns", "canary_floor_ms", "stopped"}
_USUAL_POINTS: Final = {"sweep": 8, "compare": 2, "details": 1}
