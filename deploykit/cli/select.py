"""``deploykit select``: the variant that is measured to meet a budget, or the nearest and what it misses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from deploykit.cli.options import AsJson

if TYPE_CHECKING:
    from deploykit_serving.selection.choosing import Selection
    from deploykit_serving.selection.judging import Verdict
    from deploykit_serving.selection.request import Prefer, Request


def select(
    catalogue: Annotated[
        list[Path], typer.Argument(help="Bundles, and folders that hold bundles.", metavar="CATALOGUE...")
    ],
    budget: Annotated[
        list[str], typer.Option(metavar="PERCENTILE=TIME", help="The most it may take: p99=5ms; us, µs, ms or s.")
    ],
    min_: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="METRIC=VALUE", help="The least the task's metric may be: accuracy=0.97."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples a request.")] = 1,
    load: Annotated[
        str, typer.Option(metavar="LOAD", help="closed[:STREAMS] or open:RATE; http: before it for a server's clients.")
    ] = "closed",
    host: Annotated[str, typer.Option(metavar="ID", help="Choose for this host, by its profiles; default: here.")] = "",
    task: Annotated[str, typer.Option(metavar="NAME", help="Only bundles of this task.")] = "",
    runtime: Annotated[list[str] | None, typer.Option(help="Only this runtime; may be given again.")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Only so many threads; may be given again.")] = None,
    max_memory: Annotated[str, typer.Option(metavar="SIZE", help="Most memory at the peak of a run: 200MB.")] = "",
    max_size: Annotated[str, typer.Option(metavar="SIZE", help="Most bytes of the variant's file: 1MB.")] = "",
    prefer: Annotated[str, typer.Option(help="What comes first among those that meet: metric or latency.")] = "metric",
    allow_slower: Annotated[
        bool, typer.Option("--allow-slower", help="Also what was not measured to be faster than the float model.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the deployment file here, NAME.json.")
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The model's name at the server; default: the task's.")
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show every candidate and why it was rejected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Choose the best variant that is measured to meet a budget; measures nothing. Exit code 4 if nothing does.

    Examples: deploykit select bundles --budget p99=5ms --min accuracy=0.97 -o deployment.json · deploykit select
    a.bundle b.bundle --budget p50=800us --batch 8 --explain
    """
    from deploykit.cli.output import print_json
    from deploykit.errors import ConfigError
    from deploykit_serving.selection.deployment_file import check_place, write_deployment
    from deploykit_serving.selection.request import Request, parse_budget, parse_floor, parse_load
    from deploykit_serving.selection.selection import select as choose
    from deploykit_serving.selection.units import byte_count

    if len(budget) != 1:
        raise ConfigError(f"one --budget at a time, got {len(budget)}: {', '.join(budget)}")
    floors: dict[str, float] = {}
    for text in min_ or ():
        metric, floor = parse_floor(text)
        if metric in floors:
            raise ConfigError(f"--min {metric} is given twice: {floors[metric]:g} and {floor:g}")
        floors[metric] = floor
    request = Request(
        budget=parse_budget(budget[0]),
        floors=floors,
        batch=batch,
        load=parse_load(load),
        host=host,
        task=task,
        runtimes=tuple(runtime or ()),
        threads=tuple(threads or ()),
        max_memory=_limit(max_memory, "--max-memory", byte_count),
        max_size=_limit(max_size, "--max-size", byte_count),
        prefer=cast("Prefer", prefer),  # whatever else it is, Request refuses it
        allow_slower=allow_slower,
    )
    if out is not None:
        check_place(out)
    selection = choose(catalogue, request)
    deployment = None
    if out is not None and selection.chosen is not None:
        deployment = write_deployment(selection, out, name)
    if as_json:
        print_json(as_document(selection) | {"deployment": None if deployment is None else str(out)})
    else:
        show(selection, explain=explain)
        if deployment is not None:
            several = f"{len(deployment.variants)} variants" if len(deployment.variants) > 1 else "1 variant"
            typer.echo(f"written: {out}, {several}; serve it: deploykit serve {out}")
    selection.require()


def show(selection: Selection, *, explain: bool) -> None:
    """Print what was chosen, and with ``explain`` every candidate; why nothing was is the error's to say."""
    from deploykit.cli.output import print_table
    from deploykit_serving.selection.request import load_text

    request = selection.request
    if explain:
        title = f"batch {request.batch}, {load_text(request.load)}; measured on host {selection.host}"
        columns = ("candidate", _metric_name(selection), f"{request.budget.name} ms (bound)", "front", "why not")
        rows = [_row(verdict) for verdict in selection.verdicts]
        rows += [(item.name, "-", "-", "", item.reason) for item in selection.left_out]
        print_table(title, columns, rows, right=columns[1:3])
        typer.echo("bound: with 99 % confidence the true percentile is not above it; this is what must meet the budget")
    if selection.foreign:
        typer.echo(f"measured on host {selection.host}, which is not this one: nothing here was measured", err=True)
    chosen = selection.chosen
    if chosen is None:
        return
    metric = "metric not known"
    if chosen.candidate.metric is not None:
        metric = f"{_metric_name(selection)} {chosen.candidate.metric:.4g}"
    typer.echo(f"{chosen.candidate.name}: {_latency(chosen, request)}, {metric}")
    if selection.hint:
        typer.echo(selection.hint)
    if not explain and (rejected := sum(not verdict.meets for verdict in selection.verdicts)):
        typer.echo(f"{rejected} of {len(selection.verdicts)} candidates rejected; --explain says why")


def as_document(selection: Selection) -> dict[str, Any]:
    """Return a selection as JSON content."""
    from deploykit_serving.selection.request import load_text, measured_load_text

    request = selection.request
    chosen, nearest = selection.chosen, selection.nearest
    return {
        "percentile": request.budget.percentile,
        "budget_ms": request.budget.ms,
        "floors": dict(request.floors),
        "batch": request.batch,
        "load": load_text(request.load),
        "host": selection.host,
        "foreign": selection.foreign,
        "hint": selection.hint,
        "chosen": None if chosen is None else chosen.candidate.name,
        "nearest": None if nearest is None else nearest.candidate.name,
        "front": [verdict.candidate.name for verdict in selection.front],
        "candidates": [
            {
                "name": verdict.candidate.name,
                "bundle": str(verdict.candidate.path),
                "variant": verdict.candidate.variant,
                "runtime": verdict.candidate.runtime,
                "threads": verdict.candidate.threads,
                "metric": verdict.candidate.metric,
                "latency_ms": verdict.latency_ms,
                "measured_ms": verdict.measured_ms,
                "load": None if verdict.load is None else measured_load_text(verdict.load),
                "size": verdict.candidate.size,
                "meets": verdict.meets,
                "faults": list(verdict.faults),
                "misses": [
                    {"what": miss.what, "relative": miss.relative, "text": miss.text} for miss in verdict.misses
                ],
            }
            for verdict in selection.verdicts
        ],
        "left_out": [{"name": item.name, "reason": item.reason} for item in selection.left_out],
    }


def _row(verdict: Verdict) -> tuple[str, ...]:
    from deploykit.cli.output import number
    from deploykit_serving.selection.request import measured_load_text

    reasons = [*verdict.faults, *(miss.text for miss in verdict.misses)]
    if verdict.load is not None and verdict.load.kind == "open":
        reasons.append(f"measured at {measured_load_text(verdict.load)}")
    candidate = verdict.candidate
    return (
        candidate.name, number(candidate.metric), number(verdict.latency_ms), "yes" if verdict.pareto else "",
        "\n".join(reasons),
    )  # fmt: skip


def _latency(verdict: Verdict, request: Request) -> str:
    from deploykit_serving.selection.request import measured_load_text
    from deploykit_serving.selection.units import time_text

    assert verdict.latency_ms is not None
    assert verdict.measured_ms is not None
    budget = request.budget
    measured, bound = time_text(verdict.measured_ms), time_text(verdict.latency_ms)
    at = f" at {measured_load_text(verdict.load)}" if verdict.load is not None and verdict.load.kind == "open" else ""
    return f"{budget.name}{at} {measured}, at most {bound} with 99 % confidence, within {time_text(budget.ms)}"


def _metric_name(selection: Selection) -> str:
    return next((item.candidate.metric_name for item in selection.verdicts if item.candidate.metric_name), "metric")


def _limit(text: str, option: str, read: Any) -> float | None:
    from deploykit.errors import ConfigError

    if not text:
        return None
    try:
        limit: float = read(text)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from error
    return limit
