"""Fast feed-forward with load balancing and a master leaf, as a method."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Final

import torch
from pydantic import Field
from torch import Tensor, nn

import deploykit
from deploykit import Decision, Decisions, HardForm, Lowering, Method, MethodConfig, Promise, Signature, Task, Tolerance
from deploykit.hard_form import DEFAULT_LOWERING
from deploykit.lifecycle import binding_of
from deploykit.signature import Arrays
from deploykit.training_plan import TrainingPlan
from deploykit_relaxations import geometric_schedule, multiply_accumulates
from deploykit_routed.feed_forward_blocks import check_run_once, feed_forward_blocks
from deploykit_routed.fff_layers import AllLeaves, FeedForwardTree, Mode
from deploykit_routed.fff_oracle import oracle_answers
from deploykit_routed.routed_feed_forward import NEVER, RoutedFeedForward

GATHERED: Final = "gathered"
_TOLERANCE: Final = Tolerance(absolute=1e-4, relative=1e-4)


class FastFeedForwardConfig(MethodConfig):
    """Settings of ``routed.fff``."""

    depth: int = Field(4, ge=0, le=12, description="levels of the tree; it has 2^depth leaves")
    leaf_width: int = Field(32, ge=1, description="hidden units of each leaf")
    master_width: int = Field(16, ge=0, description="hidden units of the master leaf, which sees all; 0 for none")
    mode: Mode = Field("straight-through", description="straight-through bits, annealed mixture, or plain soft mixture")
    balance: float = Field(1.0, ge=0, description="weight of the load balance among leaves")
    entropy: float = Field(0.0, ge=0, description="weight of the nodes' entropy; large values empty most leaves")
    temperature: float = Field(1.0, gt=0, description="of the nodes' sigmoids, in units of their scores")
    final_temperature: float = Field(0.02, gt=0, description="temperature at the end of training in mode 'anneal'")
    epochs: int = Field(60, ge=1, description="passes over the training data")
    rate: float = Field(3e-3, gt=0, description="AdamW's highest learning rate; it falls along half a cosine")
    grouped_from: int | None = Field(
        None, ge=1, description="rows from which on they are grouped by leaf; default: estimated from the leaves' size"
    )
    baseline: str = Field(
        "all-leaves", pattern="^(all-leaves|dense)$", description="compare with all leaves evaluated, or your own model"
    )


class FastFeedForward(Method[nn.Module]):
    """Every feed-forward block becomes a tree of small ones; a sample runs one of them and the master leaf.

    Blocks are ``Linear -> ReLU or GELU -> Linear`` side by side in an ``nn.Sequential``; leaves use ReLU as the paper
    does.

    In mode ``straight-through`` the soft form's answer is made of hard bits in training and in eval mode alike, only
    its gradient is soft; what is measured between it and the hard form is rounding, and the price of the relaxation
    shows in the soft form's own accuracy. In modes ``anneal`` and ``soft`` its answer is the mixture.

    Source: "Enhancing Fast Feed Forward Networks with Load Balancing and a Master Leaf Node", 2024. Straight-through
    bits and annealing are our additions: on digits the plain mixture falls from 0.985 to 0.876 when it is hardened
    after training, while both of these keep what they reach (0.981 and 0.974; means of three seeds). Both our forms
    send ties right, where the paper's training rounds half to even.
    """

    Config = FastFeedForwardConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        """Replace the feed-forward blocks."""
        blocks = feed_forward_blocks(model)
        settings: FastFeedForwardConfig = self.config
        for block in blocks:
            tree = FeedForwardTree(
                block.features_in, block.features_out, settings.depth, settings.leaf_width, settings.master_width,
                settings.mode,
            )  # fmt: skip
            tree.temperature.fill_(settings.temperature)
            block.replace(tree)
        check_run_once(model, blocks, example)
        return model

    def build(self, task: Task) -> nn.Module:
        """Prepare the task's ``mlp`` network."""
        return deploykit.prepare(task.network("mlp"), self, task.example(), signature=task.signature)

    def penalty(self, soft: nn.Module) -> Tensor:
        """Return weighted load balance and node entropy of the last training batch, summed over the trees."""
        total = super().penalty(soft)
        for tree in _layers(soft, FeedForwardTree).values():
            balance, entropy = tree.regularizers()
            total = total + self.config.balance * balance + self.config.entropy * entropy
        return total

    def on_step(self, soft: nn.Module, progress: float) -> None:
        """Cool down in mode ``anneal``."""
        if self.config.mode != "anneal":
            return
        temperature = geometric_schedule(progress, self.config.temperature, self.config.final_temperature)
        for tree in _layers(soft, FeedForwardTree).values():
            tree.temperature.fill_(temperature)

    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        """Return AdamW with a rate that falls to zero along half a cosine."""
        optimizer = torch.optim.AdamW(soft.parameters(), lr=self.config.rate, weight_decay=0.0)
        steps = self.config.epochs * math.ceil(len(task.samples("train")) / task.batch_size)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return TrainingPlan(optimizer, epochs=self.config.epochs, batch_size=task.batch_size, scheduler=scheduler)

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        """Replace each tree by a descent and one leaf; written with dispatch by batch size, and with gathering only."""
        trees = _layers(soft, FeedForwardTree)
        module = self._hardened(soft, {path: self._grouped_from(tree) for path, tree in trees.items()})
        gathered = self._hardened(soft, dict.fromkeys(trees, NEVER))
        used = self._leaves_used(module, inputs)
        return HardForm(
            module=module,
            promise=Promise(
                tolerance=_TOLERANCE,
                weight_bytes=_weight_bytes(module),
                weight_dtypes=("float32", "int64"),
                macs=_macs(gathered, inputs),
                absent=("kappa", "temperature"),
            ),
            lowerings={
                DEFAULT_LOWERING: Lowering(
                    translations="deploykit_routed.dispatch:translations",
                    targets=("onnxruntime",),
                    purpose="gathers weights for small batches, groups rows by leaf for large ones",
                ),
                GATHERED: Lowering(
                    module=gathered,
                    targets=("onnxruntime", "tensorrt"),
                    purpose="gathers weights for each row: fixed shapes, for engines and small batches",
                ),
            },
            facts={
                "leaves": ", ".join(f"{path}: {2**tree.depth} of depth {tree.depth}" for path, tree in trees.items()),
                "leaves used by the calibration samples": ", ".join(f"{path}: {used[path]}" for path in trees),
                "rows grouped from": ", ".join(f"{path}: {self._grouped_from(tree)}" for path, tree in trees.items()),
                "work": "promised MACs include depth x width for the node scores, which run as products and sums, not "
                "as matrix products, and so may be missing from what a runtime counts",
                "ties": "a score of exactly 0 goes right; runtimes may sum in other orders, so routes of samples whose "
                "margin is within rounding may differ, and their answers with them",
            },
        )

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return the leaf of every row in every tree, as ``leaf/PATH``, shaped as the tree's input without features.

        The soft form is asked for the leaf that counts most in its mixture. That is the hard descent's own leaf in
        mode ``straight-through`` and may be another one in the other modes: the difference is the relaxation's gap.
        Margins are in units of the node scores; the largest float32 for a tree of one leaf, which has no ties.
        """
        layers = _layers(form, (FeedForwardTree, RoutedFeedForward))
        seen: dict[str, Tensor] = {}
        handles = [layer.register_forward_pre_hook(_remember(seen, path)) for path, layer in layers.items()]
        try:
            with torch.no_grad():
                form(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        decisions = {}
        for path, layer in layers.items():
            x = seen[path]
            rows = x.reshape(-1, x.shape[-1])
            with torch.no_grad():
                leaf, margin = layer.favourite(rows) if isinstance(layer, FeedForwardTree) else layer.route(rows)
            margin = margin.clamp(max=torch.finfo(torch.float32).max)
            decisions[f"leaf/{path}"] = Decision(
                leaf.reshape(x.shape[:-1]).numpy(), margin.reshape(x.shape[:-1]).numpy()
            )
        return decisions

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> Arrays:
        """Descend row by row in numpy and float64."""
        return oracle_answers(soft, inputs, binding_of(soft).signature)

    def baseline(self, soft: nn.Module) -> nn.Module:
        """Return the trained model with all leaves evaluated, in the fastest way we know; or, if set so, your own.

        All leaves evaluated is what the trees cost before they are hardened, and what leaves of the same capacity
        cost without routing.
        """
        if self.config.baseline == "dense":
            return super().baseline(soft)
        return _exchanged(soft, lambda _, tree: AllLeaves(tree))

    def sharpness(self, soft: nn.Module) -> Tensor:
        """Return what the leaf that counts most counts in the mixture, mean over the example inputs and the trees.

        Straight-through mixtures are of one leaf, so theirs is 1.
        """
        trees = _layers(soft, FeedForwardTree)
        seen: dict[str, Tensor] = {}
        handles = [tree.register_forward_pre_hook(_remember(seen, path)) for path, tree in trees.items()]
        try:
            with torch.no_grad():
                soft(*binding_of(soft).example)
        finally:
            for handle in handles:
                handle.remove()
        with torch.no_grad():
            rows = {path: seen[path].reshape(-1, tree.features_in) for path, tree in trees.items()}
            tops = [tree.leaf_weights(tree.scores(rows[path])).amax(1).mean() for path, tree in trees.items()]
        return torch.stack(tops).mean()

    def _hardened(self, soft: nn.Module, grouped_from: dict[str, int]) -> nn.Module:
        return _exchanged(soft, lambda path, tree: RoutedFeedForward(tree, f"leaf/{path}", grouped_from[path]))

    def _grouped_from(self, tree: FeedForwardTree) -> int:
        if self.config.grouped_from is not None:
            return int(self.config.grouped_from)
        # Gathering costs by the weights it copies a row, grouping by the operators and weights of all leaves. Fitted
        # to crossings measured in ONNX Runtime on one AVX-512 thread, 4 to 64 leaves of 2 368 to 32 768 weights.
        weights: int = tree.leaf_width * (tree.features_in + tree.features_out)
        leaves: int = 2**tree.depth
        return math.ceil(leaves * (0.8 + 19000 / weights))

    def _leaves_used(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
        decisions = self.decisions(module, inputs)
        return {name.removeprefix("leaf/"): len(set(leaf.value.flat)) for name, leaf in decisions.items()}


def _layers(form: nn.Module, kind: Any) -> dict[str, Any]:
    return {path: module for path, module in form.named_modules() if isinstance(module, kind)}


def _remember(seen: dict[str, Tensor], path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def remember(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen[path] = arguments[0].detach()

    return remember


def _exchanged(soft: nn.Module, make: Callable[[str, FeedForwardTree], nn.Module]) -> nn.Module:
    """Return a frozen copy in eval mode with each tree replaced by ``make(path, tree)``."""
    twin = copy.deepcopy(soft)
    for path, tree in _layers(twin, FeedForwardTree).items():
        parent, _, name = path.rpartition(".")
        setattr(twin.get_submodule(parent), name, make(path, tree))
    return twin.eval().requires_grad_(False)


def _weight_bytes(module: nn.Module) -> int:
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    # Room for the constants of the graph: shapes, axes, and the numbers of the leaves.
    leaves: int = sum(2**layer.depth for layer in _layers(module, RoutedFeedForward).values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + 4096 + 16 * leaves


def _macs(gathered: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Count one sample's multiply-accumulates: products and convolutions by torch's counter, node scores here."""
    seen: dict[str, Tensor] = {}
    layers = _layers(gathered, RoutedFeedForward)
    handles = [layer.register_forward_pre_hook(_remember(seen, path)) for path, layer in layers.items()]
    try:
        counted = multiply_accumulates(gathered, inputs)
    finally:
        for handle in handles:
            handle.remove()
    descent: int = sum(layer.depth * seen[path].numel() for path, layer in layers.items())
    return counted + math.ceil(descent / inputs[0].shape[0])
