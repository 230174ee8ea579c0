"""A profile on a terminal: points as a table, comparisons as sentences, and what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from deploykit_serving.profiling.schema import Load, PercentileEntry, Point, Profile, VariantProfile


def show(measured: Profile) -> None:
    """Print the points as a table, each comparison as a sentence, and each failure."""
    from deploykit.cli.output import print_table

    host = measured.host
    typer.echo(f"{host.cpu}; {measured.settings.inputs}; host {host.id}\n")
    for entry in measured.variants:
        if not entry.points:
            continue
        shares = sorted({item.q for point in entry.points for item in point.percentiles})
        names = [f"p{round(q * 100, 8):g} ms" for q in shares]
        print_table(
            f"{entry.variant} in {entry.runtime}, {entry.threads} thread(s)",
            ("batch", "load", *names, "samples/s", "calls", "remark"),
            (
                (str(point.batch), _load(point.load), *(_latency(point.percentile(q)) for q in shares),
                 f"{point.throughput:,.0f}", f"{point.calls:,}", _remark(point))
                for point in entry.points
            ),
            right=("batch", "samples/s", "calls"),
        )  # fmt: skip
        typer.echo("")
    if any(entry.points for entry in measured.variants):
        typer.echo("[low, high]: 95 % interval. A percentile is refused where too few calls support it.")
    for entry in measured.variants:
        if words := _details(entry):
            typer.echo(f"{entry.name}: {words}")
    for comparison in measured.comparisons:
        typer.echo(comparison.sentence())
    for entry in measured.variants:
        if entry.failure:
            typer.echo(f"FAILED {entry.name}: {entry.failure}")
        for point in entry.points:
            if point.invalid:
                typer.echo(f"invalid: {entry.name} at batch {point.batch}, {_load(point.load)}: {point.invalid}")
        if entry.uncompared:
            typer.echo(f"not compared with the float baseline: {entry.name}: {entry.uncompared}")
    if not measured.comparisons and not any(entry.role == "baseline" for entry in measured.variants):
        typer.echo("no float baseline was measured, so nothing says whether the hard form is faster")


def _latency(entry: PercentileEntry | None) -> str:
    if entry is None:
        return "-"
    if entry.value_ms is None:
        return f"refused:\n{entry.samples} of {entry.needed} calls"
    return f"{entry.value_ms:.4g}\n[{entry.low_ms:.3g}, {entry.high_ms:.3g}]"


def _load(load: Load) -> str:
    words = f"{load.rate:g}/s" if load.kind == "open" else f"{load.streams} stream{'s'[: load.streams > 1]}"
    return f"{words}, http" if load.through == "http" else words


def _remark(point: Point) -> str:
    if point.invalid:
        return "invalid"
    if point.stable:
        return ""
    return "not stable" if point.spread is None else f"not stable, {point.spread:.0%}"


def _details(entry: VariantProfile) -> str:
    words = []
    if cold := entry.cold_start:
        total = cold.import_ms + cold.load_ms + cold.first_ms
        words.append(
            f"first answer of a fresh process after {total:.0f} ms (import {cold.import_ms:.0f}, load "
            f"{cold.load_ms:.0f}, run {cold.first_ms:.0f})"
        )
    if memory := entry.memory:
        words.append(f"{memory.loaded_mib:.1f} MiB loaded, {memory.peak_mib:.1f} MiB at the peak")
    if (energy := entry.energy) and energy.joules is not None:
        words.append(f"{energy.joules * 1e3:.3g} mJ a call ({energy.source})")
    if (layers := entry.layers) and layers.layers:
        top = max(layers.layers, key=lambda layer: layer.share)
        words.append(f"{top.share:.0%} of the time in {top.operator} {top.name}")
    return "; ".join(words)
