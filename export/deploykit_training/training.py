"""The training loop, on Lightning Fabric so that devices, precision and strategies come with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from deploykit.errors import TrainingError
from deploykit.lifecycle import binding_of
from deploykit.making import make_method, make_task
from deploykit.method import Method
from deploykit.outputs import run_module
from deploykit.registry import installed, load_implementation
from deploykit.task import Split, Task
from deploykit.training_plan import TrainingPlan
from deploykit_export.soft_weights import make_soft
from deploykit_export.toolchain import toolchain
from deploykit_export.torch_hops import joined
from deploykit_training.level_samples import Batch, LevelSamples
from deploykit_training.run_folder import RUN, RunRecord, load_checkpoint, load_model, make_folder, open_run, save_run

_EVALUATION_BATCH: Final = 64
Report = Callable[[RunRecord], None]


def train(
    record: RunRecord,
    folder: Path,
    *,
    fabric: Fabric | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> nn.Module:
    """Train a soft form as a record says, or go on with a run that was interrupted.

    Interrupt and resume give the same weights as one undisturbed run with the same seed on the same machine. Where the
    method's plan has an upper level, each step of the weights follows one of that level, on samples held back for it.

    Args:
        record: method, settings, task, seed and epochs.
        folder: where record and checkpoint are kept; written after every epoch.
        fabric: devices, precision and strategy; one CPU process in float32 by default.
        resume: go on where the run in ``folder`` stopped; without it a folder that holds a run is refused.
        report: called after every epoch.

    Raises:
        TrainingError: the folder holds a run already, or another one than asked for; the loss is not finite; a level
            has less than two samples.
    """
    done = _earlier(record, folder, resume=resume)
    make_folder(folder)
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    torch.manual_seed(record.seed)
    task = make_task(record.task)
    method = make_method(record.method, record.config)
    soft = make_soft(method, task, record.network)
    plan = _with_size(method.plan(soft, task), record)
    if done is not None:
        record.done = load_checkpoint(folder, soft, plan)
        record.history, record.seconds = done.history[: record.done], done.seconds
    record.toolchain = toolchain()
    if done is not None and record.done != done.done:
        # It was killed between checkpoint and record: without this a finished run would look unfinished for ever.
        save_run(folder, record, soft, plan)
    loop = _Loop(fabric, soft, plan, task, record)
    for epoch in range(record.done, record.epochs):
        started = time.perf_counter()
        figures = loop.epoch(epoch)
        record.done = epoch + 1
        record.seconds += time.perf_counter() - started
        record.history.append({"epoch": record.done, **figures})
        if fabric.global_rank == 0:
            save_run(folder, record, soft, plan)
        if report is not None:
            report(record)
    return soft.eval()


def soft_from_run(folder: Path) -> tuple[RunRecord, nn.Module, Task]:
    """Make the soft form of a run with its trained weights.

    Raises:
        TrainingError: there is no run, or its checkpoint does not fit.
    """
    record = open_run(folder)
    task = make_task(record.task)
    soft = make_soft(make_method(record.method, record.config), task, record.network)
    load_model(folder, soft)
    return record, soft.eval(), task


def evaluate(form: nn.Module, task: Task, split: Split = "test") -> float:
    """Return the task's metric of a form on a split."""
    samples = task.samples(split)
    batches = [
        dict(samples.take(slice(start, start + _EVALUATION_BATCH)).inputs)
        for start in range(0, len(samples), _EVALUATION_BATCH)
    ]
    outputs = [run_module(form, batch, task.signature) for batch in batches]
    return task.metric(joined(outputs, task.signature), samples)


def new_record(
    method: str, config: dict[str, Any], task: str, *, network: str = "", seed: int = 0, epochs: int | None = None
) -> RunRecord:
    """Return the record of a run to come, with the method's own number of epochs unless told otherwise.

    A method that has a setting ``epochs`` plans its schedule by it, so the number is given to the setting then.
    """
    card = installed().method_card(method)
    if epochs is not None and "epochs" in getattr(load_implementation(card), "Config", Method.Config).model_fields:
        config = {**config, "epochs": epochs}
    made, chosen = make_method(method, config), make_task(task)
    torch.manual_seed(seed)
    plan = made.plan(make_soft(made, chosen, network), chosen)
    return RunRecord(
        method=method, config=made.config.model_dump(mode="json"), task=task, network=network, seed=seed,
        epochs=epochs or plan.epochs, batch_size=plan.batch_size,
    )  # fmt: skip


class _Loop:
    """Everything one epoch needs."""

    def __init__(self, fabric: Fabric, soft: nn.Module, plan: TrainingPlan, task: Task, record: RunRecord) -> None:
        self.fabric, self.soft, self.plan, self.task, self.record = fabric, soft, plan, task, record
        self.method = binding_of(soft).method
        optimizers = [plan.optimizer] if plan.upper is None else [plan.optimizer, plan.upper.optimizer]
        self.wrapped, self.optimizer, *upper = fabric.setup(soft, *optimizers)
        self.upper_optimizer = upper[0] if upper else None
        self.samples = LevelSamples(task, plan, record.seed, fabric.global_rank, fabric.world_size)
        self.steps = self.samples.steps

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train one pass and return the mean loss, and the upper level's where it took a step."""
        self.wrapped.train()
        total, seen = 0.0, 0
        upper_losses: list[float] = []
        for step, batch in enumerate(self.samples.epoch(epoch)):
            position = epoch * self.steps + step
            progress = min(1.0, position / max(1, self.record.epochs * self.steps - 1))
            self.method.on_step(self.soft, progress)
            where = f"epoch {epoch + 1}, step {step + 1}"
            if self.plan.upper is not None and self.plan.upper.active(progress):
                upper_losses.append(self._upper_step(self.samples.held_back(epoch, step), where))
            loss = self._loss(batch, where)
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            if self.plan.clip_norm is not None:
                self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=self.plan.clip_norm)
            self.optimizer.step()
            if self.plan.scheduler is not None:
                self.plan.scheduler.step()
            count = len(batch[0][0])
            total, seen = total + float(loss.detach()) * count, seen + count
        figures = {"loss": total / seen}
        return figures | ({"upper_loss": sum(upper_losses) / len(upper_losses)} if upper_losses else {})

    def _upper_step(self, batch: Batch, where: str) -> float:
        upper, optimizer = self.plan.upper, self.upper_optimizer
        assert upper is not None
        assert optimizer is not None
        loss = self._loss(batch, f"{where} of the upper level")
        optimizer.zero_grad()  # the weights' last step left gradients here, as this one leaves some on the weights
        self.fabric.backward(loss)
        optimizer.step()
        if upper.scheduler is not None:
            upper.scheduler.step()
        return float(loss.detach())

    def _loss(self, batch: Batch, where: str) -> Tensor:
        inputs: tuple[Tensor, ...] = self.fabric.to_device(batch[0])
        targets: dict[str, Tensor] = self.fabric.to_device(batch[1])
        loss = self.method.loss(self.wrapped, inputs, targets, self.task)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"{self.record.method}: the loss became {float(loss.detach())} in {where}; lower the rate or check the "
                "data"
            )
        return loss


def _with_size(plan: TrainingPlan, record: RunRecord) -> TrainingPlan:
    return replace(plan, epochs=record.epochs, batch_size=record.batch_size)


def _earlier(record: RunRecord, folder: Path, *, resume: bool) -> RunRecord | None:
    if not (folder / RUN).exists():
        return None
    if not resume:
        raise TrainingError(f"{folder} holds a run already; go on with --resume or choose another folder")
    earlier = open_run(folder)
    same = ("method", "config", "task", "network", "seed", "epochs", "batch_size")
    for field in same:
        before, now = getattr(earlier, field), getattr(record, field)
        if field == "config" and earlier.method == record.method:
            before, now = ({key: value for key, value in config.items() if value != other.get(key)}
                           for config, other in ((before, now), (now, before)))  # fmt: skip
        if before != now:
            raise TrainingError(
                f"{folder} was trained with {field} {before!r}, asked for is {now!r}; choose another folder"
            )
    return earlier
