"""What a variant costs beside its latency: time by layer, bytes, memory, the first answer, energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from deploykit_serving.profiling.schema import Layer, Layers
from deploykit_serving.report.blocks import Chart, Section, Table, size_words
from deploykit_serving.report.canvas import GRID, INK, canvas, colour, plain_number
from deploykit_serving.report.series import Series

_MOST_LAYERS: Final = 12
_NAME: Final = 34


def layers(series: Sequence[Series]) -> Section:
    """Draw the share of each layer of the fused graph, a chart a series that has a breakdown."""
    charts, rows, about, notes = [], [], [], []
    for one in series:
        found = one.measured.layers
        if found is None:
            continue
        if found.not_run:
            notes.append(f"{one.label}: no breakdown: {found.not_run}")
            continue
        if found.layers:
            charts.append(_layers_chart(one, found))
        rows += [
            (one.label, layer.name, layer.operator, f"{layer.calls:,}", f"{layer.median_us:.4g}", f"{layer.share:.1%}")
            for layer in found.layers
        ]
        about += [one] * len(found.layers)
    columns = ("variant", "layer", "operator", "calls#", "median us#", "share#")
    return Section(
        key="layers",
        heading="Time by layer",
        made="From the runtime's own profiler, after its fusions. Profiling slows a run down; by how much stands in "
        "each heading, and the microseconds are that much too large. Shares compare layers of one variant.",
        charts=tuple(charts),
        folded=(Table(columns, tuple(rows), tuple(about)),) if rows else (),
        notes=tuple(notes),
    )


def footprint(series: Sequence[Series]) -> Section:
    """Draw bytes of the file, memory and the first answer; tell energy."""
    charts = (
        _bars("size", "Size of the file", series, _size, lambda value: size_words(int(value)), "kB", 1e-3),
        _bars("memory", "Memory at the peak of a run", series, _peak, lambda value: f"{value:.3g} MiB", "MiB", 1.0),
        _bars("cold", "First answer of a fresh process", series, _first, lambda value: f"{value:.4g} ms", "ms", 1.0),
    )
    rows = []
    for one in series:
        size, memory = one.subject.size(one.measured.variant), one.measured.memory
        cold, energy = one.measured.cold_start, one.measured.energy
        rows.append(
            (
                one.label,
                "-" if size is None else f"{size:,}",
                *(("-", "-") if memory is None else (f"{memory.loaded_mib:.4g}", f"{memory.peak_mib:.4g}")),
                *(
                    ("-", "-", "-")
                    if cold is None
                    else (f"{cold.import_ms:.4g}", f"{cold.load_ms:.4g}", f"{cold.first_ms:.4g}")
                ),
                "-" if energy is None else energy.source if energy.joules is None else f"{energy.joules:.4g} J a call",
            )
        )
    columns = ("variant", "bytes#", "MiB loaded#", "MiB peak#", "import ms#", "load ms#", "first run ms#", "energy")
    return Section(
        key="footprint",
        heading="Size, memory, first answer",
        made="Bytes of the ONNX file. Memory: resident set of a process of its own, more than before loading. First "
        "answer: import of the runtime, load and first run together.",
        charts=tuple(chart for chart in charts if chart is not None),
        folded=(Table(columns, tuple(rows), tuple(series)),) if rows else (),
    )


def _size(one: Series) -> float | None:
    return one.subject.size(one.measured.variant)


def _peak(one: Series) -> float | None:
    return None if one.measured.memory is None else one.measured.memory.peak_mib


def _first(one: Series) -> float | None:
    cold = one.measured.cold_start
    return None if cold is None else cold.import_ms + cold.load_ms + cold.first_ms


def _bars(
    name: str,
    heading: str,
    series: Sequence[Series],
    length: Callable[[Series], float | None],
    words: Callable[[float], str],
    unit: str,
    scale: float,
) -> Chart | None:
    bars = [(one, value) for one in series if (value := length(one)) is not None]
    if not bars:
        return None
    with canvas(name, 440, 70 + 27 * len(bars)) as drawing:
        axes = drawing.figure.subplots()
        for row, (one, value) in enumerate(bars):
            (bar,) = axes.barh([row], [value * scale], color=colour(one.index), height=0.62)
            drawing.tip(bar, f"{one.label}: {words(value)}")
            axes.annotate(words(value), (max(value, 0.0) * scale, row), xytext=(5, 0), textcoords="offset points",
                          va="center", fontsize=9.5, color=INK)  # fmt: skip
        axes.set_yticks(range(len(bars)), [_short(one.label) for one, _ in bars])
        _finish(axes, max(value for _, value in bars) * scale, f"{unit}")
        svg = drawing.svg(f"{heading} of {len(bars)} variants")
    return Chart(heading, svg)


def _layers_chart(one: Series, found: Layers) -> Chart:
    ordered = sorted(found.layers, key=lambda layer: -layer.share)
    shown, rest = ordered[:_MOST_LAYERS], ordered[_MOST_LAYERS:]
    bars = [(_layer_label(layer), layer.share, f"{layer.operator} {layer.name}: {layer.median_us:.4g} us") for layer
            in shown]  # fmt: skip
    if rest:
        share = sum(layer.share for layer in rest)
        bars.append((f"{len(rest)} more", share, f"{len(rest)} more layers together"))
    with canvas(f"layers{one.index}", 440, 70 + 21 * len(bars)) as drawing:
        axes = drawing.figure.subplots()
        for row, (_, share, tip) in enumerate(bars):
            (bar,) = axes.barh([row], [share * 100], color=colour(one.index), height=0.68)
            drawing.tip(bar, f"{one.label}: {tip}, {share:.1%}")
            axes.annotate(f"{share:.1%}", (share * 100, row), xytext=(5, 0), textcoords="offset points", va="center",
                          fontsize=9.5, color=INK)  # fmt: skip
        axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
        _finish(axes, max(share for _, share, _ in bars) * 100, "% of the time of all layers")
        svg = drawing.svg(f"share of each layer of {one.label}")
    slowed = "by how much profiling slowed it is unknown"
    if found.inflation is not None:
        slowed = f"profiling slowed it {found.inflation:.2f}x"
    return Chart(f"{one.label}, batch {found.batch}: {slowed}", svg)


def _finish(axes: Any, longest: float, label: str) -> None:
    axes.set_xlim(0, (longest or 1.0) * 1.28)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(axis="x", color=GRID)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelcolor=INK)
    axes.xaxis.set_major_formatter(lambda value, _: plain_number(value))


def _layer_label(layer: Layer) -> str:
    name = layer.name if layer.operator.lower() in layer.name.lower() else f"{layer.operator} {layer.name}"
    return _short(name)


def _short(text: str) -> str:
    # The end of a layer's name tells it from the others.
    return text if len(text) <= _NAME else f"…{text[-_NAME + 1 :]}"
