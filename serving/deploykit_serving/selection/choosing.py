"""From judged candidates to the one that is chosen, the front and the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploykit.errors import BudgetError, ConfigError, ServingError
from deploykit_serving.selection.candidates import Candidate, LeftOut
from deploykit_serving.selection.judging import Verdict, judge
from deploykit_serving.selection.pareto import pareto_front, rank
from deploykit_serving.selection.request import Request


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer of ``select``.

    Attributes:
        host: id of the host that everything was measured on.
        foreign: whether that is another host than this one.
        verdicts: one a candidate: those that meet everything in the order of preference, then those that miss
            something, the nearest first, then those that cannot be judged.
        left_out: what of the catalogue is no candidate.
    """

    request: Request
    host: str
    foreign: bool
    verdicts: tuple[Verdict, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def chosen(self) -> Verdict | None:
        """The best that meets everything; ``None`` if nothing does."""
        return next((verdict for verdict in self.verdicts if verdict.meets), None)

    @property
    def front(self) -> tuple[Verdict, ...]:
        """Those on the Pareto front of metric against latency that meet everything, the best metric first."""
        found = [verdict for verdict in self.verdicts if verdict.pareto]
        return tuple(sorted(found, key=lambda verdict: -rank(verdict.candidate.rank)))

    @property
    def nearest(self) -> Verdict | None:
        """Where nothing meets everything: the candidate whose largest relative violation is the smallest."""
        if self.chosen is not None:
            return None
        return next((verdict for verdict in self.verdicts if not verdict.faults), None)

    @property
    def hint(self) -> str:
        """What the chosen one's latency does not show, and how to measure it; empty if there is nothing to say."""
        if self.chosen is None or self.request.load.kind == "open":
            return ""
        candidate = self.chosen.candidate
        if any(point.load.kind == "open" for point in candidate.points):
            return ""
        return (
            f"a closed loop does not see stalls between its calls, and {candidate.name} was measured in no open one: "
            f"{candidate.mend} --load 0.8, then select --load open:RATE"
        )

    def require(self) -> Verdict:
        """Return what was chosen.

        Raises:
            BudgetError: nothing meets the budget; names the nearest and the amount missed.
            ServingError: nothing was measured and proven so that it could be judged; names what is in the way.
        """
        if self.chosen is not None:
            return self.chosen
        foreign = f" on host {self.host}, which is not this one" if self.foreign else ""
        if self.nearest is not None:
            missed = "; ".join(miss.text for miss in self.nearest.misses)
            raise BudgetError(
                f"nothing meets the budget{foreign}; the nearest is {self.nearest.candidate.name}: {missed}"
            )
        reasons = [(verdict.candidate.name, verdict.faults[0]) for verdict in self.verdicts]
        reasons += [(item.name, item.reason) for item in self.left_out]
        lines = [f"  {name}: {reason}" for name, reason in reasons]
        raise ServingError(f"no variant of the catalogue can be judged{foreign}:\n" + "\n".join(lines))


def choose(
    candidates: Sequence[Candidate], request: Request, *, host: str = "", foreign: bool = False,
    left_out: Sequence[LeftOut] = (),
) -> Selection:  # fmt: skip
    """Judge every candidate and put them in order.

    Best is the best metric in steps of one sample (:attr:`Candidate.rank`), then the shortest latency, then the
    smallest file, then the first name; with ``prefer="latency"`` latency comes before the metric. It is an order of
    candidates one by one, so a looser budget or a further candidate can only better the answer.

    Raises:
        ConfigError: metrics of different names would be compared; names them and whose they are.
    """
    judged = [judge(candidate, request) for candidate in candidates]
    _check_metrics([item.candidate for item in judged if not item.faults and item.candidate.metric is not None])
    meeting = sorted((item for item in judged if item.meets), key=lambda item: _preference(item, request))
    # Sorted first, so that of equal points the one that would be chosen stands for all.
    on_front = set(pareto_front([(item.candidate.rank, _latency(item)) for item in meeting]))
    meeting = [replace(item, pareto=index in on_front) for index, item in enumerate(meeting)]
    missing = sorted(
        (item for item in judged if not item.faults and item.misses),
        key=lambda item: (item.nearness, item.candidate.name),
    )
    faulty = sorted((item for item in judged if item.faults), key=lambda item: item.candidate.name)
    return Selection(request, host, foreign, (*meeting, *missing, *faulty), tuple(left_out))


def _check_metrics(candidates: Sequence[Candidate]) -> None:
    owners: dict[str, list[str]] = {}
    for candidate in candidates:
        owners.setdefault(candidate.metric_name, []).append(candidate.name)
    if len(owners) < 2:
        return
    lines = [f"  {name or 'no name'}: {', '.join(sorted(owners[name]))}" for name in sorted(owners)]
    raise ConfigError(
        "metrics of different names cannot be compared; these differ:\n"
        + "\n".join(lines)
        + "\ngive the bundles of one metric, or ask for one with a floor: --min METRIC=VALUE"
    )


def _preference(verdict: Verdict, request: Request) -> tuple[float, float, int, str]:
    candidate = verdict.candidate
    worst, latency = -rank(candidate.rank), _latency(verdict)
    first, second = (worst, latency) if request.prefer == "metric" else (latency, worst)
    return first, second, candidate.size, candidate.name


def _latency(verdict: Verdict) -> float:
    # What meets a budget has one.
    assert verdict.latency_ms is not None
    return verdict.latency_ms
