"""What a page is put together from: sections of charts and tables, as plain values without any markup of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploykit_serving.profiling.schema import PercentileEntry, Point
from deploykit_serving.report.series import Series


@dataclass(frozen=True, slots=True)
class Table:
    """Exact numbers.

    Attributes:
        columns: headings; one that ends in ``#`` is of a column of numbers.
        rows: texts, unescaped; as long as ``columns``.
        series: for each row the series it is about, whose marker stands before it; or nothing.
        title: of the table when it stands alone or is folded away.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    series: tuple[Series | None, ...] = ()
    title: str = "exact numbers"


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its heading, the series in it, and what must be said beside it.

    Attributes:
        wide: takes the whole width of the page.
    """

    heading: str
    svg: str
    legend: tuple[Series, ...] = ()
    notes: tuple[str, ...] = ()
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        key: the anchor's name.
        made: how the figures were made.
        folded: tables behind a click; they are open on paper.
    """

    key: str
    heading: str
    made: str = ""
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.charts or self.tables or self.folded or self.notes)


def percent_name(q: float) -> str:
    """Return ``p99.9`` for 0.999."""
    return f"p{q * 100:.10g}"


def figure_ms(value: float | None) -> str:
    """Return milliseconds as text, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def latency_words(entry: PercentileEntry | None) -> str:
    """Return a percentile with its 95 % interval, or why there is none."""
    if entry is None:
        return "-"
    if entry.value_ms is None:
        return f"refused: {entry.samples} of {entry.needed} calls"
    return f"{figure_ms(entry.value_ms)} [{figure_ms(entry.low_ms)}, {figure_ms(entry.high_ms)}]"


def load_words(point: Point) -> str:
    """Say how the requests of a point came."""
    load = point.load
    streams = "one stream" if load.streams == 1 else f"{load.streams} streams"
    if load.kind == "open":
        streams = f"{rate_words(load.rate)} requests/s arriving at random, at most {load.streams} at once"
    return f"{streams}, over HTTP" if load.through == "http" else streams


def rate_words(rate: float | None) -> str:
    """Return a rate as people read it."""
    return "-" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def asked(points: Sequence[Point]) -> list[float]:
    """Return every percentile that any of the points was asked for, ascending."""
    return sorted({entry.q for point in points for entry in point.percentiles})


def size_words(size: int | None) -> str:
    """Return bytes as people read them."""
    if size is None:
        return "-"
    return f"{size / 1e6:.3g} MB" if size >= 1e6 else f"{size / 1e3:.3g} kB" if size >= 1e3 else f"{size} B"
