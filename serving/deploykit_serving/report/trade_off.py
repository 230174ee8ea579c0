"""Accuracy against latency, with the variants that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploykit_serving.report.blocks import Chart, Section, Table, latency_words, percent_name, size_words
from deploykit_serving.report.canvas import GRID, INK, MUTED, canvas, colour, log_axis, marker, plain_number
from deploykit_serving.report.series import Series
from deploykit_serving.selection.pareto import pareto_front

PERCENTILES = (0.5, 0.99)


def trade_off(series: Sequence[Series]) -> Section:
    """Draw metric against latency at the smallest batch, one stream: a chart a task and percentile."""
    charts: list[Chart] = []
    groups = list(dict.fromkeys(one.group for one in series))
    for number, group in enumerate(groups):
        members = [one for one in series if one.group == group]
        for q in PERCENTILES:
            drawn = _chart(members, q, f"front{number}-{percent_name(q).replace('.', '-')}", len(groups) > 1)
            charts += [] if drawn is None else [drawn]
    return Section(
        key="trade-off",
        heading="Accuracy against latency",
        made="Smallest batch, one stream. The metric is what verify found for this very file in this runtime on "
        "held-out samples. A bar is the 95 % interval. The line joins the variants that none beats in both.",
        charts=tuple(charts),
        tables=(glance(series),) if series else (),
    )


def on_front(series: Sequence[Series], q: float) -> set[str]:
    """Return the names of the series that no other of the same task beats in metric and latency."""
    names: set[str] = set()
    for group in dict.fromkeys(one.group for one in series):
        members = [one for one in series if one.group == group and _where(one, q) is not None]
        points = [where for one in members if (where := _where(one, q)) is not None]
        names |= {members[index].name for index in pareto_front([(metric, value) for value, metric in points])}
    return names


def glance(series: Sequence[Series]) -> Table:
    """Return one line a series: what it answers, what it costs."""
    front = on_front(series, 0.5)
    several = len({one.group for one in series}) > 1
    names = {one.group[1] for one in series if one.group[1]}
    metric_name = names.pop() if len(names) == 1 else "metric"
    rows = []
    for one in series:
        point = one.single
        unusable = one.measured.failure or (point.invalid if point else "")
        rows.append(
            (
                one.label,
                _standing(one, unusable, one.name in front),
                *((one.group[0] or "none",) if several else ()),
                "unknown" if one.metric is None else f"{one.metric:.4g}",
                latency_words(point.percentile(0.5) if point else None),
                latency_words(point.percentile(0.99) if point else None),
                "-" if point is None else f"{point.throughput:,.0f}",
                against_baseline(one),
                size_words(one.subject.size(one.measured.variant)),
            )
        )
    columns = ("variant", "", *(("task",) if several else ()), f"{metric_name}#", "p50 ms#", "p99 ms#", "samples/s#",
               "against float#", "file#")  # fmt: skip
    return Table(columns, tuple(rows), tuple(series), "at a glance")


def against_baseline(one: Series) -> str:
    """Return how many times as fast as the float model a series was measured to be, in turns with it."""
    profile = one.subject.profile
    found = [
        item
        for item in (profile.comparisons if profile else ())
        if (item.variant, item.runtime, item.threads) == (one.measured.variant, one.measured.runtime,
                                                          one.measured.threads)
    ]  # fmt: skip
    if not found:
        return "-"
    first = min(found, key=lambda item: item.batch)
    return f"{first.ratio:.2f}x [{first.low:.2f}, {first.high:.2f}]"


def _standing(one: Series, unusable: str, front: bool) -> str:
    if unusable:
        return "not usable"
    point = one.single
    words = ["on the front"] if front else []
    words += [] if point is None or point.stable else ["not stable"]
    words += ["float model"] if one.measured.role == "baseline" else []
    return ", ".join(words)


def _where(one: Series, q: float) -> tuple[float, float] | None:
    entry, metric = one.latency(q), one.metric
    return None if entry is None or entry.value_ms is None or metric is None else (entry.value_ms, metric)


def _chart(members: Sequence[Series], q: float, name: str, several: bool) -> Chart | None:
    placed = [(one, where) for one in members if (where := _where(one, q)) is not None]
    if not placed:
        return None
    task, metric_name = members[0].group
    floats = [(one, entry.value_ms) for one in members
              if one.metric is None and (entry := one.latency(q)) and entry.value_ms]  # fmt: skip
    with canvas(name, 440, 310) as drawing:
        from matplotlib.patches import Rectangle

        axes = drawing.figure.subplots()
        values = [where[0] for _, where in placed] + [value for _, value in floats]
        log_axis(axes.xaxis, min(values), max(values))
        for one, value in floats:
            (mark,) = axes.plot([value], [0.05], marker=marker(one.index), color=colour(one.index), alpha=0.75,
                                transform=axes.get_xaxis_transform(), linestyle="none")  # fmt: skip
            drawing.tip(mark, f"{one.label}: {value:.4g} ms, {metric_name} unknown")
        if floats:
            axes.add_patch(Rectangle((0, 0), 1, 0.1, transform=axes.transAxes, color=GRID, zorder=0))
            axes.text(0.995, 0.115, f"below: {metric_name or 'metric'} unknown", transform=axes.transAxes, fontsize=9,
                      ha="right", color=MUTED)  # fmt: skip
        _draw_front(axes, [where for _, where in placed])
        for one, (value, metric) in placed:
            entry = one.latency(q)
            if entry is not None and entry.low_ms is not None and entry.high_ms is not None:
                axes.plot([entry.low_ms, entry.high_ms], [metric, metric], color=colour(one.index), linewidth=1.2)
            (point,) = axes.plot([value], [metric], marker=marker(one.index), color=colour(one.index), linestyle="none",
                                 markeredgecolor="#000004", markeredgewidth=0.8, markersize=9)  # fmt: skip
            drawing.tip(point, f"{one.label}: {metric_name} {metric:.4g}, {percent_name(q)} {latency_words(entry)} ms")
        _widen(axes, values, [where[1] for _, where in placed])
        axes.set_xlabel(f"{percent_name(q)}, ms (log)")
        axes.set_ylabel(metric_name or "metric")
        svg = drawing.svg(f"{metric_name} against {percent_name(q)} latency of {len(placed)} variants")
    unknown = "" if not floats else (
        "In the grey lane: measured, but verify found no "
        f"{metric_name or 'metric'} of it in that runtime; of float models it finds none at all."
    )  # fmt: skip
    shown = {one.name for one, _ in placed} | {one.name for one, _ in floats}
    refused = [one.label for one in members if one.name not in shown]
    missing = f"Not here, because refused, failed or invalid: {', '.join(refused)}." if refused else ""
    prefix = f"{task}: " if several and task else ""
    return Chart(
        heading=f"{prefix}{metric_name or 'metric'} against {percent_name(q)}",
        svg=svg,
        legend=tuple(one for one in members if one.name in shown),
        notes=tuple(note for note in (unknown, missing) if note),
    )


def _draw_front(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    front = sorted(points[index] for index in pareto_front([(metric, value) for value, metric in points]))
    axes.plot([value for value, _ in front], [metric for _, metric in front], color=MUTED, linewidth=1.4,
              drawstyle="steps-post", zorder=1)  # fmt: skip


def _widen(axes: Any, values: Sequence[float], metrics: Sequence[float]) -> None:
    low, high = min(values), max(values)
    axes.set_xlim(low / 1.35, high * 1.35)
    spread = max(metrics) - min(metrics)
    room = spread * 0.22 if spread else max(abs(metrics[0]) * 0.02, 1e-3)
    axes.set_ylim(min(metrics) - room * 1.6, max(metrics) + room)
    axes.yaxis.set_major_formatter(lambda value, _: plain_number(round(value, 10)))
    axes.grid(color=GRID)
    axes.tick_params(labelcolor=INK)
