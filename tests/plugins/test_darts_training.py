"""``searched.darts`` trained on digits through the training loop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import deploykit
from deploykit.hardening import state_digest
from deploykit_searched import discretization_gap, genotype_of
from deploykit_training import RunRecord, open_run, train
from deploykit_training.training import new_record
from tests.plugins.darts_networks import NAME, answers, choices, method_of

QUICK: dict[str, Any] = {"operators": "none,skip,avg_3,sep_3", "channels": 4, "epochs": 18, "held_back": 0.3}


def searched(folder: Path, **config: Any) -> nn.Module:
    return train(new_record(NAME, {**QUICK, **config}, "digits"), folder)


def test_the_papers_search_loses_most_of_its_accuracy_and_settling_loses_none(tmp_path: Path) -> None:
    task = deploykit.make_task("digits")
    paper = discretization_gap(searched(tmp_path / "paper", settle_at=1, final_temperature=1), task)
    assert paper.supernet > 0.85
    assert paper.one_hot < paper.supernet - 0.2
    soft = searched(tmp_path / "settled")
    samples = task.samples("test")
    x = torch.from_numpy(samples.inputs["image"])
    scores = [task.metric({"logits": answers(form, x)}, samples) for form in (soft, deploykit.harden(soft).module)]
    assert scores[0] == scores[1]
    assert scores[1] > 0.85
    assert scores[1] > paper.one_hot_reestimated


class _StopError(Exception):
    pass


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_search_that_is_interrupted_before_or_after_it_settled_ends_with_the_same_bits(
    tmp_path: Path, epoch: int
) -> None:
    def stop(state: RunRecord) -> None:
        if state.done == epoch:
            raise _StopError

    record = new_record(NAME, {"operators": "skip,avg_3", "channels": 2, "epochs": 4, "nodes": 1}, "digits", seed=2)
    whole = train(record.model_copy(deep=True), tmp_path / "whole")
    with pytest.raises(_StopError):
        train(record.model_copy(deep=True), tmp_path / "cut", report=stop)
    torch.manual_seed(99)
    resumed = train(record.model_copy(deep=True), tmp_path / "cut", resume=True)
    assert state_digest(resumed) == state_digest(whole)
    assert genotype_of(resumed) == genotype_of(whole)
    assert ["upper_loss" in entry for entry in open_run(tmp_path / "cut").history] == [True, True, True, False]


def test_levels_split_the_parameters_and_weights_alone_are_clipped() -> None:
    task = deploykit.make_task("digits")
    method = deploykit.make_method(NAME, {"warm_up": 0.2, "settle_at": 0.5, "epochs": 7, "held_back": 0.25})
    soft = method.build(task)
    plan = method.plan(soft, task)
    assert plan.upper is not None
    above, below = (
        {id(item) for group in optimizer.param_groups for item in group["params"]}
        for optimizer in (plan.upper.optimizer, plan.optimizer)
    )
    assert above == {id(choice.alpha) for choice in choices(soft).values()}
    assert above | below == {id(item) for item in soft.parameters()}
    assert [plan.upper.active(progress) for progress in (0.1, 0.2, 0.5, 0.51)] == [False, True, True, False]
    assert plan.upper.samples(1347) == 337
    assert isinstance(plan.scheduler, torch.optim.lr_scheduler.CosineAnnealingLR)
    assert plan.scheduler.T_max == 7 * 8  # 1 010 samples, 128 a step
    assert method_of(soft) is method


@pytest.mark.slow
def test_two_processes_search_together(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("deploykit")
    done = subprocess.run(
        [str(command), "train", NAME, "--epochs", "4", "--channels", "2", "--operators", "skip,avg_3,sep_3",
         "--devices", "2", "--strategy", "ddp", "--out", "run"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    record = open_run(tmp_path / "run")
    assert record.finished
    assert "upper_loss" in record.history[0]
    assert record.history[-1]["loss"] < record.history[0]["loss"]
