"""``deploykit profile``: what a bundle's variants cost on this machine, and whether the hard form pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deploykit.cli.options import AsJson, BundlePath
from deploykit.errors import ConfigError, ServingError

if TYPE_CHECKING:
    from pathlib import Path

    from deploykit_serving.profiling.plan import ProfileOptions
    from deploykit_serving.profiling.schema import Profile

Runtimes = Annotated[
    list[str] | None,
    typer.Option("--runtime", help="A registered runtime, or 'all' that can run here; may be repeated."),
]
Threads = Annotated[
    list[str] | None,
    typer.Option("--threads", help="Threads inside one operator, or 'auto' for what the machine grants; repeatable."),
]
Streams = Annotated[
    list[int] | None, typer.Option("--streams", min=1, help="Requests under way at once, at batch 1; repeatable.")
]
Loads = Annotated[
    list[float] | None,
    typer.Option("--load", help="Requests at random moments: a share of the capacity, such as 0.5; repeatable."),
]
Percentiles = Annotated[
    list[str] | None, typer.Option("--percentile", help="p50, p90, p99 (the default), p99.9 ...; repeatable.")
]
_DEFAULTS = ("onnxruntime-cpu",), ("1",), ("p50", "p90", "p99")


def profile(
    bundle: BundlePath,
    seconds: Annotated[float, typer.Option(min=0.1, help="For everything together, roughly.")] = 30.0,
    runtime: Runtimes = None,
    threads: Threads = None,
    largest_batch: Annotated[int, typer.Option(min=1, help="Where the batch sweep ends at the latest.")] = 128,
    streams: Streams = None,
    load: Loads = None,
    http: Annotated[bool, typer.Option("--http", help="Measure through a real server, too.")] = False,
    percentile: Percentiles = None,
    calls: Annotated[int, typer.Option(min=1, help="Timed calls a point rests on at the most.")] = 100_000,
    canary: Annotated[bool, typer.Option(help="Reject what was measured while the machine was busy.")] = True,
    brief: Annotated[bool, typer.Option("--brief", help="No cold start, memory, energy and layers.")] = False,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds over time until a measurement counts as hung.")] = 300,
    fresh: Annotated[bool, typer.Option("--fresh", help="Drop what an interrupted call has left.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure latency and throughput of every variant here and write the profile into the bundle.

    Interrupted at any time, the same command goes on where it was.

    Examples: deploykit profile bundles/gate.bundle · deploykit profile b.bundle --runtime all --threads 1 --threads 2
    · deploykit profile b.bundle --seconds 120 --percentile p99 --percentile p99.9 --streams 4 --load 0.8 --http
    """
    from deploykit.cli.output import print_json
    from deploykit.cli.profile_tables import show
    from deploykit_serving.profiling.plan import ProfileOptions

    measured, path = _with_progress(
        bundle,
        ProfileOptions(
            seconds=seconds,
            threads=_threads(threads or _DEFAULTS[1]),
            largest_batch=largest_batch,
            runtimes=tuple(runtime or _DEFAULTS[0]),
            streams=tuple(streams or (1,)),
            loads=tuple(load or ()),
            http=http,
            percentiles=_percentiles(percentile or [], calls),
            calls=calls,
            canary=canary,
            brief=brief,
            limit=limit,
            fresh=fresh,
        ),
    )
    if as_json:
        print_json(measured.model_dump(mode="json"))
    else:
        show(measured)
        typer.echo(f"written to {path}")
    failures = [f"{entry.name}: {entry.failure}" for entry in measured.variants if not entry.points]
    if len(failures) == len(measured.variants):
        raise ServingError("nothing could be measured:\n" + "\n".join(failures))


def _with_progress(path: Path, options: ProfileOptions) -> tuple[Profile, Path]:
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from deploykit_serving.profiling.host import fingerprint
    from deploykit_serving.profiling.journal import journal_file
    from deploykit_serving.profiling.profile import profile_bundle
    from deploykit_serving.profiling.recorded import read_profile
    from deploykit_serving.profiling.schema import profile_file

    # Few redraws: a thread that draws takes time from what is measured.
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    started = time.monotonic()
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("profiling", total=1.0, left="")

        def report(what: str, done: float) -> None:
            progress.update(task, description=what, completed=done, left=_left(options.seconds, started, done))
            progress.refresh()

        try:
            written = profile_bundle(
                path, options, report=report, note=lambda words: typer.echo(f"note: {words}", err=True)
            )
        except KeyboardInterrupt:
            journal = journal_file(path.absolute())
            typer.echo(f"what is finished is kept in {journal.name}; the same command goes on from there", err=True)
            raise
    host_id = fingerprint().id
    return read_profile(written, host_id), written.path / profile_file(host_id)


def _left(seconds: float, started: float, done: float) -> str:
    """Say how long it still takes: as planned at the beginning, as it has gone so far later on."""
    import time

    gone = time.monotonic() - started
    left = gone / done * (1.0 - done) if done > 0.1 else max(seconds - gone, 1.0)
    return f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left"


def _threads(given: list[str] | tuple[str, ...]) -> tuple[int, ...]:
    from deploykit_serving.runtimes.cpu_threads import usable_threads

    counts = []
    for text in given:
        if text != "auto" and not (text.isdecimal() and int(text) > 0):
            raise ConfigError(f"--threads: wanted a number of at least 1 or 'auto', got {text!r}")
        counts.append(usable_threads() if text == "auto" else int(text))
    return tuple(counts)


def _percentiles(given: list[str], calls: int) -> tuple[float, ...]:
    """Return what was asked for beside the usual ones, which a later `select` may need, as far as the calls reach."""
    from deploykit_serving.profiling.statistics import samples_needed
    from deploykit_serving.selection.units import percentile_share

    usual = [percentile_share(text) for text in _DEFAULTS[2]]
    asked = [percentile_share(text if text.startswith("p") else f"p{text}") for text in given]
    return (*(q for q in usual if not given or samples_needed(q) <= calls), *asked)
