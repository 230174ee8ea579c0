"""Trainable gates (TGL): learn which channels a network can do without, then take them out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from deploykit import FLOAT32, Decision, Decisions, HardForm, Method, MethodConfig, Promise, Signature, TrainingPlan
from deploykit.errors import ContractError
from deploykit.lifecycle import binding_of
from deploykit.signature import Arrays
from deploykit.task import Task
from deploykit_pruned.budget import Budget
from deploykit_pruned.channel_groups import ChannelGroup, channel_groups, remove_channels
from deploykit_pruned.gate_layers import KEPT, GatedNet, Gates, group_starts
from deploykit_pruned.gating_trial import gateable
from deploykit_pruned.layer_costs import BudgetKind, cost_terms, out_channels
from deploykit_relaxations import multiply_accumulates

_SMALL_CONSTANTS = 1024
"""Bytes that an exporter may add to the weights: the target shapes of reshapes and the like."""
_UNITS: dict[BudgetKind, str] = {"channels": "channels", "macs": "MACs", "params": "parameters"}


class GateConfig(MethodConfig):
    """Settings of ``pruned.gate``."""

    keep: float = Field(0.5, gt=0, le=1, description="share of the budget's unit that is kept, 1 keeps all")
    budget: BudgetKind = Field("channels", description="what keep counts: gated channels, MACs or parameters")
    strength: float = Field(5.0, ge=0, description="lambda of the penalty on missing the budget")
    settle_at: float = Field(
        0.6, ge=0, le=1, description="progress at which the kept set is fixed; the rest of training fine-tunes it"
    )
    initial: float = Field(0.05, gt=0, description="every gate's first value; slightly open")
    slope: float = Field(1.0, gt=0, description="derivative of a gate")
    sawtooth: float = Field(1e5, gt=0, description="teeth per unit of the sawtooth that carries the derivative")
    rate: float = Field(3e-3, gt=0, description="learning rate of the weights")
    gate_rate: float = Field(1e-2, gt=0, description="learning rate of the gates")


class TrainableGate(Method[GatedNet]):
    """Plug-in trainable gates on any network with coupled convolutions and linear layers.

    Source: Kim et al. 2020 (arXiv 1904.10921): gate function, first values, quadratic penalty on the share kept.

    Ours, where the paper is silent or we measured otherwise:

    - A gate stands at every *reader* of a channel instead of behind its producer. For a chain this is the same; behind
      a batch norm, a sigmoid or a residual sum only this is the same as removing the channel, whatever constant
      would be left of it. Coupled channels (residual sums, grouped and depthwise convolutions) share one gate.
    - The penalty alone misses the budget. The budget's set is therefore chosen from the gates' order
      (:meth:`Budget.choose`, ties by index) at ``settle_at``, the gates are shifted so that they say just that and
      frozen, and training goes on. Before that, the soft form in eval mode shows the gates as they stand (``w > 0``),
      which is *not* yet the budget's set; :meth:`decisions` and :meth:`harden` always tell the budget's.
    """

    Config = GateConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> GatedNet:
        """Put gates into the model.

        Raises:
            ContractError: the model cannot be traced, no channel can be removed, or ``keep`` leaves less than one
                channel a group.
        """
        mode = model.training
        probe = copy.deepcopy(model).eval().requires_grad_(True)
        try:
            found, left = channel_groups(probe, example)
        except Exception as error:
            # Torch-Pruning reads autograd's graph and fails in many ways where there is none (an argmax at the end).
            raise ContractError(
                f"pruned.gate: cannot trace which channels of {type(model).__name__} depend on each other: "
                f"{type(error).__name__}: {error}. Its outputs must be differentiable tensors"
            ) from error
        found, clashes = _without_clashes(found)
        groups, mixed = gateable(model, example, found)
        left = left | clashes | mixed
        if not groups:
            reasons = "; ".join(f"{name or 'the model itself'}: {reason}" for name, reason in left.items())
            reasons = reasons or "no such layer on a differentiable path to an output"
            raise ContractError(
                f"pruned.gate: {type(model).__name__} has no channels to prune. Wanted a convolution or linear layer "
                f"whose outputs only other such layers read. Found: {reasons}"
            )
        config = self.config
        width = group_starts(groups)[-1]
        terms = cost_terms(config.budget, probe, example, groups)
        budget = Budget(terms, width, config.keep, _UNITS[config.budget])
        gates = Gates(width, config.initial, config.slope, config.sawtooth).to(example[0].device)
        soft = GatedNet(model, gates, tuple(groups), budget, left)
        soft.chosen()  # speaks now, not after training, if the budget cannot be met
        return soft.train(mode)

    def penalty(self, soft: GatedNet) -> Tensor:
        """Return ``strength * (share - keep) ** 2``, with the share of the budget's unit that the gates let through."""
        penalty: Tensor = self.config.strength * (soft.budget.share(soft.gates()) - self.config.keep) ** 2
        return penalty

    def on_step(self, soft: GatedNet, progress: float) -> None:
        """Fix the kept set once ``progress`` reaches ``settle_at``; let go of it if training starts over."""
        settle = progress >= self.config.settle_at
        if settle and not soft.gates.settled:
            _settle(soft)
        soft.gates.settled.fill_(settle)
        soft.gates.weight.requires_grad_(not settle)
        if settle:
            soft.gates.weight.grad = None

    def plan(self, soft: GatedNet, task: Task) -> TrainingPlan:
        """Return AdamW without decay on the gates, which it would drift towards the threshold."""
        weights = [parameter for parameter in soft.parameters() if parameter is not soft.gates.weight]
        optimizer = torch.optim.AdamW(
            [
                {"params": weights, "lr": self.config.rate, "weight_decay": 1e-4},
                {"params": [soft.gates.weight], "lr": self.config.gate_rate, "weight_decay": 0.0},
            ]
        )
        return TrainingPlan(optimizer=optimizer, epochs=task.epochs, batch_size=task.batch_size)

    def harden(self, soft: GatedNet, inputs: tuple[Tensor, ...]) -> HardForm:
        """Return the network without the channels that the budget does not keep."""
        example = tuple(tensor.cpu() for tensor in binding_of(soft).example)
        network = soft.plain_network().cpu()
        before = multiply_accumulates(network, example)
        chosen = soft.chosen()
        kept = {group.name: _by_channel(group, units) for group, units in _grouped(soft, chosen)}
        removed = {name: np.flatnonzero(~channels).tolist() for name, channels in kept.items()}
        remove_channels(network, example, removed)
        network.eval().requires_grad_(False)
        widths = {name: f"{int(channels.sum())} of {len(channels)}" for name, channels in kept.items()}
        setattr(network, KEPT, {name: tuple(channels.tolist()) for name, channels in kept.items()})
        after = multiply_accumulates(network, example)
        tensors = [*network.parameters(), *network.buffers()]
        names = [name for name, _ in (*network.named_parameters(), *network.named_buffers())]
        promise = Promise(
            tolerance=FLOAT32,
            weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors) + _SMALL_CONSTANTS,
            macs=after,
            # A network may have gates of its own (squeeze and excitation), which stay.
            absent=() if any("gate" in name for name in names) else ("gate",),
        )
        facts = {
            "kept channels": f"{int(chosen.sum())} of {len(chosen)}",
            "kept by layer": ", ".join(f"{name} {width}" for name, width in widths.items()),
            "budget": f"{soft.budget.cost(chosen):.0f} of {soft.budget.total:.0f} {soft.budget.what}, "
            f"{soft.budget.limit:.0f} allowed",
            "MACs": f"{after} of {before} ({after / before:.1%})",
        }
        if not soft.gates.settled:
            # Trained without on_step: this is how far the penalty alone got, and where the gap comes from.
            facts["gates open before hardening"] = f"{int((soft.gates.weight > 0).sum())} of {len(chosen)}"
        if soft.left_alone:
            facts["not gated"] = "; ".join(f"{name}: {reason}" for name, reason in soft.left_alone.items())
        return HardForm(module=network, promise=promise, facts=facts)

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return for each producer which of its channels the budget keeps; the same for every batch.

        The soft form's margin is the distance of a gate from the middle between the worst kept and the best removed
        gate of the whole network. The hard form's answer is checked against its layers' widths.
        """
        kept: dict[str, tuple[bool, ...]] | None = getattr(form, KEPT, None)
        if kept is not None:
            for name, bits in kept.items():
                if (width := out_channels(form.get_submodule(name))) != sum(bits):
                    raise ContractError(f"pruned.gate: layer {name!r} has {width} channels, decided were {sum(bits)}")
            return {f"kept {name}": Decision(np.array(bits)) for name, bits in kept.items()}
        if not isinstance(form, GatedNet):
            raise ContractError(f"pruned.gate: wanted its own soft or hard form, got {type(form).__name__}")
        chosen = form.chosen()
        scores = form.gates.weight.detach().cpu().double().numpy()
        margins = np.abs(scores - _cut(scores, chosen))
        return {
            f"kept {group.name}": Decision(_by_channel(group, units), _by_channel(group, distances))
            for (group, units), (_, distances) in zip(_grouped(form, chosen), _grouped(form, margins), strict=True)
        }

    def oracle(self, soft: GatedNet, inputs: tuple[Tensor, ...]) -> Arrays:
        """Run the full-size network in numpy, float64, with the channels that are not kept set to zero.

        Raises:
            ContractError: the network holds an operator that the oracle does not know.
        """
        from deploykit_pruned.gate_oracle import masked_outputs

        return masked_outputs(soft, inputs, binding_of(soft).signature)

    def sharpness(self, soft: GatedNet) -> Tensor:
        """Return the share of gates that already stand as the budget's set wants them."""
        open_now = soft.gates.weight.detach().cpu() > 0
        return (open_now == torch.from_numpy(soft.chosen())).float().mean()


def _settle(soft: GatedNet) -> None:
    """Shift the gates so that exactly the budget's set is positive; their order stays but for clipped ties."""
    chosen = soft.chosen()
    weight = soft.gates.weight
    cut = _cut(weight.detach().cpu().double().numpy(), chosen)
    keep = torch.from_numpy(chosen).to(weight.device)
    with torch.no_grad():
        shifted = weight - cut
        weight.copy_(torch.where(keep, shifted.clamp(min=1e-4), shifted.clamp(max=-1e-4)))


def _cut(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    return 0.0 if chosen.all() else float((scores[chosen].min() + scores[~chosen].max()) / 2)


def _grouped(soft: GatedNet, row: NDArray[Any]) -> list[tuple[ChannelGroup, NDArray[Any]]]:
    starts = group_starts(soft.groups)
    return [(group, row[start : start + len(group.units)]) for group, start in zip(soft.groups, starts, strict=False)]


def _by_channel(group: ChannelGroup, units: NDArray[Any]) -> NDArray[Any]:
    channels = np.empty(group.width, dtype=units.dtype)
    for members, value in zip(group.units, units, strict=True):
        channels[list(members)] = value
    return channels


def _without_clashes(groups: list[ChannelGroup]) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Drop a group that claims channels of an earlier one: one channel cannot obey two gates."""
    good: list[ChannelGroup] = []
    clashes: dict[str, str] = {}
    owner: dict[tuple[str, str, int], str] = {}
    for group in groups:
        claims = [
            (kind, path, channel)
            for kind, layers in (("in", group.inputs), ("out", group.outputs))
            for path, links in layers.items()
            for channel, _ in links
        ]
        if taken := [owner[claim] for claim in claims if claim in owner]:
            clashes[group.name] = f"shares channels with {taken[0]!r} in part only"
            continue
        owner.update(dict.fromkeys(claims, group.name))
        good.append(group)
    return good, clashes
