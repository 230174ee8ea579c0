"""Monotonic differentiable sorting networks, as a method."""

from __future__ import annotations

import copy
import math
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from deploykit import Decision, Decisions, HardForm, Lowering, Method, MethodConfig, Promise, Signature, Task, Tolerance
from deploykit.errors import ConfigError, ContractError
from deploykit.hard_form import DEFAULT_LOWERING
from deploykit.lifecycle import binding_of
from deploykit.signature import Arrays
from deploykit.task import Targets
from deploykit.training_plan import TrainingPlan
from deploykit.trial_runs import in_eval_mode
from deploykit_relaxations import multiply_accumulates
from deploykit_relaxations.sorting_networks import NetworkKind, SwapKind, network_layers
from deploykit_sorted.item_order import ORDER, HardOrder, SoftOrder, translations
from deploykit_sorted.order_oracle import counted_places

_CLAMP: Final = 1e-6
_SLACK: Final = 4096  # shapes and axes that the exporter stores beside the weights


class DifferentiableSortConfig(MethodConfig):
    """Settings of ``sorted.diffsort``."""

    network: NetworkKind = Field("odd-even", description="as many layers as items, or fewer that compare distant ones")
    swap: SwapKind = Field("cauchy", description="the soft swap's distribution; the last three kinds are monotonic")
    steepness: float = Field(10.0, gt=0, description="of the soft swaps, in 1 / units of the scores; the paper: 10")
    epochs: int = Field(15, ge=1, description="passes over the training data")
    rate: float = Field(3e-3, gt=0, description="AdamW's highest learning rate; it falls along half a cosine")


class DifferentiableSort(Method[SoftOrder]):
    """A network that scores items learns from their order alone; in production a real sort orders the scores.

    Takes any model that gives one score an item, float [batch, items]. The soft form answers with mean places, the hard
    form with places; the sorting network and its matrix P exist for training only.

    Source: Petersen et al. 2022, "Monotonic Differentiable Sorting Networks", ICLR. The decaying rate is ours, and so
    are mean places as the soft form's answer: the paper looks at P.
    """

    Config: ClassVar[type[MethodConfig]] = DifferentiableSortConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> SoftOrder:
        """Put a soft sorting network behind the model."""
        _check_scores(model, example)
        settings: DifferentiableSortConfig = self.config
        return SoftOrder(model, settings.network, settings.steepness, settings.swap)

    def loss(self, soft: SoftOrder, inputs: tuple[Tensor, ...], targets: Targets, task: Task) -> Tensor:
        """Return the binary cross-entropy between P and the true permutation, the mean over its entries.

        Targets: ``rank`` int64 [batch, items], the true place of each item. Tasks without it are trained with their
        own loss on the mean places.

        Raises:
            ConfigError: ``rank`` has another shape than the scores.
        """
        if "rank" not in targets:
            return super().loss(soft, inputs, targets, task)
        places = soft(*inputs)
        permutation = soft.last_permutation()
        rank = targets["rank"]
        if rank.shape != places.shape or rank.is_floating_point():
            raise ConfigError(
                f"sorted.diffsort: wanted targets 'rank' of whole numbers {list(places.shape)}, the place of each "
                f"item; got {rank.dtype} {list(rank.shape)}: targets and scores must count the same items"
            )
        wanted = F.one_hot(rank.long(), places.shape[1]).to(permutation.dtype)
        # Rounding may leave P outside of [0, 1], and steep swaps reach 0 where the logarithm has no gradient.
        return F.binary_cross_entropy(permutation.clamp(_CLAMP, 1 - _CLAMP), wanted) + self.penalty(soft)

    def plan(self, soft: SoftOrder, task: Task) -> TrainingPlan:
        """Return AdamW with a rate that falls to zero along half a cosine."""
        optimizer = torch.optim.AdamW(soft.parameters(), lr=self.config.rate, weight_decay=0.0)
        steps = self.config.epochs * math.ceil(len(task.samples("train")) / task.batch_size)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return TrainingPlan(optimizer, epochs=self.config.epochs, batch_size=task.batch_size, scheduler=scheduler)

    def harden(self, soft: SoftOrder, inputs: tuple[Tensor, ...]) -> HardForm:
        """Keep the scoring network and sort its scores for real."""
        module = HardOrder(copy.deepcopy(soft.scorer)).eval().requires_grad_(False)
        tensors = (*module.parameters(), *module.buffers())
        items = soft.scorer(*inputs).shape[1]
        layers = network_layers(items, soft.network)
        return HardForm(
            module=module,
            promise=Promise(
                # Places are whole numbers: equal, or wrong by one at least. So this also tells a soft sort that was
                # left: it has no tensors to look for, and its arctangents may be the scoring network's own.
                tolerance=Tolerance(),
                weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors) + _SLACK,
                macs=multiply_accumulates(module, inputs),
            ),
            lowerings={
                DEFAULT_LOWERING: Lowering(
                    translations=f"{translations.__module__}:{translations.__name__}",
                    purpose="scores and TopK over all items, twice: once to sort, once to invert the order",
                )
            },
            facts={
                "sorting network": f"dropped: {soft.network}, {len(layers)} layers and {sum(map(len, layers))} swaps "
                f"for {items} items",
                "work": f"promised for sets of {items} items",
                "ties": "of equal scores the first item comes first (TensorRT does not promise it); runtimes may sum "
                "in other orders, so places of items whose scores differ by rounding may be exchanged",
            },
        )

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return the item at each place as ``order``, int64 [batch, items].

        The soft form's is the largest entry in each column of P, which need not make a permutation; its margin is how
        much larger that entry is than the next, from 0 to 1. The hard form's margin is the smaller one of the gaps to
        the neighbouring places, in units of the scores.
        """
        with torch.no_grad():
            if isinstance(form, SoftOrder):
                best = form.permutation(*inputs).topk(2, dim=1)
                return {ORDER: _decision(best.indices[:, 0], best.values[:, 0] - best.values[:, 1])}
            if not isinstance(form, HardOrder):
                raise ContractError(f"sorted.diffsort: a {type(form).__name__} is none of its forms")
            scores, order = form.scored_order(*inputs)
            gaps = F.pad(scores.diff(dim=1), (1, 1), value=math.inf)
            return {ORDER: _decision(order, torch.minimum(gaps[:, 1:], gaps[:, :-1]))}

    def oracle(self, soft: SoftOrder, inputs: tuple[Tensor, ...]) -> Arrays:
        """Count for each item how many come before it, from the soft form's own scores.

        The scores are computed by a copy of the scoring network, in its own precision: hardening leaves them alone, and
        in another precision scores that differ by rounding would change places. So this proves the sort, its inversion
        and that the right weights were kept, but not what the layers of the scoring network compute.
        """
        binding = binding_of(soft)
        with torch.no_grad():
            scores = copy.deepcopy(soft.scorer).eval()(*inputs).numpy()
        (output,) = binding.signature.outputs
        return {output.name: counted_places(scores).astype(output.dtype)}

    def baseline(self, soft: SoftOrder) -> nn.Module:
        """Return the soft form, which gives the places before it is hardened; for a free number of items, your model.

        A sorting network is made for one number of items, so it cannot be written for a free one; what is compared then
        is what the sort adds to the scores.
        """
        items = binding_of(soft).signature.outputs[0].shape[1]
        return soft if isinstance(items, int) else super().baseline(soft)

    def sharpness(self, soft: SoftOrder) -> Tensor:
        """Return the largest entry of each column of P, the mean over places and example inputs."""
        with torch.no_grad():
            return soft.permutation(*binding_of(soft).example).amax(1).mean()


def _decision(value: Tensor, margin: Tensor) -> Decision:
    kept: NDArray[np.int64] = value.numpy()
    return Decision(kept, margin.numpy())


def _check_scores(model: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Check that a model gives one score an item.

    Raises:
        ContractError: it gives something else.
    """
    with torch.no_grad(), in_eval_mode(model):
        returned = model(*example)
    if isinstance(returned, Tensor):
        if returned.ndim == 2 and returned.is_floating_point() and returned.shape[1] >= 2:
            return
        got = f"{returned.dtype} {list(returned.shape)}".removeprefix("torch.")
    else:
        got = f"a {type(returned).__name__}"
    raise ContractError(
        f"sorted.diffsort: {type(model).__name__} must return one tensor of scores, float [batch, items] with two "
        f"items or more; got {got}: score every item of a set, and drop other outputs and a last dimension of 1"
    )
