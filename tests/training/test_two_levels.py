"""Two-level training: each level has its parameters and its samples, and an interruption leaves no trace."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from deploykit import TrainingPlan
from deploykit.errors import ContractError, TrainingError
from deploykit.hardening import state_digest
from deploykit.training_plan import UpperLevel
from deploykit_training import RunRecord, open_run, train
from deploykit_training import run_folder as folder_module
from deploykit_training.training import new_record
from tests.training.two_level_methods import ByHand, Line, OneLevel, Plugin, Scaled, Stateful, calls


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from deploykit import installed

    home = types.ModuleType("deploykit_test_levels")
    for part in (ByHand, Stateful, OneLevel, Line):
        setattr(home, part.__name__, part)
    monkeypatch.setitem(sys.modules, "deploykit_test_levels", home)
    monkeypatch.setattr(ByHand, "upper", {"held_back": 0.4})
    monkeypatch.setattr(Line, "poison", 10**9)
    calls.clear()
    taken = installed().offer(Plugin(), "levels")
    assert not taken.failure
    yield
    installed().withdraw(taken)


def record(method: str = "levels.byhand", seed: int = 3, **changes: Any) -> RunRecord:
    return new_record(method, {}, "line", seed=seed).model_copy(update=changes)


class _StopError(Exception):
    pass


def stop_after(epoch: int) -> Any:
    def report(state: RunRecord) -> None:
        if state.done == epoch:
            raise _StopError

    return report


def rows(batch: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row.tolist()) for row in batch}


def test_every_step_follows_one_of_the_upper_level_at_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)  # as train() does before it makes the network
    start = Scaled()
    scale, w = start.scale.item(), start.inner.weight.detach().double().numpy().T
    trained = train(record(), tmp_path / "a")
    assert len(calls) == 3 * 2 * 4  # 30 of 50 samples for the weights, 8 a batch
    for index, (inputs, targets) in enumerate(calls):
        x, y = inputs.double().numpy(), targets.double().numpy()
        error = scale * (x @ w) - y
        if index % 2 == 0:
            scale -= 0.05 * float(2 * (error * (x @ w)).mean())
        else:
            w = w - 0.1 * 2 * scale * (x.T @ error) / len(x)
    assert trained.get_parameter("scale").item() == pytest.approx(scale, rel=1e-5)
    np.testing.assert_allclose(trained.get_parameter("inner.weight").detach().numpy().T, w, rtol=1e-5)


def test_neither_level_sees_the_others_samples(tmp_path: Path) -> None:
    train(record(), tmp_path / "a")
    upper, lower = ([rows(inputs) for inputs, _ in calls[first::2]] for first in (0, 1))
    seen_above, seen_below = set().union(*upper), set().union(*lower)
    assert len(seen_above) == 20
    assert len(seen_below) == 30
    assert not seen_above & seen_below
    for epoch in range(3):
        batches = lower[4 * epoch : 4 * epoch + 4]
        assert sum(len(batch) for batch in batches) == len(set().union(*batches)) == 30  # each once an epoch
        assert [len(batch) for batch in upper[4 * epoch : 4 * epoch + 4]] == [8] * 4  # wraps, no sample twice
    assert upper[:4] != upper[4:8]


def test_few_held_back_samples_make_one_small_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByHand, "upper", {"held_back": 0.1})
    train(record(epochs=1), tmp_path / "a")
    assert {len(inputs) for inputs, _ in calls[::2]} == {5}


def test_the_upper_level_steps_only_between_start_and_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps are at 0, 1/11, ..., 1; those from 0.5 to 0.75 are 6/11, 7/11 and 8/11.
    monkeypatch.setattr(ByHand, "upper", {"held_back": 0.4, "starts_at": 0.5, "stops_at": 0.75})
    train(record(), tmp_path / "a")
    assert len(calls) == 12 + 3
    above = {row for inputs, _ in (calls[6], calls[8], calls[10]) for row in rows(inputs)}
    assert not above & {row for inputs, _ in (*calls[:6], calls[7], calls[9], *calls[11:]) for row in rows(inputs)}
    history = open_run(tmp_path / "a").history
    assert [sorted(entry) for entry in history] == [
        ["epoch", "loss"], ["epoch", "loss", "upper_loss"], ["epoch", "loss", "upper_loss"],
    ]  # fmt: skip


def test_the_seed_decides_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    first = train(record("levels.stateful"), tmp_path / "a")
    split = set().union(*(rows(inputs) for inputs, _ in calls[::2]))
    calls.clear()
    torch.manual_seed(12)
    second = train(record("levels.stateful"), tmp_path / "b")
    assert set().union(*(rows(inputs) for inputs, _ in calls[::2])) == split
    calls.clear()
    other = train(record("levels.stateful", seed=4), tmp_path / "c")
    assert set().union(*(rows(inputs) for inputs, _ in calls[::2])) != split
    assert state_digest(first) == state_digest(second) != state_digest(other)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, epoch: int) -> None:
    whole = train(record("levels.stateful"), tmp_path / "whole")
    with pytest.raises(_StopError):
        train(record("levels.stateful"), tmp_path / "cut", report=stop_after(epoch))
    torch.manual_seed(999)  # what happens between must not matter
    resumed = train(record("levels.stateful"), tmp_path / "cut", resume=True)
    assert state_digest(resumed) == state_digest(whole)
    assert open_run(tmp_path / "cut").history == open_run(tmp_path / "whole").history
    (tensors, notes), (others, other_notes) = (folder_module._read(tmp_path / run) for run in ("cut", "whole"))
    assert notes == other_notes  # both optimisers and schedules too
    assert tensors.keys() == others.keys() >= {"optimizer/0/momentum_buffer", "upper/optimizer/0/exp_avg_sq"}
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_kill_between_checkpoint_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    whole = train(record("levels.stateful"), tmp_path / "whole")
    written, renamed = 0, folder_module._replace

    def dying(path: Path, data: bytes) -> None:
        nonlocal written
        if path.name == "run.json" and (written := written + 1) == epoch:
            raise _StopError
        renamed(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "_replace", dying)
        with pytest.raises(_StopError):
            train(record("levels.stateful"), tmp_path / "cut")
    assert state_digest(train(record("levels.stateful"), tmp_path / "cut", resume=True)) == state_digest(whole)


def test_a_resume_needs_the_upper_optimisers_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the equality above would miss if Adam's moments did not matter here."""
    whole = train(record("levels.stateful"), tmp_path / "whole")
    with pytest.raises(_StopError):
        train(record("levels.stateful"), tmp_path / "cut", report=stop_after(1))
    read = folder_module._read

    def forgetful(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors, notes = read(folder)
        plain = json.loads(notes["upper/optimizer"])
        notes["upper/optimizer"] = json.dumps({**plain, "state": {}})
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("upper/")}, notes

    monkeypatch.setattr(folder_module, "_read", forgetful)
    resumed = train(record("levels.stateful"), tmp_path / "cut", resume=True)
    assert state_digest(resumed) != state_digest(whole)


def test_checkpoints_of_one_level_hold_what_they_always_held(tmp_path: Path) -> None:
    train(record("levels.onelevel", epochs=1), tmp_path / "a")
    with safe_open(tmp_path / "a/checkpoint.safetensors", framework="pt") as file:
        assert {name.split("/")[0] for name in file.keys()} == {"model", "optimizer", "random"}  # noqa: SIM118
        assert set(file.metadata()) == {"done", "optimizer", "scheduler"}


@pytest.mark.parametrize(("before", "after"), [("one level", "two levels"), ("two levels", "one level")])
def test_a_checkpoint_of_another_number_of_levels_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    plans = {"one level": OneLevel.plan, "two levels": ByHand.plan}
    monkeypatch.setattr(ByHand, "plan", plans[before])
    with pytest.raises(_StopError):
        train(record(), tmp_path / "a", report=stop_after(1))
    monkeypatch.setattr(ByHand, "plan", plans[after])
    with pytest.raises(
        TrainingError, match=rf"was written while training on {before}, and its method now trains on {after}; train"
    ):
        train(record(), tmp_path / "a", resume=True)


@pytest.mark.parametrize(
    ("held_back", "words"),
    [
        (0.02, r"0\.02 of 50 training samples leaves 1 for the upper level; wanted at least 2 for each of 1 process"),
        (0.98, r"0\.98 of 50 training samples leaves 1 for the weights; .*: change the plan's held_back"),
    ],
)
def test_a_level_without_samples_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_back: float, words: str
) -> None:
    monkeypatch.setattr(ByHand, "upper", {"held_back": held_back})
    with pytest.raises(TrainingError, match=words):
        train(record(), tmp_path / "a")


def test_an_infinite_loss_of_the_upper_level_is_told_as_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Line, "poison", 10)
    with pytest.raises(TrainingError, match=r"the loss became inf in epoch 2, step 2 of the upper level; lower the"):
        train(record(), tmp_path / "a")


@pytest.mark.parametrize("held_back", [0.0, 1.0, -0.1])
def test_a_share_out_of_range_is_refused(held_back: float) -> None:
    with pytest.raises(ContractError, match=rf"share of the training samples above 0 and below 1, got {held_back}"):
        UpperLevel(torch.optim.SGD([nn.Parameter(torch.ones(()))], lr=1.0), held_back)


@pytest.mark.parametrize(("start", "stop"), [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.5)])
def test_times_out_of_range_are_refused(start: float, stop: float) -> None:
    with pytest.raises(
        ContractError, match=rf"starts and stops at a progress .* starts_at {start} and stops_at {stop}"
    ):
        UpperLevel(torch.optim.SGD([nn.Parameter(torch.ones(()))], lr=1.0), 0.5, start, stop)


def test_a_parameter_of_both_levels_is_refused() -> None:
    model = Scaled()
    both = torch.optim.SGD(model.parameters(), lr=1.0)
    upper = UpperLevel(torch.optim.SGD([model.scale], lr=1.0))
    with pytest.raises(
        ContractError, match=r"both levels .* same parameters, 1 of them, the first of shape \(\); give"
    ):
        TrainingPlan(both, epochs=1, batch_size=1, upper=upper)
