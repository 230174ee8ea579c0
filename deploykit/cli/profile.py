"""``deploykit profile``: what a bundle's variants cost on this machine, and whether the hard form pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deploykit.cli.options import AsJson, BundlePath

if TYPE_CHECKING:
    from pathlib import Path

    from deploykit.bundle import Bundle
    from deploykit_serving.profiling.profile import ProfileOptions
    from deploykit_serving.profiling.schema import PercentileEntry, Point, Profile


def profile(
    bundle: BundlePath,
    seconds: Annotated[float, typer.Option(min=0.1, help="For everything together, roughly.")] = 30.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads inside one operator.")] = 1,
    largest_batch: Annotated[int, typer.Option(min=1, help="Where the batch sweep ends at the latest.")] = 128,
    as_json: AsJson = False,
) -> None:
    """Measure latency and throughput of every variant here, one stream, and write the profile into the bundle.

    Examples: deploykit profile bundles/gate.bundle · deploykit profile b.bundle --seconds 120 --threads 2 --json
    """
    from deploykit.cli.output import print_json
    from deploykit_serving.profiling.profile import ProfileOptions

    measured = _with_progress(bundle, ProfileOptions(seconds=seconds, threads=threads, largest_batch=largest_batch))
    if as_json:
        print_json(measured.model_dump(mode="json"))
    else:
        show(measured)


def _with_progress(path: Path, options: ProfileOptions) -> Profile:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from deploykit_serving.profiling.profile import profile_bundle

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # Few redraws: a thread that draws takes time from what is measured.
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("profiling", total=1.0)

        def report(what: str, done: float) -> None:
            progress.update(task, description=what, completed=done)
            progress.refresh()

        written = profile_bundle(path, options, report=report)
    return _read_back(written)


def _read_back(bundle: Bundle) -> Profile:
    from deploykit_serving.profiling.host import fingerprint
    from deploykit_serving.profiling.recorded import read_profile

    return read_profile(bundle, fingerprint().id)


def show(measured: Profile) -> None:
    """Print the points as a table and each comparison as a sentence."""
    from deploykit.cli.output import print_table

    host, settings = measured.host, measured.settings
    rows = [
        (entry.variant, str(point.batch), *(_latency(item) for item in point.percentiles), f"{point.throughput:,.0f}",
         str(point.calls), _state(point))
        for entry in measured.variants
        for point in entry.points
    ]  # fmt: skip
    names = [f"p{item.q * 100:g} ms" for item in measured.variants[0].points[0].percentiles]
    columns = ("variant", "batch", *names, "samples/s", "calls", "warm-up")
    print_table(
        f"{host.cpu}, {_setup(measured)}, one stream, {settings.inputs}; host {host.id}",
        columns,
        rows,
        right=("batch", "samples/s", "calls"),
    )
    typer.echo("[low, high]: 95 % interval. A percentile is refused where too few calls support it.")
    for comparison in measured.comparisons:
        typer.echo(comparison.sentence())
    if not measured.comparisons:
        typer.echo("the bundle holds no float baseline, so nothing says whether the hard form is faster")


def _latency(entry: PercentileEntry) -> str:
    if entry.value_ms is None:
        return f"refused: {entry.samples} of {entry.needed} calls"
    return f"{entry.value_ms:.4g} [{entry.low_ms:.4g}, {entry.high_ms:.4g}]"


def _state(point: Point) -> str:
    if point.stable:
        return "stable"
    return "not stable" if point.spread is None else f"not stable: windows {point.spread:.0%} apart"


def _setup(measured: Profile) -> str:
    first = measured.variants[0]
    return f"{first.runtime}, {first.threads} thread(s)"
