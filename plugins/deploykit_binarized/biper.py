"""BiPer: binary neural networks through a periodic function (Vargas et al., CVPR 2024, arXiv 2404.01278)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from deploykit import (
    FLOAT32,
    Decision,
    Decisions,
    HardForm,
    Lowering,
    Method,
    MethodConfig,
    Promise,
    Signature,
    Task,
    Tolerance,
    TrainingPlan,
)
from deploykit.lifecycle import binding_of
from deploykit.signature import Arrays
from deploykit_binarized.biper_folding import HardNet, hard_net
from deploykit_binarized.biper_layers import BinaryLayer, InputLayer, TwinLayer, binary_layers
from deploykit_binarized.biper_oracle import oracle_outputs
from deploykit_binarized.biper_surgery import SoftNet, soft_net
from deploykit_binarized.integer_layers import IntegerLayer
from deploykit_binarized.written_size import macs_of, weight_bytes_of

_LOWERINGS: Final = "deploykit_binarized.onnx_lowering"


class BiPerConfig(MethodConfig):
    """Settings of BiPer."""

    frequency: float = Field(20.0, gt=0, description="radians a unit of weight, the paper's omega")
    regulariser: float = Field(0.0, ge=0, description="weight of mean(sin^2(frequency w)), the paper's tau")
    second_stage: float = Field(
        0.5, ge=0, le=1, description="share of training after which weights are binary, not sines"
    )
    epochs: int = Field(30, ge=1, description="passes over the training data, both stages together")
    rate: float = Field(3e-3, gt=0, description="largest learning rate; falls to zero as a half cosine")


class BiPer(Method[SoftNet]):
    """Binary networks from the sign of a sine.

    The trainable form has real weights ``sin(frequency w)`` in a first stage and their signs in a second, with binary
    activations throughout; the hard form computes on integers alone.

    Where this differs from the paper: the first layer has eight-bit weights on inputs rounded to eight bits and the
    last one eight-bit weights on binary activations, where the paper keeps both in float32 - so the whole network is
    exact integer arithmetic. Rectifiers that feed a layer become ``Hardtanh``, as the paper's blocks have it: the sign
    of a rectified value would be constant. A sign is never zero. One run does both stages; the paper restarts.

    Measured on the digits task's ``conv`` network, two seeds, hard form's test accuracy: frequency 5: 0.978 and 0.980,
    10: 0.984 twice, 20 (the paper's, our default): 0.991 and 0.993, 40: 0.984 twice; the soft form's is the same.
    Without the second stage, frequency 20: soft 0.984, hard 0.920, hard with recomputed normalisations 0.982.
    """

    Config: ClassVar[type[MethodConfig]] = BiPerConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> SoftNet:
        """Put binary twins in place of the model's ``Conv2d`` and ``Linear`` layers.

        A layer on the model's inputs takes its range from the signature, else from the example.

        Raises:
            ContractError: the model cannot be traced, has fewer than two such layers in a row, or one of them cannot
                be replaced.
        """
        return soft_net(model, signature, example, self.config.frequency)

    def penalty(self, soft: SoftNet) -> Tensor:
        """Return the regulariser, summed over binary layers."""
        layers = binary_layers(soft)
        if not layers or self.config.regulariser == 0:
            return super().penalty(soft)
        weight: float = self.config.regulariser
        return weight * torch.stack([layer.regulariser() for layer in layers]).sum()

    def on_step(self, soft: SoftNet, progress: float) -> None:
        """Switch to binary weights once the first stage is over."""
        for layer in binary_layers(soft):
            layer.binary.fill_(progress >= self.config.second_stage)

    def plan(self, soft: SoftNet, task: Task) -> TrainingPlan:
        """Return Adam whose rate falls to zero as a half cosine."""
        optimizer = torch.optim.Adam(soft.parameters(), lr=self.config.rate)
        batch = task.batch_size
        steps = self.config.epochs * -(-len(task.samples("train")) // batch)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return TrainingPlan(optimizer=optimizer, epochs=self.config.epochs, batch_size=batch, scheduler=scheduler)

    def harden(self, soft: SoftNet, inputs: tuple[Tensor, ...]) -> HardForm:
        """Fold scales, biases, normalisations and signs into integer thresholds.

        A chain of layers, normalisations, activations that keep the sign, max pools and flattening becomes exact
        integer arithmetic, and the promise is equality bit for bit. Anything else (a residual addition, an average
        pool) is computed in float32 between exact integer layers; then the promise is ``FLOAT32``, for values away
        from the sign's jump, and facts name the float steps.
        """
        unsigned = hard_net(soft, unsigned_code=True)
        symmetric = hard_net(soft, unsigned_code=False)
        exact = not unsigned.float_steps
        promise = Promise(
            tolerance=Tolerance() if exact else FLOAT32,
            weight_bytes=weight_bytes_of(unsigned.module),
            weight_dtypes=("int8", "uint8"),
            macs=macs_of(unsigned.module, inputs) if exact else None,
            absent=("alpha", "running_mean", "running_var"),
            forbidden_operators=("Sin", "Cos"),
        )
        lowerings = {
            "qlinear": Lowering(
                translations=f"{_LOWERINGS}:qlinear",
                targets=("onnxruntime",),
                purpose="uint8 x int8 kernels; the fastest on CPUs",
            ),
            "qdq": Lowering(
                module=symmetric.module,
                translations=f"{_LOWERINGS}:qdq",
                targets=("onnxruntime", "tensorrt"),
                purpose="int8 weights behind DequantizeLinear; for TensorRT; float kernels, so no gain, on CPUs",
            ),
        }
        return HardForm(module=unsigned.module, promise=promise, lowerings=lowerings, facts=_facts(soft, unsigned))

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return the bits that every layer but the first ones takes, as ``bits/LAYER``."""
        taken: dict[str, Decision] = {}

        def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            assert isinstance(module, (TwinLayer, IntegerLayer))
            x: Tensor = arguments[0].detach()
            value = x > module.zero if isinstance(module, IntegerLayer) else x >= 0
            margin = None if isinstance(module, IntegerLayer) else x.abs().numpy().copy()
            name, calls = f"bits/{module.path}", 2
            while name in taken:
                name, calls = f"bits/{module.path}#{calls}", calls + 1
            taken[name] = Decision(value.numpy().copy(), margin)

        hooks = [module.register_forward_pre_hook(note) for module in form.modules() if _takes_bits(module)]
        try:
            with torch.no_grad():
                form(*inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return taken

    def oracle(self, soft: SoftNet, inputs: tuple[Tensor, ...]) -> Arrays:
        """Compute the network in numpy: integer sums by explicit windows, signs of real normalised values."""
        returned = oracle_outputs(soft, tuple(tensor.numpy() for tensor in inputs))
        names = [spec.name for spec in binding_of(soft).signature.outputs]
        return dict(zip(names, returned, strict=True))

    def sharpness(self, soft: SoftNet) -> Tensor | None:
        """Return the mean of ``|sin(frequency w)|`` over binary weights."""
        layers = binary_layers(soft)
        if not layers:
            return None
        return torch.cat([torch.sin(layer.frequency * layer.weight).abs().flatten() for layer in layers]).mean()


def _takes_bits(module: nn.Module) -> bool:
    if isinstance(module, IntegerLayer):
        return module.takes_bits
    return isinstance(module, TwinLayer) and not isinstance(module, InputLayer)


def _facts(soft: SoftNet, hard: HardNet) -> Mapping[str, str]:
    bits = sum(layer.weight.numel() for layer in soft.modules() if isinstance(layer, BinaryLayer))
    total = sum(layer.weight.numel() for layer in soft.modules() if isinstance(layer, TwinLayer))
    return {
        "weights of one bit": f"{bits:,} of {total:,}",
        "float steps": ", ".join(hard.float_steps) or "none: integers from input to output",
    }
