"""Curves: latency and throughput over the batch, and over the load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from deploykit_serving.profiling.schema import Point
from deploykit_serving.report.blocks import (
    Chart,
    Section,
    Table,
    asked,
    latency_words,
    load_words,
    percent_name,
)
from deploykit_serving.report.canvas import ALARM, GRID, INK, canvas, colour, log_axis, marker
from deploykit_serving.report.series import Series

_MOST_TICKS: Final = 10
Place = Callable[[Point], float | None]
Curve = tuple[Series, list[Point]]


def batches(series: Sequence[Series]) -> Section:
    """Draw latency and throughput over the batch size, one stream in the process."""
    curves = [(one, one.sweep) for one in series if one.sweep]
    charts = (
        _curves("batch-latency", "Latency over batch", curves, _batch, _median, ("batch (log)", "p50, ms (log)")),
        _curves("batch-rate", "Throughput over batch", curves, _batch, _rate, ("batch (log)", "samples/s (log)")),
    )
    return Section(
        key="batches",
        heading="Batches",
        made="One stream, batch sizes doubled until two in a row gain less than 5 %. Why a sweep ended stands in the "
        "table.",
        charts=tuple(chart for chart in charts if chart is not None),
        folded=(_table(curves, lambda one: one.measured.stopped),) if curves else (),
    )


def loads(series: Sequence[Series]) -> Section:
    """Draw what happens under several streams, under arrivals that wait for nobody, and through HTTP."""
    measured = [(one, one.loaded) for one in series if one.loaded]
    opened = [(one, [p for p in points if p.load.kind == "open"]) for one, points in measured]
    closed = [(one, _with_single(one, [p for p in points if p.load.kind == "closed"])) for one, points in measured]
    opened = [curve for curve in opened if curve[1]]
    closed = [curve for curve in closed if curve[1]]
    charts = []
    for q in (0.5, 0.99):
        name = percent_name(q)
        charts.append(
            _curves(f"open-{name}", f"{name} under arrivals at random", opened, _offered, _percentile(q),
                    ("requests/s offered (log)", f"{name}, ms (log)"))
        )  # fmt: skip
    charts.append(
        _curves(
            "streams-rate", "Throughput over streams", closed, _streams, _rate, ("streams (log)", "samples/s (log)")
        )
    )
    charts.append(
        _curves("streams-p50", "p50 over streams", closed, _streams, _median, ("streams (log)", "p50, ms (log)"))
    )
    return Section(
        key="loads",
        heading="Under load",
        made="Closed: each stream waits for its answer. Open: requests arrive at random (Poisson) whatever the answers "
        "do, and latency counts from the intended time of sending. Dotted curves went through HTTP. A crossed point is "
        "invalid; the table says why.",
        charts=tuple(chart for chart in charts if chart is not None),
        folded=(_table(measured, lambda one: ""),) if measured else (),
    )


def _with_single(one: Series, points: list[Point]) -> list[Point]:
    inside = [point for point in points if point.load.through == "process"]
    first = one.single
    return [*([first] if inside and first is not None else []), *points]


def _batch(point: Point) -> float | None:
    return float(point.batch)


def _offered(point: Point) -> float | None:
    return point.load.rate


def _streams(point: Point) -> float | None:
    return float(point.load.streams)


def _rate(point: Point) -> float | None:
    return point.throughput or None


def _median(point: Point) -> float | None:
    return _percentile(0.5)(point)


def _percentile(q: float) -> Place:
    def place(point: Point) -> float | None:
        entry = point.percentile(q)
        return None if entry is None else entry.value_ms

    return place


def _curves(
    name: str, heading: str, curves: Sequence[Curve], across: Place, up: Place, labels: tuple[str, str]
) -> Chart | None:
    """Draw one curve a series, in the process and through HTTP apart; nothing if no point has both coordinates."""
    parts: list[tuple[Series, str, list[tuple[float, float, Point]]]] = []
    for one, points in curves:
        for through in ("process", "http"):
            chosen = [point for point in points if point.load.through == through]
            placed = sorted(
                ((x, y, point) for point in chosen if (x := across(point)) and (y := up(point))),
                key=lambda item: item[0],
            )
            if placed:
                parts.append((one, through, placed))
    if not parts:
        return None
    xs = [x for _, _, placed in parts for x, _, _ in placed]
    ys = [y for _, _, placed in parts for _, y, _ in placed]
    with canvas(name.replace(".", "-"), 440, 320) as drawing:
        axes = drawing.figure.subplots()
        log_axis(axes.xaxis, min(xs), max(xs))
        log_axis(axes.yaxis, min(ys), max(ys))
        for one, through, placed in parts:
            valid = [item for item in placed if not item[2].invalid]
            style = (0, (1, 1.5)) if through == "http" else "-"
            axes.plot([x for x, _, _ in valid], [y for _, y, _ in valid], color=colour(one.index), linestyle=style)
            for x, y, point in placed:
                (mark,) = axes.plot([x], [y], marker=marker(one.index), color=colour(one.index), linestyle="none")
                words = f"{one.label}, batch {point.batch}, {load_words(point)}: {y:.4g} at {x:g}"
                drawing.tip(mark, f"{words}; invalid: {point.invalid}" if point.invalid else words)
                if point.invalid:
                    axes.plot([x], [y], marker="x", color=ALARM, markersize=9, markeredgewidth=1.6, linestyle="none")
        if len(sizes := sorted(set(xs))) <= _MOST_TICKS and across is not _offered:
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
            axes.set_xticks([], minor=True)
        axes.set_xlim(min(xs) / 1.25, max(xs) * 1.25)
        axes.set_ylim(min(ys) / 1.3, max(ys) * 1.3)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.grid(color=GRID)
        axes.tick_params(labelcolor=INK)
        svg = drawing.svg(f"{heading}, {len(parts)} curves")
    legend = tuple(dict.fromkeys(one.index for one, _, _ in parts))
    return Chart(heading, svg, tuple(one for one, _ in curves if one.index in legend))


def _table(curves: Sequence[Curve], ended: Callable[[Series], str]) -> Table:
    percentiles = asked([point for _, points in curves for point in points])
    rows, about = [], []
    for one, points in curves:
        for number, point in enumerate(points):
            remark = point.invalid and f"invalid: {point.invalid}"
            last = ended(one) if number == len(points) - 1 else ""
            rows.append(
                (
                    one.label,
                    str(point.batch),
                    load_words(point),
                    *(latency_words(point.percentile(q)) for q in percentiles),
                    f"{point.throughput:,.0f}",
                    f"{point.calls:,}",
                    "stable" if point.stable else "not stable",
                    "-" if point.rejected is None else f"{point.rejected:.0%}",
                    "; ".join(text for text in (remark, last) if text),
                )
            )
            about.append(one)
    columns = ("variant", "batch#", "load", *(f"{percent_name(q)} ms#" for q in percentiles), "samples/s#", "calls#",
               "warm-up", "rejected#", "remarks")  # fmt: skip
    return Table(columns, tuple(rows), tuple(about))
