"""What a comparison found: one line a variant and batch, with words for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from deploykit_serving.profiling.significance import Difference
from deploykit_serving.report.subject import Subject

_SHOWN: Final = ("p50", "p99", "p50 of blocks")


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing of A against one of B.

    Attributes:
        first: name in A, the one that B is compared with.
        second: name in B.
        how: ``in turns, N pairs`` or ``two runs, N and M blocks``.
        found: ratio of A's time over B's: above 1 B is faster; ``None`` if times could not be compared.
        reason: why they could not; else empty.
        percentiles: milliseconds of A and B by name of the percentile, where both support it.
        metrics: of A and B; ``None`` where verify does not tell.
        sizes: bytes of the files of A and B; ``None`` where only a profile is known.
    """

    first: str
    second: str
    batch: int
    how: str
    found: Difference | None
    reason: str = ""
    percentiles: tuple[tuple[str, float, float], ...] = ()
    metric_name: str = ""
    metrics: tuple[float | None, float | None] = (None, None)
    sizes: tuple[int | None, int | None] = (None, None)

    def slower_than(self, percent: float) -> bool:
        """Whether B is shown to be slower than A, and by more than so many percent."""
        if self.found is None or self.found.verdict != "slower":
            return False
        return 1.0 / self.found.ratio > 1.0 + percent / 100.0

    def sentences(self, *, files: bool = True) -> list[str]:
        """Say it plainly.

        Args:
            files: also say what does not depend on the batch: metric and size.
        """
        same = self.first == self.second
        who = f"{self.first} of B" if same else f"{self.second} of B"
        whom = "that of A" if same else f"{self.first} of A"
        said = [f"{who} at batch {self.batch}: {self._time(whom)}"]
        if not files:
            return said
        one, other = self.metrics
        if one is not None and other is not None:
            name = self.metric_name or "metric"
            said.append(f"  {name} {other:.4g} against {one:.4g}: {_signed(other - one)}")
        first, second = self.sizes
        if first is not None and second is not None:
            change = "the same size" if first == second else f"{second / first - 1:+.1%}" if first else "-"
            said.append(f"  file {second:,} bytes against {first:,}: {change}")
        return said

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)

    def _time(self, whom: str) -> str:
        if self.found is None:
            return f"not compared: {self.reason}"
        found = self.found
        interval = f"95 % interval {found.low:.3f} to {found.high:.3f}, p {_chance(found.p)}, {self.how}"
        match found.verdict:
            case "faster":
                return f"faster, {found.ratio:.3f} times the speed of {whom} ({interval})"
            case "slower":
                times = f"95 % interval {1 / found.high:.3f} to {1 / found.low:.3f}, p {_chance(found.p)}, {self.how}"
                return f"slower, takes {1 / found.ratio:.3f} times the time of {whom} ({times})"
            case "equal":
                return f"as fast as {whom}: ratio {found.ratio:.3f} ({interval})"
        return f"undecided against {whom}: ratio {found.ratio:.3f} ({interval}); measure longer"


def beside(
    item: Compared, subjects: tuple[Subject, Subject], runtimes: tuple[str, str], names: tuple[str, str]
) -> Compared:
    """Return a comparison with metrics, where both bundles are of one task, and sizes put beside it."""
    one, other = subjects
    metrics: tuple[float | None, float | None] = (None, None)
    if one.manifest.task == other.manifest.task:
        metrics = one.metric_in(runtimes[0], names[0]), other.metric_in(runtimes[1], names[1])
    name = "" if one.proofs is None else one.proofs.metric_name
    return replace(item, metric_name=name, metrics=metrics, sizes=(one.size(names[0]), other.size(names[1])))


def table(compared: Sequence[Compared]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return columns and rows for a terminal."""
    names = list(dict.fromkeys(name for item in compared for name, _, _ in item.percentiles if name in _SHOWN))
    same = all(item.first == item.second for item in compared)
    who = ("variant",) if same else ("A", "B")
    columns = (*who, "batch", *(f"{name} ms" for name in names), "A/B", "95 %", "p", "verdict")
    rows = []
    for item in compared:
        known = {name: f"{a:.4g} / {b:.4g}" for name, a, b in item.percentiles}
        found = item.found
        numbers = ("-", "-", "-", "not compared")
        if found is not None:
            numbers = (f"{found.ratio:.3f}", f"{found.low:.3f} to {found.high:.3f}", _chance(found.p), found.verdict)
        both = (item.first,) if same else (item.first, item.second)
        rows.append((*both, str(item.batch), *(known.get(name, "-") for name in names), *numbers))
    return columns, rows


def _signed(value: float) -> str:
    return "no difference" if value == 0 else f"{value:+.4g}"


def _chance(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
