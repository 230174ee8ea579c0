"""Task: data, network, loss and metric that a method can be trained and judged on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from deploykit.cards import TaskCard
    from deploykit.signature import Arrays, Signature

Split = Literal["train", "calibration", "test"]
Targets = Mapping[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples of a task as numpy arrays, the sample axis first in every array.

    Attributes:
        inputs: by the names of the signature's inputs.
        targets: whatever the task's loss and metric need, by name.
    """

    inputs: Mapping[str, NDArray[Any]]
    targets: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, index: slice | NDArray[Any]) -> Samples:
        """Return the samples at ``index``."""
        return Samples(
            inputs={name: array[index] for name, array in self.inputs.items()},
            targets={name: array[index] for name, array in self.targets.items()},
        )


class Task(ABC):
    """Data, network, loss and metric under one name.

    Attributes:
        card: set by the registry.
        metric_name: what :meth:`metric` measures; larger is better.
        epochs: sensible number of passes for a method that does not say otherwise.
        batch_size: sensible batch for a method that does not say otherwise.
        max_loss: how far the hard form's metric may fall below the soft form's before ``verify`` fails, in the
            metric's units.
    """

    card: TaskCard
    metric_name: ClassVar[str] = "accuracy"
    epochs: ClassVar[int] = 20
    batch_size: ClassVar[int] = 64
    max_loss: ClassVar[float] = 0.05

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What networks for this task take and give."""

    @abstractmethod
    def samples(self, split: Split) -> Samples:
        """Return a split, always the same samples in the same order; test samples are never in the others."""

    @abstractmethod
    def network(self, name: str = "") -> nn.Module:
        """Return a fresh float network for the task, randomly initialised.

        Args:
            name: which of the task's networks; empty means its default.

        Raises:
            UnknownNameError: the task has no network of that name.
        """

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Return the scalar training loss of a batch."""

    @abstractmethod
    def metric(self, outputs: Arrays, samples: Samples) -> float:
        """Return how good the outputs are for these samples; larger is better."""

    def random_inputs(self, random: np.random.Generator, sizes: Mapping[str, int]) -> Arrays:
        """Draw legal inputs that need not mean anything; the contract suites try every form and file with them.

        The default draws every number on its own, uniformly within the signature's ranges. Override it where more must
        hold than the signature says, such as edges that point at nodes which are there.

        Args:
            random: where chance comes from; the same state must give the same inputs.
            sizes: wanted sizes of the symbolic dimensions by name, the batch among them; where they cannot go
                together, return the nearest that can, with the batch as wanted.

        Raises:
            SignatureError: the signature cannot say what is legal; override this.
        """
        from deploykit.random_inputs import random_inputs

        return random_inputs(self.signature, random, sizes)

    def example(self, count: int = 2) -> tuple[Tensor, ...]:
        """Return the first training inputs as tensors in the signature's order."""
        import torch

        few = self.samples("train").take(slice(0, count))
        return tuple(torch.from_numpy(few.inputs[spec.name].copy()) for spec in self.signature.inputs)
