"""``deploykit train``: train a method's soft form on a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploykit.cli.options import settings_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from deploykit_training.run_folder import RunRecord


def train(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="A method's name; see `deploykit methods`.")],
    task: Annotated[str, typer.Option(help="The task; by default the first the method names.")] = "",
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/TASK-METHOD.")] = None,
    network: Annotated[
        str, typer.Option(help="One of the task's networks, or package.module:function returning your own.")
    ] = "",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data; the method's own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same weights.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run.")] = False,
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, auto: passed to Lightning Fabric.")] = "cpu",
    devices: Annotated[int, typer.Option(min=1, help="How many of them.")] = 1,
    strategy: Annotated[str, typer.Option(help="Fabric strategy: auto, ddp, fsdp ...")] = "auto",
) -> None:
    """Train a method's soft form; further flags are the method's settings.

    Examples: deploykit train binarized.biper --task digits --frequency 10 · deploykit train pruned.gate --keep 0.25
    """
    from deploykit.errors import ConfigError, TrainingError
    from deploykit.making import make_method, make_task
    from deploykit.registry import installed

    settings = settings_from(context.args)
    card = installed().method_card(method)
    if not task and not card.tasks:
        raise ConfigError(f"{method} names no task of its own; give one: --task NAME")
    task = task or card.tasks[0]
    folder = out or Path("runs") / f"{task}-{method}"
    try:
        make_method(method, settings)
    except ConfigError as error:
        raise ConfigError(error.as_flags or str(error)) from error
    from lightning_fabric import Fabric

    from deploykit_training.training import evaluate, new_record
    from deploykit_training.training import train as run_training

    record = new_record(method, settings, task, network=network, seed=seed, epochs=epochs)
    # Relaxations freeze parameters on their way (settled gates, second stages); plain DDP stops at the first of them.
    named = {"ddp": "ddp_find_unused_parameters_true"}.get(strategy, strategy)
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, strategy=named)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"no training with accelerator {accelerator!r}, devices {devices}, strategy {strategy!r}: {error}"
        ) from error
    try:
        soft = with_progress(
            f"{method} on {task}",
            record.epochs,
            lambda report: run_training(record, folder, fabric=fabric, resume=resume, report=report),
        )
    except KeyboardInterrupt:
        kept = f"; give the same command with --resume to go on from {folder}" if record.done else ""
        typer.echo(f"interrupted after {record.done} of {record.epochs} epochs{kept}", err=True)
        raise
    if fabric.global_rank != 0:
        return
    made = make_task(task)
    typer.echo(f"{method} on {task}: soft {made.metric_name} {evaluate(soft, made):.4f}, "
               f"{record.seconds:.1f} s, kept in {folder}")  # fmt: skip
    typer.echo(f"next: deploykit export {folder}")


def with_progress(title: str, epochs: int, work: Callable[[Callable[[RunRecord], None]], nn.Module]) -> nn.Module:
    """Show a bar while ``work`` calls back each epoch; nothing where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task(title, total=epochs)

        def report(record: RunRecord) -> None:
            bar.update(shown, completed=record.done, description=f"{title} loss {record.history[-1]['loss']:.4f}")

        return work(report)
