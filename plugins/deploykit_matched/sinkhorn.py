"""Matching by optimal transport: Sinkhorn with a dustbin in training, mutual best pairs in production.

Source: Sarlin et al., "SuperGlue: Learning Feature Matching with Graph Neural Networks", CVPR 2020, from its equations
only; Sinkhorn: Cuturi 2013. The published program's licence does not allow its use here, and none of it was read.
"""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from deploykit import Decision, Decisions, HardForm, Method, MethodConfig, Promise, Signature, Task, Tolerance
from deploykit.errors import ConfigError, ContractError
from deploykit.leftover_names import absent_names
from deploykit.lifecycle import binding_of
from deploykit.signature import BATCH, Arrays
from deploykit.task import Targets
from deploykit.training_plan import TrainingPlan
from deploykit_matched.keypoint_network import INPUTS, KeypointNetwork
from deploykit_matched.matchers import HardMatcher, MaskPlaces, SoftMatcher, matching_loss
from deploykit_matched.sinkhorn_oracle import matching_oracle
from deploykit_relaxations import multiply_accumulates
from deploykit_relaxations.sinkhorn import mutual_best, mutual_margin

_SLACK: int = 1 << 14  # shapes, axes and scalars that the exporter stores beside the weights


class SinkhornMatchingConfig(MethodConfig):
    """Settings of ``matched.sinkhorn``."""

    width: int = Field(64, ge=4, le=1024, description="features of a point; the paper: 256")
    layers: int = Field(3, ge=0, le=32, description="pairs of attention within and across images; the paper: 9")
    heads: int = Field(4, ge=1, description="attention heads; must divide the width")
    iterations: int = Field(20, ge=1, le=1000, description="Sinkhorn's iterations in training; the paper: 100")
    serving_iterations: int = Field(8, ge=1, le=1000, description="Sinkhorn's iterations in the hard form")
    threshold: float = Field(0.2, ge=0, lt=1, description="the plan at a match must be above this")
    dustbin: float = Field(1.0, description="score of having no partner, at the start")
    scale: float = Field(1.0, gt=0, description="what scores are multiplied with, at the start; trained")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of descriptors' entries left out in training")
    epochs: int = Field(12, ge=1, description="passes over the training data")
    rate: float = Field(2e-3, gt=0, description="AdamW's highest learning rate; it falls along half a cosine")


class SinkhornMatching(Method[SoftMatcher]):
    """Points of two images are matched by optimal transport with a dustbin; mutual best pairs above a threshold remain.

    Both forms answer with an assignment [batch, points of a, points of b] from 0 to 1. The soft form's is the
    transport plan without its dustbins. The hard form takes the decision in its graph, marked ``match``: the index in
    b for each point of a, or -1; its assignment holds the plan's value there and 0 everywhere else. The decoder
    ``mutual-matches`` makes the list of pairs on the host. It applies the same rule to any assignment, so it reads
    the soft form's and the float file's plans as well as the hard form's matching, which it leaves as it is; a higher
    threshold than the graph's can be set there, a lower one has no effect on the hard form.

    The hard form also runs fewer of Sinkhorn's iterations. A fixed number of them is no solution: how far row sums are
    off on the calibration samples is among the hard form's facts, and :mod:`deploykit_relaxations.sinkhorn` says why.

    Source: the module's. The mutual check and the threshold of 0.2 are the paper's; the trained scale of the scores is
    ours, for networks whose scores are cosines.
    """

    Config: ClassVar[type[MethodConfig]] = SinkhornMatchingConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> SoftMatcher:
        """Put a dustbin and Sinkhorn's iterations on a model that scores all pairs.

        Args:
            model: returns scores [batch, points of a, points of b], of any size and sign: similarities, not
                probabilities, of which a softmax would be taken twice. Its inputs ``valid_a`` and ``valid_b``, if there
                are any, say which points there are; without them all are.
        """
        with torch.no_grad():
            scores = copy.deepcopy(model).eval()(*example)
        if not isinstance(scores, Tensor) or scores.ndim != 3 or not scores.is_floating_point():
            got = type(scores).__name__
            if isinstance(scores, Tensor):
                got = f"{str(scores.dtype).removeprefix('torch.')}{list(scores.shape)}"
            raise ContractError(
                f"matched.sinkhorn: {type(model).__name__} must return one tensor of scores [batch, points of a, "
                f"points of b], got {got}; put your own comparison of the two sets of points at its end"
            )
        if len(signature.outputs) != 1 or len(signature.outputs[0].shape) != 3:
            got = ", ".join(spec.text() for spec in signature.outputs)
            raise ContractError(
                f"matched.sinkhorn: the signature must have one output [{BATCH}, points of a, points of b], got {got}"
            )
        places = MaskPlaces(*(_mask_place(signature, example, scores, axis) for axis in (1, 2)))
        config: SinkhornMatchingConfig = self.config
        return SoftMatcher(model, places, config.iterations, config.dustbin, config.scale)

    def build(self, task: Task) -> SoftMatcher:
        """Make the keypoint network for a task and put the same on it."""
        config: SinkhornMatchingConfig = self.config
        if config.width % config.heads:
            raise ConfigError(f"matched.sinkhorn: width {config.width} must be a multiple of heads {config.heads}")
        names = tuple(spec.name for spec in task.signature.inputs)
        if names != INPUTS:
            raise ConfigError(
                f"matched.sinkhorn: the task's inputs must be {', '.join(INPUTS)}, got {', '.join(names)}; train on "
                "the task 'point-pairs', or prepare() a model of your own"
            )
        example = task.example()
        network = KeypointNetwork(example[1].shape[2], config.width, config.layers, config.heads, config.dropout)
        return self.prepare(network, task.signature, example)

    def loss(self, soft: SoftMatcher, inputs: tuple[Tensor, ...], targets: Targets, task: Task) -> Tensor:
        """Return minus the mean logarithm of the plan at true pairs and, for points without partner, at the dustbin.

        Raises:
            ConfigError: the task does not say who belongs together.
        """
        if not {"partner_a", "partner_b"} <= set(targets):
            raise ConfigError(
                "matched.sinkhorn: the task must give targets 'partner_a' [batch, points_a] and 'partner_b' [batch, "
                f"points_b], got {sorted(targets)}; train on the task 'point-pairs' or one with the same targets"
            )
        return matching_loss(soft.log_plan(*inputs), targets["partner_a"], targets["partner_b"])

    def plan(self, soft: SoftMatcher, task: Task) -> TrainingPlan:
        """Return AdamW with a rate that falls to zero along half a cosine."""
        optimizer = torch.optim.AdamW(soft.parameters(), lr=self.config.rate, weight_decay=0.0)
        steps = self.config.epochs * math.ceil(len(task.samples("train")) / task.batch_size)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return TrainingPlan(optimizer, self.config.epochs, task.batch_size, scheduler, clip_norm=5.0)

    def harden(self, soft: SoftMatcher, inputs: tuple[Tensor, ...]) -> HardForm:
        """Take mutual best pairs above the threshold, after fewer iterations."""
        config: SinkhornMatchingConfig = self.config
        module = HardMatcher(soft, config.serving_iterations, config.threshold).eval().requires_grad_(False)
        (output,) = binding_of(soft).signature.outputs
        return HardForm(
            module=module,
            promise=Promise(
                # Iterations add up the rounding of sums that runtimes take in orders of their own.
                tolerance=Tolerance(absolute=1e-4, relative=1e-4),
                # An exporter may write the weights of a network of the user's own once for each use: nothing is
                # promised of those.
                weight_bytes=_stored_bytes(module) + _SLACK if isinstance(soft.scorer, KeypointNetwork) else None,
                weight_dtypes=("float32",),
                macs=multiply_accumulates(module, inputs),
                absent=absent_names(soft, "log_scale"),
            ),
            decoder="mutual-matches",
            decoder_config={"threshold": config.threshold, "output": output.name},
            facts=self._facts(soft, module, inputs),
        )

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return each form's own ``match`` [batch, points of a]: the index in b, or -1.

        Both take it by the same rule, from plans after different numbers of iterations. Margins are in units of the
        plan.
        """
        with torch.no_grad():
            plan = form.plan(*inputs) if isinstance(form, HardMatcher) else form(*inputs)
            match = mutual_best(plan, self.config.threshold)
            margin = mutual_margin(plan, self.config.threshold)
        return {"match": Decision(match.numpy(), margin.numpy())}

    def oracle(self, soft: SoftMatcher, inputs: tuple[Tensor, ...]) -> Arrays:
        """Score, transport and match in numpy and float64, point by point."""
        (output,) = binding_of(soft).signature.outputs
        return {output.name: matching_oracle(soft, inputs, self.config.serving_iterations, self.config.threshold)}

    def baseline(self, soft: SoftMatcher) -> nn.Module:
        """Return the trained network with all of training's iterations; it answers with the plan."""
        return copy.deepcopy(soft).eval()

    def sharpness(self, soft: SoftMatcher) -> Tensor:
        """Return what the largest share of a point's mass is, dustbin included, mean over the example's points."""
        example = binding_of(soft).example
        with torch.no_grad():
            _, log_masses, _ = soft.problem(*example)
            there = log_masses[:, :-1] == 0.0
            largest = soft.log_plan(*example).exp()[:, :-1].amax(2)
            return largest[there].mean() if there.any() else largest.new_zeros(())

    def _facts(self, soft: SoftMatcher, module: HardMatcher, inputs: tuple[Tensor, ...]) -> dict[str, str]:
        config: SinkhornMatchingConfig = self.config
        counts = (config.iterations, config.serving_iterations)
        off = {count: _masses_off(soft, inputs, count) for count in counts}
        expected = soft(*inputs).sum((1, 2)).mean().item()
        found = (mutual_best(module.plan(*inputs), config.threshold) >= 0).sum(1).float().mean().item()
        return {
            "iterations": f"{config.serving_iterations} instead of {config.iterations}",
            "masses off": ", ".join(f"{error:.1%} after {count} iterations" for count, error in off.items())
            + " (mean over the points of a of the calibration samples; a fixed number need not converge)",
            "matches": f"{found:.1f} a sample; the plan's mass between points is {expected:.1f}",
            "work": "promised for as many points as the calibration samples have slots; more points cost more",
            "ties": "of equal values the lowest index wins; runtimes may sum in other orders, so matches whose margin "
            "is within rounding may differ",
        }


def _masses_off(soft: SoftMatcher, inputs: tuple[Tensor, ...], iterations: int) -> float:
    """Return by how much the mass of a point of a, which should be 1, is off; the points of b are scaled last."""
    _, log_rows, _ = soft.problem(*inputs)
    error = (soft.log_plan(*inputs, iterations=iterations).exp().sum(2) - log_rows.exp()).abs()[:, :-1]
    return float(error.sum() / log_rows[:, :-1].exp().sum().clamp(min=1))


def _mask_place(signature: Signature, example: tuple[Tensor, ...], scores: Tensor, axis: int) -> int | None:
    name = "valid_a" if axis == 1 else "valid_b"
    names = [spec.name for spec in signature.inputs]
    if name not in names:
        return None
    place = names.index(name)
    wanted = (scores.shape[0], scores.shape[axis])
    if tuple(example[place].shape) != wanted:
        raise ContractError(
            f"matched.sinkhorn: input {name!r} says which points there are, so for scores {list(scores.shape)} it must "
            f"be {list(wanted)}, got {list(example[place].shape)}"
        )
    return place


def _stored_bytes(module: nn.Module) -> int:
    tensors: list[Any] = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
