"""Training can be interrupted anywhere and goes on as if nothing had happened."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deploykit import Decision, HardForm, Method, Samples, Signature, Task, TensorSpec, TrainingPlan
from deploykit.errors import TrainingError
from deploykit.hardening import state_digest
from deploykit.testing import offered
from deploykit_training import RunRecord, open_run, train
from deploykit_training import run_folder as folder_module
from deploykit_training.training import evaluate, new_record, soft_from_run

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 4)),), outputs=(TensorSpec(name="y", shape=("batch", 2)),)
)


class Noisy(Method[nn.Module]):
    """Drops out at random and keeps momentum, a schedule and clipping: everything a resume must bring back."""

    progress: list[float]

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.3), model)

    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        optimizer = torch.optim.SGD(soft.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
        return TrainingPlan(optimizer, epochs=3, batch_size=8, scheduler=scheduler, clip_norm=1.0)

    def on_step(self, soft: nn.Module, progress: float) -> None:
        seen.append(progress)

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(copy.deepcopy(soft))

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        return {}

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {}


class Adam(Noisy):
    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        return TrainingPlan.default(soft, epochs=3, batch_size=8)


class Sides(Task):
    """Which side of a plane a point lies on; ``nan`` among the targets makes the loss what it says."""

    poison = False

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    def samples(self, split: Any) -> Samples:
        x = np.random.default_rng(0 if split != "test" else 1).standard_normal((50, 4)).astype(np.float32)
        return Samples({"x": x}, {"side": (x.sum(1) > 0).astype(np.int64)})

    def network(self, name: str = "") -> nn.Module:
        return nn.Linear(4, 2)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        value = nn.functional.cross_entropy(outputs["y"], targets["side"])
        return value / 0 if self.poison else value

    def metric(self, outputs: Any, samples: Samples) -> float:
        return float((outputs["y"].argmax(1) == samples.targets["side"]).mean())


seen: list[float] = []


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Sides, "poison", False)
    seen.clear()
    with offered(methods={"test.noisy": Noisy, "test.adam": Adam}, tasks={"sides": Sides}):
        yield


def record(method: str = "test.noisy", **changes: Any) -> RunRecord:
    made = new_record(method, {}, "sides", seed=changes.pop("seed", 3))
    return made.model_copy(update=changes)


class _StopError(Exception):
    pass


def stop_after(epoch: int) -> Any:
    def report(state: RunRecord) -> None:
        if state.done == epoch:
            raise _StopError

    return report


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(11)
    first = train(record(), tmp_path / "a")
    torch.manual_seed(12)
    second = train(record(), tmp_path / "b")
    other = train(record(seed=4), tmp_path / "c")
    assert state_digest(first) == state_digest(second) != state_digest(other)
    assert not first.training


def test_progress_runs_from_zero_to_one(tmp_path: Path) -> None:
    train(record(), tmp_path / "a")
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
    assert len(seen) == 3 * 7


@pytest.mark.parametrize("method", ["test.noisy", "test.adam"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, method: str, epoch: int) -> None:
    whole = train(record(method), tmp_path / "whole")
    with pytest.raises(_StopError):
        train(record(method), tmp_path / "cut", report=stop_after(epoch))
    torch.manual_seed(999)  # what happens between must not matter
    resumed = train(record(method), tmp_path / "cut", resume=True)
    assert state_digest(resumed) == state_digest(whole)
    undisturbed, continued = open_run(tmp_path / "whole"), open_run(tmp_path / "cut")
    assert continued.history == undisturbed.history
    assert continued.finished


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_kill_between_checkpoint_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    whole = train(record(), tmp_path / "whole")
    replace = folder_module._replace
    written = 0

    def dying(path: Path, data: bytes) -> None:
        nonlocal written
        if path.name == "run.json" and (written := written + 1) == epoch:
            raise _StopError
        replace(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "_replace", dying)
        with pytest.raises(_StopError):
            train(record(), tmp_path / "cut")
    resumed = train(record(), tmp_path / "cut", resume=True)
    assert state_digest(resumed) == state_digest(whole)
    assert open_run(tmp_path / "cut").finished


def test_a_finished_run_is_given_back(tmp_path: Path) -> None:
    trained = train(record(), tmp_path / "a")
    assert state_digest(train(record(), tmp_path / "a", resume=True)) == state_digest(trained)
    found, soft, task = soft_from_run(tmp_path / "a")
    assert found.finished
    assert state_digest(soft) == state_digest(trained)
    assert evaluate(soft, task) > 0.7  # chance is a half


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    train(record(epochs=1), tmp_path / "a")
    with pytest.raises(TrainingError, match=r"holds a run already; go on with --resume or choose another folder"):
        train(record(epochs=1), tmp_path / "a")


@pytest.mark.parametrize(("field", "value"), [("seed", 9), ("epochs", 7), ("batch_size", 5), ("method", "test.adam")])
def test_going_on_with_other_settings_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    train(record(epochs=1), tmp_path / "a")
    with pytest.raises(TrainingError, match=rf"was trained with {field} .*, asked for is {value!r}; choose another"):
        train(record(**{"epochs": 1, field: value}), tmp_path / "a", resume=True)


def test_only_the_settings_that_differ_are_told(tmp_path: Path) -> None:
    train(record(epochs=1), tmp_path / "a")
    other = record(epochs=1)
    other.config = {**other.config, "further": 0.25}
    with pytest.raises(TrainingError, match=r"was trained with config \{\}, asked for is \{'further': 0\.25\}; choose"):
        train(other, tmp_path / "a", resume=True)


def test_a_run_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(
            TrainingError, match=rf"the run folder {folder} cannot be made: .*; choose another with --out"
        ):
            train(record(epochs=1), folder)
    with pytest.raises(TrainingError, match=r"file is a file; wanted a folder that `deploykit train` wrote"):
        open_run(tmp_path / "file")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _scribble(path: Path) -> None:
    path.write_bytes(b"\xff" * 500)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "is damaged: .*; train again"),
        (_scribble, "is damaged: .*"),
        (Path.unlink, "holds no checkpoint.saf"),
    ],
)
def test_a_damaged_checkpoint_is_told(tmp_path: Path, damage: Any, words: str) -> None:
    train(record(epochs=1), tmp_path / "a")
    damage(tmp_path / "a/checkpoint.safetensors")
    with pytest.raises(TrainingError, match=words):
        soft_from_run(tmp_path / "a")
    with pytest.raises(TrainingError, match=words):
        train(record(epochs=1), tmp_path / "a", resume=True)


def test_a_checkpoint_of_another_network_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(record(epochs=1), tmp_path / "a")
    monkeypatch.setattr(Sides, "network", lambda self, name="": nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(TrainingError, match=r"was written for other settings or another network"):
        soft_from_run(tmp_path / "a")


def test_a_record_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no training run at .*: wanted a folder holding run.json; make one with"):
        open_run(tmp_path)
    for content in ("", "{}", "[1]", json.dumps({"surprise": 1})):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(TrainingError, match=r"run.json is not a run's record"):
            open_run(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(_StopError):
        train(record(), tmp_path / "a", report=stop_after(1))
    before = (tmp_path / "a/checkpoint.safetensors").read_bytes()
    monkeypatch.setattr(Sides, "poison", True)
    with pytest.raises(TrainingError, match=r"test.noisy: the loss became inf in epoch 2, step 1; lower the rate"):
        train(record(), tmp_path / "a", resume=True)
    assert (tmp_path / "a/checkpoint.safetensors").read_bytes() == before
    shutil.rmtree(tmp_path / "a")


def test_too_few_samples_are_told_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Sides.samples
    monkeypatch.setattr(Sides, "samples", lambda self, split: few(self, split).take(slice(0, 1)))
    with pytest.raises(TrainingError, match=r"1 training samples for 1 process\(es\); wanted at least 2 for each"):
        train(record(epochs=1), tmp_path / "run")
