"""Which training samples each level sees, and in which order: a function of seed, epoch and step alone.

Nothing is drawn from torch's global state, so that an interrupted run goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from deploykit.errors import TrainingError
from deploykit.task import Task
from deploykit.training_plan import TrainingPlan

Batch = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""Inputs in the signature's order, and targets by name."""
_FEWEST = 2  # batch statistics of one sample do not exist


class LevelSamples:
    """A task's training samples, split between the weights and the upper level of a plan.

    Args:
        rank: which process this is, of ``processes``; every process takes its own samples, and all the same number,
            because they wait for each other at every step.

    Attributes:
        steps: steps of the weights in an epoch.

    Raises:
        TrainingError: a level gets less than two samples a process.
    """

    def __init__(self, task: Task, plan: TrainingPlan, seed: int, rank: int, processes: int) -> None:
        samples = task.samples("train")
        # Copies: tasks may hand out arrays that are shared or read-only.
        self._inputs = tuple(torch.from_numpy(samples.inputs[spec.name].copy()) for spec in task.signature.inputs)
        self._targets = {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()}
        self._seed, self._rank, self._processes = seed, rank, processes
        total = len(samples)
        held = 0 if plan.upper is None else plan.upper.samples(total)
        self._lower, self._upper = torch.arange(total), torch.arange(0)
        if plan.upper is not None:
            mixed = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
            self._lower, self._upper = mixed[held:].sort().values, mixed[:held].sort().values
            for what, part in (("the weights", self._lower), ("the upper level", self._upper)):
                if len(part) // processes < _FEWEST:
                    raise TrainingError(
                        f"holding back a share of {plan.upper.held_back:g} of {total} training samples leaves "
                        f"{len(part)} for {what}; wanted at least {_FEWEST} for each of {processes} process(es): "
                        "change the plan's held_back or train on more samples"
                    )
        elif total // processes < _FEWEST:
            raise TrainingError(
                f"{total} training samples for {processes} process(es); wanted at least {_FEWEST} for each: train on "
                "more samples or on fewer devices"
            )
        self._batch_size = plan.batch_size
        share = len(self._lower) // processes
        # A last batch of one sample is left out, unless batches of one are what was asked for.
        alone = share % plan.batch_size == 1 and plan.batch_size > 1
        self._share = share - 1 if alone else share
        self.steps = -(-self._share // plan.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the weights' batches of an epoch: every sample of theirs once, the last batch may be smaller.

        A sample that would be a last batch of its own is left out; another one is in the next epoch.
        """
        mine = self._mine(self._lower, self._seed * 1_000_003 + epoch)
        for start in range(0, self._share, self._batch_size):
            yield self._take(mine[start : min(start + self._batch_size, self._share)])

    def held_back(self, epoch: int, step: int) -> Batch:
        """Return the upper level's batch for a step; its samples are gone through in turn, newly mixed each epoch."""
        # Another number than the weights' order of any epoch, or both levels would be mixed alike.
        mine = self._mine(self._upper, -1 - self._seed * 1_000_003 - epoch)
        size = min(self._batch_size, len(mine))
        return self._take(mine[(torch.arange(size) + step * size) % len(mine)])

    def _mine(self, part: Tensor, seed: int) -> Tensor:
        order = part[torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))]
        return order[self._rank :: self._processes][: len(part) // self._processes]

    def _take(self, index: Tensor) -> Batch:
        return tuple(column[index] for column in self._inputs), {name: t[index] for name, t in self._targets.items()}
