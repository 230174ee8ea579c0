"""Method: the unit a plugin offers, from trainable form to hard form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from deploykit.cards import MethodCard
    from deploykit.decisions import Decisions
    from deploykit.hard_form import HardForm
    from deploykit.signature import Arrays, Signature
    from deploykit.task import Targets, Task
    from deploykit.training_plan import TrainingPlan

SoftT = TypeVar("SoftT", bound="nn.Module")


class MethodConfig(BaseModel):
    """Base of every method's settings: fields with a description become command-line flags."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Method(ABC, Generic[SoftT]):
    """A paper's technique.

    Subclasses set ``Config`` and implement :meth:`prepare` (or :meth:`build`), :meth:`harden`, :meth:`decisions` and
    :meth:`oracle`. An instance holds one configuration and no other state, so it may be shared.

    ``inputs`` is everywhere a tuple of tensors in the order of the signature's inputs.

    Attributes:
        card: set by the registry; name, summary, paper.
        config: the validated settings.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    card: MethodCard

    def __init__(self, config: MethodConfig | None = None) -> None:
        self.config: Any = self.Config() if config is None else config

    @abstractmethod
    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> SoftT:
        """Turn the user's own model into its trainable soft form.

        The frame passes a deep copy, so the model may be taken apart and edited in place.

        Args:
            signature: names, dtypes and ranges of the inputs; use its ranges for input quantisation.
            example: inputs of at least two samples, to trace shapes with.

        Raises:
            ContractError or ConfigError: the model has nothing the method can work on; say what was looked for.
        """

    def build(self, task: Task) -> SoftT:
        """Make the soft form for a task; the default prepares the task's own network."""
        return self.prepare(task.network(), task.signature, task.example())

    def penalty(self, soft: SoftT) -> Tensor:
        """Return the scalar that is added to the task loss; the default is zero."""
        import torch

        parameter = next(soft.parameters(), None)
        return torch.zeros((), device=None if parameter is None else parameter.device)

    def loss(self, soft: SoftT, inputs: tuple[Tensor, ...], targets: Targets, task: Task) -> Tensor:
        """Return the scalar that training minimises: by default the task's loss plus :meth:`penalty`."""
        from deploykit.outputs import named_outputs

        return task.loss(named_outputs(soft(*inputs), task.signature), targets) + self.penalty(soft)

    def on_step(self, soft: SoftT, progress: float) -> None:
        """Anneal; called before every optimiser step.

        Args:
            progress: share of training that is done, from 0 (first step) to 1 (last step).
        """

    def plan(self, soft: SoftT, task: Task) -> TrainingPlan:
        """Return optimiser, schedule, epochs and batch size; the default is AdamW at 1e-3 for the task's epochs."""
        from deploykit.training_plan import TrainingPlan

        return TrainingPlan.default(soft, epochs=task.epochs, batch_size=task.batch_size)

    @abstractmethod
    def harden(self, soft: SoftT, inputs: tuple[Tensor, ...]) -> HardForm:
        """Take the decisions and return the hard form: a new value that shares no tensor with ``soft``.

        ``soft`` is in eval mode, gradients are off and must stay as they were: the frame checks that nothing in it
        changed, that nothing is shared, that the result is deterministic and keeps the signature.

        Args:
            inputs: calibration samples.
        """

    @abstractmethod
    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return the choices a form takes on a batch; asked of the soft form and of the hard form's module."""

    @abstractmethod
    def oracle(self, soft: SoftT, inputs: tuple[Tensor, ...]) -> Arrays:
        """Compute what the hard form must answer, slowly and obviously, in numpy, from the soft form's parameters.

        Returns:
            arrays by the names of the signature's outputs.
        """

    def baseline(self, soft: SoftT) -> nn.Module:
        """Return the float model that the hard form replaces, for size and speed comparisons.

        The default is the user's own model where :meth:`prepare` was given one, else the soft form.
        """
        from deploykit.lifecycle import binding_of

        network = binding_of(soft).network
        return soft if network is None else network

    def sharpness(self, soft: SoftT) -> torch.Tensor | None:
        """Return how decided the soft form is, from 0 to 1, or ``None`` if that has no meaning here."""
        return None
