"""Differentiable architecture search (DARTS), as a method."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

import deploykit
from deploykit import Decisions, HardForm, Method, MethodConfig, Promise, Signature, Task, Tolerance
from deploykit.errors import ConfigError, ContractError
from deploykit.leftover_names import absent_names
from deploykit.lifecycle import binding_of
from deploykit.signature import BATCH, Arrays
from deploykit.training_plan import TrainingPlan, UpperLevel
from deploykit_relaxations import geometric_schedule, multiply_accumulates
from deploykit_searched.cells import CellNetwork
from deploykit_searched.choices import Choice
from deploykit_searched.convolution_choices import check_runs, with_choices
from deploykit_searched.darts_oracle import oracle_answers
from deploykit_searched.derivation import derive, merge_batch_norms, undecided
from deploykit_searched.genotype import genotype_of
from deploykit_searched.hard_choices import mixed_decisions, remember_choices, remembered_decisions
from deploykit_searched.layer_exchange import layers
from deploykit_searched.operators import NONE, OPERATORS

_TOLERANCE: Final = Tolerance(absolute=1e-4, relative=1e-4)
_SMALL_CONSTANTS: Final = 1024
"""Bytes that an exporter may add to the weights: axes and shapes."""
_CELL_OPERATORS: Final = ("none", "skip", "max_3", "avg_3", "sep_3", "dil_3")
_LAYER_OPERATORS: Final = ("skip", "max_3", "avg_3", "conv_3", "sep_3", "sep_5", "dil_3")


class DartsConfig(MethodConfig):
    """Settings of ``searched.darts``."""

    operators: str = Field(
        "", description=f"candidates, separated by commas, out of {', '.join(OPERATORS)}; by default a few of them"
    )
    channels: int = Field(8, ge=1, description="channels of the first cells; for the built network")
    cells: int = Field(2, ge=1, le=20, description="cells of the built network")
    nodes: int = Field(2, ge=1, le=8, description="nodes of a cell of the built network")
    settle_at: float = Field(
        0.6, gt=0, le=1, description="progress after which only what was chosen is trained; 1 searches to the end"
    )
    temperature: float = Field(1.0, gt=0, description="of the mixtures' softmax, at the start; the paper's is 1")
    final_temperature: float = Field(0.1, gt=0, description="temperature when the search ends")
    held_back: float = Field(
        0.5, gt=0, lt=1, description="share of training samples that the architecture is judged on"
    )
    warm_up: float = Field(0.1, ge=0, lt=1, description="progress before which only weights are trained")
    epochs: int = Field(60, ge=1, description="passes over the training samples that are not held back")
    batch_size: int = Field(128, ge=2, description="samples a step, of either level")
    rate: float = Field(0.1, gt=0, description="SGD's learning rate for the weights; it falls along half a cosine")
    decay: float = Field(3e-4, ge=0, description="weight decay of the weights")
    arch_rate: float = Field(1e-2, gt=0, description="Adam's learning rate for the architecture")
    arch_decay: float = Field(1e-3, ge=0, description="weight decay of the architecture's parameters")
    baseline: Literal["auto", "undecided", "network"] = Field(
        "auto",
        description="compare with all candidates evaluated, or with your own network; auto: your own where it had no "
        "choices",
    )

    @field_validator("operators")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if unknown := [name for name in names if name not in OPERATORS]:
            raise ValueError(f"no operator {unknown[0]!r}; there are {', '.join(OPERATORS)}")
        if names and (len(set(names)) != len(names) or set(names) == {NONE}):
            raise ValueError(f"wanted different operators and one besides {NONE!r}")
        return ",".join(names)

    def candidates(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """Return the operators to offer."""
        return tuple(self.operators.split(",")) if self.operators else default


class Darts(Method[nn.Module]):
    """A supernet mixes candidate operators; the hard form holds the chosen ones with the supernet's own weights.

    ``prepare`` takes :class:`~deploykit_searched.choices.Choice` and :class:`~deploykit_searched.cells.SearchCell`
    layers where your model has some; else every 3x3 convolution of stride 1 becomes a choice. ``build`` makes a network
    of cells for a task of one image in and one row of scores out.

    Two-level training: weights and architecture learn from different samples, first order, alphas by Adam with
    betas (0.5, 0.999), weights by SGD with momentum 0.9 and gradients clipped at 5.

    Source: Liu et al. 2019, "DARTS: Differentiable Architecture Search", sections 2.1 to 2.4, first-order variant. The
    hard form is *not* the paper's evaluation network, which is trained anew: that is
    ``deploykit_searched.derive(soft, "fresh")``.

    Ours, because the chosen operators alone answer otherwise than the mixture they were trained in:

    - the temperature falls from ``temperature`` to ``final_temperature`` while searching,
    - after ``settle_at`` the choices are fixed, and what was chosen goes on learning without the rest.

    ``settle_at=1`` and ``final_temperature=1`` give the paper's search. On digits with seed 0 and the other settings as
    they are, ``discretization_gap`` gave for supernet, one-hot network, and the same with new batch statistics:
    0.991, 0.216, 0.369 for the paper's search; 0.942, 0.740, 0.849 with ``settle_at=1`` and ``final_temperature=0.01``.
    By default the soft form is settled, and it and the hard form both have 0.991 (0.984 and 0.980 with seeds 1 and 2).

    Trained in a loop of your own with one optimiser for everything, weights and architecture learn from the same
    samples.
    """

    Config = DartsConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        """Find the model's choices, or make some."""
        searched = bool(layers(model, Choice))
        found = model if searched else with_choices(model, self.config.candidates(_LAYER_OPERATORS))
        check_runs(model, found, example)
        self.on_step(found, 0.0)
        return found

    def build(self, task: Task) -> nn.Module:
        """Make a network of cells.

        Raises:
            ConfigError: the task is not one of one image in and one row of scores out.
        """
        signature = task.signature
        images, scores = signature.inputs[0].shape, signature.outputs[0].shape
        fits = len(signature.inputs) == len(signature.outputs) == 1 and len(images) == 4 and len(scores) == 2
        if not fits or not isinstance(images[1], int) or not isinstance(scores[1], int) or images[0] != BATCH:
            given = ", ".join(spec.text() for spec in (*signature.inputs, *signature.outputs))
            raise ConfigError(
                "searched.darts builds networks for one image [batch, channels, height, width] in and one row of "
                f"scores [batch, classes] out; the task has {given}. Name a network of your own to search in"
            )
        network = CellNetwork(
            images[1], scores[1], channels=self.config.channels, cells=self.config.cells, nodes=self.config.nodes,
            operators=self.config.candidates(_CELL_OPERATORS),
        )  # fmt: skip
        return deploykit.prepare(network, self, task.example(), signature=signature)

    def on_step(self, soft: nn.Module, progress: float) -> None:
        """Cool the mixtures down; end the search once ``progress`` is past ``settle_at``, or take it up again."""
        searched = min(1.0, progress / self.config.settle_at)
        temperature = geometric_schedule(searched, self.config.temperature, self.config.final_temperature)
        for choice in layers(soft, Choice).values():
            choice.temperature.fill_(temperature)
            choice.settled.fill_(progress > self.config.settle_at)

    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        """Return SGD for the weights and Adam, on held-back samples, for the alphas."""
        config = self.config
        alphas = [choice.alpha for choice in layers(soft, Choice).values()]
        known = {id(alpha) for alpha in alphas}
        weights = [parameter for parameter in soft.parameters() if id(parameter) not in known]
        upper = UpperLevel(
            torch.optim.Adam(alphas, lr=config.arch_rate, betas=(0.5, 0.999), weight_decay=config.arch_decay),
            held_back=config.held_back,
            starts_at=min(config.warm_up, config.settle_at),
            stops_at=config.settle_at,
        )
        optimizer = torch.optim.SGD(weights, lr=config.rate, momentum=0.9, weight_decay=config.decay)
        total = len(task.samples("train"))
        steps = config.epochs * math.ceil((total - upper.samples(total)) / config.batch_size)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return TrainingPlan(optimizer, config.epochs, config.batch_size, scheduler, clip_norm=5.0, upper=upper)

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        """Derive the network with the supernet's weights, the batch norms of our operators merged."""
        genotype = genotype_of(soft)
        module = merge_batch_norms(derive(soft, "inherit", genotype=genotype)).eval().requires_grad_(False)
        remember_choices(module, soft)
        work, before = multiply_accumulates(module, inputs), multiply_accumulates(undecided(soft).eval(), inputs)
        kept = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
        facts = {
            "operators": ", ".join(f"{path or 'the model'}: {name}" for path, name in genotype.operators.items()),
            "genotype": genotype.to_json(),
            "MACs": f"{work} of {before} for all candidates ({work / max(1, before):.1%})",
        }
        if not all(bool(choice.settled) for choice in layers(soft, Choice).values()):
            facts["search"] = "not settled: the weights and batch statistics are those of the mixture"
        return HardForm(
            module=module,
            promise=Promise(
                tolerance=_TOLERANCE,
                weight_bytes=kept + _SMALL_CONSTANTS,
                macs=work,
                absent=absent_names(soft, "alpha"),
            ),
            facts=facts,
        )

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return what was chosen, the same for every batch.

        - ``operator/PATH``: the index of the chosen candidate; (1,) for a choice of your own model, (edges,) for a
          cell, where -1 stands for a dropped edge. The margin is the logarithm of how many times more the candidate
          weighs than the next, and for an edge not more than the margin of ``edge/PATH``.
        - ``edge/PATH``: (edges,), whether a cell keeps each edge, in the order of
          :func:`~deploykit_searched.cells.edge_number`. The margin is how far the edge's log-odds are from those of the
          nearest edge of the other fate.

        Margins go from 0 to infinity, which stands where there is nothing else to take. The hard form's decisions are
        read off what it is made of and have none.
        """
        return mixed_decisions(form) if layers(form, Choice) else remembered_decisions(form)

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> Arrays:
        """Decide and evaluate in numpy, number by number."""
        return oracle_answers(soft, inputs, binding_of(soft).signature)

    def baseline(self, soft: nn.Module) -> nn.Module:
        """Return your own network where it had no choices; else the supernet with all its candidates evaluated.

        That is what one would deploy without a derivation. A supernet trained on past ``settle_at`` is compared by size
        and speed only: the candidates that were not chosen have learnt nothing since.
        """
        network = binding_of(soft).network
        own = network is not None and not layers(network, Choice)
        wanted = self.config.baseline
        if wanted == "network" and not own:
            raise ContractError(
                "searched.darts: there is no network without choices to compare with; set baseline to 'undecided'"
            )
        return super().baseline(soft) if own and wanted != "undecided" else undecided(soft)

    def sharpness(self, soft: nn.Module) -> Tensor:
        """Return the largest weight of a mixture, mean over the choices; 1 once the search is settled."""
        with torch.no_grad():
            choices = layers(soft, Choice).values()
            tops = [torch.ones(()) if choice.settled else choice.weights().amax().cpu() for choice in choices]
        return torch.stack(tops).mean()
