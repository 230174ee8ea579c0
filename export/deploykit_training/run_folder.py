"""A training run on disk: ``run.json`` says what and how far, ``checkpoint.safetensors`` holds every tensor.

Both are replaced by renaming, the checkpoint first, so that a kill at any instant leaves a run that can go on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from deploykit.errors import TrainingError
from deploykit.training_plan import TrainingPlan

RUN: Final = "run.json"
CHECKPOINT: Final = "checkpoint.safetensors"
_UPPER: Final = "upper/"


class RunRecord(BaseModel):
    """What is trained, with which settings, and how far it got.

    Attributes:
        epochs: passes over the training data when it is done.
        done: passes finished; the checkpoint is of that moment.
        history: figures of each finished epoch.
    """

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    method: str
    config: dict[str, Any]
    task: str
    network: str = ""
    seed: int
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    done: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = []
    toolchain: dict[str, str] = {}

    @property
    def finished(self) -> bool:
        """Whether every epoch was trained."""
        return self.done >= self.epochs


def open_run(folder: Path) -> RunRecord:
    """Read a run's record.

    Raises:
        TrainingError: there is no run in that folder, or its record is malformed.
    """
    path = folder / RUN
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise TrainingError(
            f"no training run at {folder}: wanted a folder holding {RUN}; make one with: deploykit train METHOD"
        ) from None
    except NotADirectoryError:
        raise TrainingError(f"{folder} is a file; wanted a folder that `deploykit train` wrote") from None
    except (ValidationError, OSError) as error:
        raise TrainingError(f"{path} is not a run's record: {str(error).splitlines()[0]}") from error


def save_run(folder: Path, record: RunRecord, soft: nn.Module, plan: TrainingPlan) -> None:
    """Write checkpoint and record so that either both are of this moment or the old ones still stand.

    Raises:
        TrainingError: the folder cannot be made or written.
    """
    make_folder(folder)
    tensors: dict[str, Tensor] = {f"model/{name}": tensor for name, tensor in soft.state_dict().items()}
    tensors["random/torch"] = torch.get_rng_state()
    notes = {"done": str(record.done)}
    for level, optimizer, scheduler in _levels(plan):
        state = optimizer.state_dict()
        plain: dict[str, Any] = {"param_groups": state["param_groups"], "state": {}}
        for index, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"{level}optimizer/{index}/{key}"] = value
                else:
                    plain["state"].setdefault(str(index), {})[key] = value
        notes[f"{level}optimizer"] = json.dumps(plain)
        notes[f"{level}scheduler"] = json.dumps(_plain_scheduler(scheduler))
    data = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, metadata=notes)
    try:
        _replace(folder / CHECKPOINT, data)
        _replace(folder / RUN, record.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written: {error.strerror}; what stood there before is whole"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a run's folder.

    Raises:
        TrainingError: it cannot be made; asked before training, so that no epoch is lost.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"the run folder {folder} cannot be made: {error.strerror}; choose another with --out"
        ) from error


def load_model(folder: Path, soft: nn.Module) -> None:
    """Load the trained weights of a run into a soft form.

    Raises:
        TrainingError: there is no checkpoint or it is of another model.
    """
    tensors, _ = _read(folder)
    _load_model(folder, tensors, soft)


def load_checkpoint(folder: Path, soft: nn.Module, plan: TrainingPlan) -> int:
    """Load everything of a run in order to go on with it.

    Returns:
        the number of epochs that the checkpoint has behind it.

    Raises:
        TrainingError: there is no checkpoint, it is of another model, or it was written by a method that trained on
            another number of levels.
    """
    tensors, notes = _read(folder)
    _load_model(folder, tensors, soft)
    if (had := f"{_UPPER}optimizer" in notes) != (plan.upper is not None):
        levels = {True: "two levels", False: "one level"}
        raise TrainingError(
            f"{folder / CHECKPOINT} was written while training on {levels[had]}, and its method now trains on "
            f"{levels[not had]}; train again into another folder"
        )
    for level, optimizer, scheduler in _levels(plan):
        plain = json.loads(notes[f"{level}optimizer"])
        state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in plain["state"].items()}
        prefix = f"{level}optimizer/"
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                index, key = name.removeprefix(prefix).split("/", 1)
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
        if scheduler is not None:
            scheduler.load_state_dict(json.loads(notes[f"{level}scheduler"]))
    torch.set_rng_state(tensors["random/torch"])
    return int(notes["done"])


def _levels(plan: TrainingPlan) -> list[tuple[str, Optimizer, LRScheduler | None]]:
    """Return what is kept of each level, under which prefix; the first level's names are those of one-level runs."""
    levels: list[tuple[str, Optimizer, LRScheduler | None]] = [("", plan.optimizer, plan.scheduler)]
    if plan.upper is not None:
        levels.append((_UPPER, plan.upper.optimizer, plan.upper.scheduler))
    return levels


def _load_model(folder: Path, tensors: dict[str, Tensor], soft: nn.Module) -> None:
    state = {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    try:
        soft.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(
            f"{folder / CHECKPOINT} was written for other settings or another network: {str(error).splitlines()[1:2]}"
        ) from error


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    path = folder / CHECKPOINT
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    except FileNotFoundError:
        raise TrainingError(f"{folder} holds no {CHECKPOINT}; train again") from None
    except SafetensorError as error:
        raise TrainingError(f"{path} is damaged: {error}; train again") from error


def _plain_scheduler(scheduler: LRScheduler | None) -> dict[str, Any]:
    if scheduler is None:
        return {}
    return {
        key: value for key, value in scheduler.state_dict().items() if isinstance(value, (int, float, str, list, bool))
    }


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
