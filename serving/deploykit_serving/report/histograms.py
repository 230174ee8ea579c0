"""How latencies are spread: one row a variant, on one axis, with percentiles and their intervals under each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.profiling.histogram import Histogram
from deploykit_serving.profiling.schema import Point
from deploykit_serving.report.blocks import Chart, Section, Table, asked, figure_ms, percent_name
from deploykit_serving.report.canvas import GRID, INK, MUTED, Canvas, canvas, colour, log_axis
from deploykit_serving.report.series import Series

_BINS: Final = 140
_CHART_OF: Final = 8
_REACH: Final = 0.99


def histograms(series: Sequence[Series]) -> Section:
    """Draw what the HdrHistograms of the single points hold."""
    held = [(one, point) for one in series if (point := one.single) is not None and point.histogram]
    without = [one.label for one in series if (point := one.single) is not None and not point.histogram]
    parts = [held[start : start + _CHART_OF] for start in range(0, len(held), _CHART_OF)]
    notes = (f"No histogram was kept of: {', '.join(without)}; profile again.",) if without else ()
    return Section(
        key="histograms",
        heading="How latencies are spread",
        made="Every call at the smallest batch, one stream, from its HdrHistogram (three digits). Under each: "
        "percentiles of all calls with 95 % intervals. Rare slower calls may lie beyond the axis.",
        charts=tuple(_chart(part, f"spread{number}", number, len(parts)) for number, part in enumerate(parts)),
        folded=(_table([(one, point) for one in series if (point := one.single) is not None]),) if series else (),
        notes=notes,
    )


def _chart(part: Sequence[tuple[Series, Point]], name: str, number: int, of: int) -> Chart:
    decoded = [Histogram.decode(point.histogram) for _, point in part]
    low = min(one.percentile(0.0001) for one in decoded) / 1e6
    high = max(one.percentile(_REACH) for one in decoded) / 1e6
    drawn = [entry.value_ms for _, point in part for entry in point.percentiles if entry.value_ms]
    low, high = low / 1.1, max([high, *drawn]) * 1.15
    with canvas(name, 980, 46 + 84 * len(part)) as drawing:
        rows = np.atleast_1d(drawing.figure.subplots(len(part), 1, sharex=True))
        for axes, (one, point), held in zip(rows, part, decoded, strict=True):
            log_axis(axes.xaxis, low, high)
            axes.set_xlim(low, high)
            _fill(drawing, axes, one, held, (low, high))
            _percentiles(drawing, axes, one, point)
            axes.set_title(_title(one, point), loc="left", fontsize=9.5, color=INK, pad=3)
            axes.set_ylim(-0.66, 1.08)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x", color=GRID)
            axes.tick_params(axis="x", which="both", length=0, labelcolor=INK)
        rows[-1].set_xlabel("ms (log)")
        svg = drawing.svg(f"histograms of the latency of {len(part)} variants")
    return Chart(
        heading="Latency histograms" + (f", {number + 1} of {of}" if of > 1 else ""),
        svg=svg,
        wide=True,
    )


def _fill(drawing: Canvas, axes: Any, one: Series, held: Histogram, limits: tuple[float, float]) -> None:
    edges = np.geomspace(*limits, _BINS + 1)
    heights = binned(held, edges)
    top = max(float(heights.max()), 1.0)
    area = axes.stairs(heights / top, edges, fill=True, color=colour(one.index), alpha=0.35)
    axes.stairs(heights / top, edges, color=colour(one.index), linewidth=1.2)
    drawing.tip(area, f"{one.label}: {held.count} calls")


def binned(held: Histogram, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count calls between edges, spreading a bucket that lies across an edge by its width.

    Shapes:
        edges: (bins + 1,), milliseconds, ascending.

    Returns:
        calls a bin, shape (bins,).
    """
    lower, upper, counts = held.buckets()
    # As a cumulative count that rises evenly inside each bucket.
    ends = np.concatenate([np.stack([lower, upper + 1], axis=1).ravel().astype(np.float64)]) / 1e6
    total = np.cumsum(counts).astype(np.float64)
    below = np.stack([total - counts, total], axis=1).ravel()
    heights: NDArray[np.float64] = np.diff(np.interp(edges, ends, below, left=0.0, right=float(total[-1])))
    return heights


def _percentiles(drawing: Canvas, axes: Any, one: Series, point: Point) -> None:
    last = 0.0
    for entry in point.percentiles:
        if entry.value_ms is None or entry.low_ms is None or entry.high_ms is None:
            continue
        axes.plot([entry.low_ms, entry.high_ms], [-0.14, -0.14], color=INK, linewidth=2.6, solid_capstyle="butt")
        (tick,) = axes.plot([entry.value_ms] * 2, [-0.24, -0.04], color=INK, linewidth=1.4)
        drawing.tip(tick, f"{one.label}: {percent_name(entry.q)} {figure_ms(entry.value_ms)} ms "
                          f"[{figure_ms(entry.low_ms)}, {figure_ms(entry.high_ms)}]")  # fmt: skip
        low, high = axes.get_xlim()
        place = (np.log(entry.value_ms) - np.log(low)) / (np.log(high) - np.log(low))
        # Two labels on one spot cannot be read; the tick stays.
        if place - last > 0.035 or not last:
            axes.text(entry.value_ms, -0.27, percent_name(entry.q), ha="center", va="top", fontsize=9, color=MUTED)
            last = place


def _title(one: Series, point: Point) -> str:
    refused = [f"{percent_name(item.q)} refused: {item.samples} of {item.needed} calls" for item in point.percentiles
               if item.value_ms is None]  # fmt: skip
    invalid = ["invalid"] if point.invalid else []
    label = one.label if len(one.label) < 60 else f"{one.label[:58]}…"
    return ", ".join([f"{label}: {point.calls:,} calls", *invalid, *refused])


def _table(points: Sequence[tuple[Series, Point]]) -> Table:
    rows, about = [], []
    percentiles = asked([point for _, point in points])
    for one, point in points:
        for q in percentiles:
            entry = point.percentile(q)
            if entry is None:
                continue
            if entry.value_ms is None:
                numbers = ("refused", f"needs {entry.needed} calls", "-", "-")
            else:
                numbers = (figure_ms(entry.value_ms), figure_ms(entry.low_ms), figure_ms(entry.high_ms),
                           figure_ms(entry.bound_ms))  # fmt: skip
            rows.append((one.label, percent_name(q), *numbers, f"{entry.samples:,}"))
            about.append(one)
    columns = ("variant", "percentile", "ms#", "low#", "high#", "bound (99 %)#", "calls#")
    return Table(columns, tuple(rows), tuple(about))
