"""Cooperative graph neural networks, as a method."""

from __future__ import annotations

import math
from typing import Final

import torch
from pydantic import Field
from torch import Tensor, nn

from deploykit import Decision, Decisions, HardForm, Lowering, Method, MethodConfig, Promise, Signature, Task, Tolerance
from deploykit.hard_form import DEFAULT_LOWERING
from deploykit.leftover_names import absent_names
from deploykit.lifecycle import binding_of
from deploykit.signature import Arrays
from deploykit.training_plan import TrainingPlan
from deploykit_graph.cogn_oracle import oracle_answers
from deploykit_graph.cooperative_layers import CooperativeConvolution, start_undecided
from deploykit_graph.decided_layers import DecidedConvolution
from deploykit_graph.graph_surgery import check_run_once, exchanged, frozen_copy, graph_convolutions, layers_of
from deploykit_graph.graph_surgery import seen_arguments as seen
from deploykit_relaxations.message_passing import Aggregation

ADJACENCY: Final = "adjacency"
_TOLERANCE: Final = Tolerance(absolute=1e-4, relative=1e-4)
_CONSTANTS: Final = 4096


class CooperativeGraphConfig(MethodConfig):
    """Settings of ``graph.cogn``."""

    action_width: int = Field(16, ge=1, description="hidden units of each action network")
    action_aggregation: Aggregation = Field("sum", description="what action networks hear; a mean hides the degree")
    temperature: float = Field(1.0, gt=0, description="of the Gumbel-softmax's gradient, in units of the logits")
    epochs: int | None = Field(None, ge=1, description="passes over the training data; the task's own by default")
    rate: float = Field(3e-3, gt=0, description="AdamW's highest learning rate; it falls along half a cosine")
    baseline: str = Field(
        "soft", pattern="^(soft|plain)$", description="compare with the form that was trained, or your own plain model"
    )


class CooperativeGraph(Method[nn.Module]):
    """In every layer each node chooses whether it listens and whether it broadcasts; other edges are closed.

    Works on models made of :class:`deploykit_relaxations.message_passing.GraphConvolution`; the conventions for
    features and edges stand there.

    Training samples the actions. In eval mode the soft form takes each node's more probable action without noise, as
    the hard form does, because half-open edges are something no layer was ever trained on. So what is measured
    between the two is rounding. The gap that sampling leaves is told beside it: the share of actions that a sample
    would take otherwise is a fact of the hard form, and 1 minus it is the sharpness.

    Source: Finkelshtein et al. 2024, "Cooperative Graph Neural Networks" (arXiv 2310.01267). Ours: taking the more
    probable action when answering (the authors' code samples then, too); action networks of their own for every
    layer, which start undecided; means over open edges only; a temperature of 1, where theirs is 0.01 or learned
    (``deploykit train graph.cogn --temperature 0.01`` ends at a mean absolute error of 0.11 on ``root-neighbours``,
    the default at 0.027). There is no cooling down, as actions are 0 or 1 at every temperature.
    """

    Config = CooperativeGraphConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        """Give every graph convolution two action networks, which start undecided on the example."""
        convolutions = graph_convolutions(model)
        check_run_once(model, convolutions, example)
        settings: CooperativeGraphConfig = self.config
        soft = exchanged(
            model,
            convolutions,
            lambda _, layer: CooperativeConvolution(
                layer, settings.action_width, settings.action_aggregation, settings.temperature
            ),
        )
        start_undecided(soft, example)
        return soft

    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        """Return AdamW with a rate that falls to zero along half a cosine."""
        epochs = self.config.epochs or task.epochs
        optimizer = torch.optim.AdamW(soft.parameters(), lr=self.config.rate, weight_decay=0.0)
        steps = epochs * math.ceil(len(task.samples("train")) / task.batch_size)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return TrainingPlan(optimizer, epochs=epochs, batch_size=task.batch_size, scheduler=scheduler)

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        """Replace sampling by comparison; written with rows added in place, and with products for TensorRT.

        No multiply-accumulates are promised: they grow with the number of nodes, which a signature leaves free.
        """
        module = _hardened(soft, by_adjacency=False)
        tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
        return HardForm(
            module=module,
            promise=Promise(
                tolerance=_TOLERANCE,
                weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors) + _CONSTANTS,
                weight_dtypes=("float32", "int64"),
                # An exporter stores weights of matrices anew, under names of its own, and biases as they are.
                absent=absent_names(soft, "listen.head.bias", "broadcast.head.bias"),
                # No Softmax: the model around the convolutions may have its own.
                forbidden_operators=("RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike"),
            ),
            lowerings={
                DEFAULT_LOWERING: Lowering(
                    targets=("onnxruntime",),
                    purpose="adds a row an edge: cost grows with the edges, for graphs of any size",
                ),
                ADJACENCY: Lowering(
                    module=_hardened(soft, by_adjacency=True),
                    targets=("onnxruntime", "tensorrt"),
                    purpose="products with the adjacency matrix, for engines, which cannot add rows; for small graphs",
                ),
            },
            facts=self._facts(soft, inputs),
        )

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return ``listen/PATH`` and ``broadcast/PATH``: (batch, nodes), true for yes, padding nodes included.

        Margins are the difference of an action's two logits. The soft form is asked for its more probable action.
        """
        layers: dict[str, CooperativeConvolution | DecidedConvolution] = {}
        layers |= layers_of(form, CooperativeConvolution)
        layers |= layers_of(form, DecidedConvolution)
        decisions = {}
        for path, arguments in seen(form, (CooperativeConvolution, DecidedConvolution), inputs).items():
            with torch.no_grad():
                scores = layers[path].scores(*arguments).unbind(2)
            for name, score in zip(_names(path), scores, strict=True):
                decisions[name] = Decision((score >= 0).numpy(), score.abs().numpy())
        return decisions

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> Arrays:
        """Answer graph by graph, node by node, neighbour by neighbour, in numpy and float64."""
        return oracle_answers(soft, inputs, binding_of(soft).signature)

    def baseline(self, soft: nn.Module) -> nn.Module:
        """Return the soft form, which is what the hard form replaces; or, if set so, your own model.

        Your own model does less work, as its nodes decide nothing, and answers worse, which no comparison of speed
        tells: on ``root-neighbours`` it runs at 1.6 to 1.9 times the hard form's speed, with 12 times its error.
        """
        return super().baseline(soft) if self.config.baseline == "plain" else soft

    def sharpness(self, soft: nn.Module) -> Tensor:
        """Return the probability of the more probable action, mean over nodes, layers and both actions."""
        return 1 - _doubt(self.decisions(soft, binding_of(soft).example))

    def _facts(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, str]:
        decisions = self.decisions(soft, inputs)
        edges = {path: arguments[1] for path, arguments in seen(soft, (CooperativeConvolution,), inputs).items()}
        shares = []
        for path, ends in edges.items():
            listen, broadcast = (torch.from_numpy(decisions[name].value) for name in _names(path))
            real = ((ends >= 0) & (ends < listen.shape[1])).all(2)
            source, target = (end.clamp(0, listen.shape[1] - 1) for end in ends.unbind(2))
            is_open = broadcast.gather(1, source) & listen.gather(1, target) & real
            shares.append(f"{path or 'the model'}: {int(is_open.sum())} of {int(real.sum())}")
        return {
            "open edges, on the calibration samples": ", ".join(shares),
            "actions that sampling would take otherwise": f"{_doubt(decisions):.2%}",
            "means": "are over open edges only; a node that hears nobody gets 0",
            "edges": "with an end outside the nodes are no edges; -1 -1 pads",
            "ties": "logits that are equal mean yes; near a tie runtimes may decide otherwise, and answers with them",
        }


def _hardened(soft: nn.Module, *, by_adjacency: bool) -> nn.Module:
    return frozen_copy(
        soft,
        CooperativeConvolution,
        lambda path, layer: DecidedConvolution(layer, _names(path), by_adjacency=by_adjacency),
    )


def _names(path: str) -> tuple[str, str]:
    return (f"listen/{path}", f"broadcast/{path}") if path else ("listen", "broadcast")


def _doubt(decisions: Decisions) -> Tensor:
    """Return the share of actions that a Gumbel sample takes otherwise: sigmoid(-margin), at every temperature."""
    margins = [torch.from_numpy(taken.margin).flatten() for taken in decisions.values() if taken.margin is not None]
    return torch.sigmoid(-torch.cat(margins)).mean()
