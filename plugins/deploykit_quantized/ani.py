"""Adaptive neural images: a picture as a sine network with weights of four bits (Hoshikawa, Conde et al. 2024)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import ClassVar, Final

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from deploykit import (
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
from deploykit.errors import ContractError
from deploykit.lifecycle import binding_of
from deploykit.signature import Arrays
from deploykit_quantized.ani_oracle import oracle_answers
from deploykit_quantized.block_layers import (
    BlockLinear,
    FakeQuantizedLinear,
    exchanged,
    hard_layers,
    put,
    soft_layers,
)
from deploykit_relaxations import multiply_accumulates

_LOWERINGS: Final = "deploykit_quantized.onnx_lowering"
_TOLERANCE: Final = Tolerance(absolute=1e-4, relative=1e-4)
_BYTES_A_MODULE: Final = 64


class AdaptiveNeuralImageConfig(MethodConfig):
    """Settings of ``quantized.ani``."""

    block: int = Field(32, ge=16, le=256, description="inputs of a layer that share a scale: 16, 32, 64, 128 or 256")
    quantize_from: float = Field(
        0.1, ge=0, le=1, description="share of training after which the weights are rounded; before it they are floats"
    )
    epochs: int | None = Field(None, ge=1, description="passes over the training data; by default what the task says")
    rate: float = Field(1e-3, gt=0, description="Adam's highest learning rate; it falls to zero along half a cosine")

    @field_validator("block")
    @classmethod
    def _power_of_two(cls, block: int) -> int:
        if block & (block - 1):
            raise ValueError(f"ONNX Runtime has blocks of 16, 32, 64, 128 and 256 inputs, got {block}")
        return block


class AdaptiveNeuralImage(Method[nn.Module]):
    """Linear layers get weights of four bits, with one float scale for each block of inputs of each output.

    Training computes with floats first and then with rounded weights, whose gradient goes straight through to the
    latent floats. The hard form keeps codes and scales only. A code is the weight over the block's scale, rounded half
    to even; a scale is the block's largest magnitude over 7. Layers with fewer inputs than a block - a neural image's
    first, which sees coordinates - and all biases stay float32.

    Works on any model with ``nn.Linear`` layers; meant for SIRENs (Sitzmann et al. 2020) that hold a picture.

    Source: Hoshikawa, Conde et al. 2024, "Extreme compression of adaptive neural images", arXiv 2405.16807, for
    four-bit neural images by quantisation-aware training. The quantiser, its blocks, the schedule and that a short last
    block is padded with zeros are ours. Left out: what makes the paper's images adaptive, one network that is cut to
    several widths or rates; convolutions; scales and biases in sixteen bits, because in operator set 21 the
    scales' dtype is the result's.

    Neither file lets ONNX Runtime quantise activations, which it does by default with the obvious writing of int4
    weights (see :mod:`deploykit_quantized.onnx_lowering`): measured on the photograph, that moves grey levels by up to
    0.022, against 5e-7 for float32 sums. At 32 dB it does not show in the PSNR, but such a file is no longer the hard
    form; a picture held at more than about 60 dB would suffer.

    Measured on the photograph with default settings, seed 0, PSNR over the whole picture in dB: 31.8 in the soft form,
    the hard form and both files, which hold 6 444 bytes of weights, 3.15 bits a pixel; 31.6 with seed 1. The same
    network trained with floats has 38.6 dB, and after rounding without training for it 25.3 in blocks, 19.9 with one
    scale a layer. Blocks of 16 reach 32.3. A JPEG of the same bytes has 44.3 dB: at this size JPEG is far better.
    """

    Config: ClassVar[type[MethodConfig]] = AdaptiveNeuralImageConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        """Put twins in place of the ``nn.Linear`` layers that have at least a block of inputs.

        Raises:
            ContractError: there is none, or one is not in float32.
        """
        block = self.config.block
        twins: dict[int, FakeQuantizedLinear] = {}
        for path, layer in list(model.named_modules(remove_duplicate=False)):
            # Subclasses stand for layers whose owner reads their weights and never calls them.
            if type(layer) is nn.Linear and layer.in_features >= block:
                if layer.weight.dtype != torch.float32:
                    raise ContractError(
                        f"quantized.ani: layer {path!r} is {str(layer.weight.dtype).removeprefix('torch.')}; latent "
                        "weights must be float32: convert model and example with .float()"
                    )
                put(model, path, twins.setdefault(id(layer), FakeQuantizedLinear(layer, path, block)))
        if not twins:
            widths = [layer.in_features for layer in model.modules() if type(layer) is nn.Linear]
            found = f"the widest of its {len(widths)} has {max(widths)}" if widths else "it has no Linear layer"
            raise ContractError(
                f"quantized.ani: {type(model).__name__} has no nn.Linear with at least {block} inputs, the size of a "
                f"block; {found}: choose a smaller block or a wider model"
            )
        return model

    def on_step(self, soft: nn.Module, progress: float) -> None:
        """Round the weights once their float phase is over."""
        for layer in soft_layers(soft):
            layer.quantizing.fill_(progress >= self.config.quantize_from)

    def plan(self, soft: nn.Module, task: Task) -> TrainingPlan:
        """Return Adam whose rate falls to zero along half a cosine, both phases together."""
        epochs = self.config.epochs or task.epochs
        optimizer = torch.optim.Adam(soft.parameters(), lr=self.config.rate)
        steps = epochs * math.ceil(len(task.samples("train")) / task.batch_size)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return TrainingPlan(optimizer, epochs=epochs, batch_size=task.batch_size, scheduler=scheduler)

    def harden(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> HardForm:
        """Round every layer's weights and keep codes and scales only, whether or not training had come to rounding."""
        module = exchanged(soft, BlockLinear)
        return HardForm(
            module=module,
            promise=Promise(
                tolerance=_TOLERANCE,
                weight_bytes=weight_bytes(module),
                weight_dtypes=("int4", "uint8"),
                small_initializer=_largest_float(module),
                macs=multiply_accumulates(copy.deepcopy(soft).eval(), inputs[:2]),
                absent=("quantizing",),
            ),
            lowerings={
                "qdq": Lowering(
                    translations=f"{_LOWERINGS}:qdq",
                    targets=("onnxruntime", "tensorrt"),
                    purpose="INT4 tensors behind DequantizeLinear in blocks: standard ONNX from operator set 21",
                ),
                "matmulnbits": Lowering(
                    translations=f"{_LOWERINGS}:matmulnbits",
                    targets=("onnxruntime",),
                    purpose="ONNX Runtime's own operator unpacks the codes in the matrix product; float32 sums",
                ),
            },
            facts=_facts(module),
        )

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return the codes of every layer as ``code/PATH``, (1, out, in); they are the same for all samples.

        Margins, in steps, are the soft form's distances from another code; the hard form's codes are integers.
        """
        taken = {
            f"code/{layer.path}": Decision(layer.codes()[0].numpy()[None], layer.margin().numpy()[None])
            for layer in soft_layers(form)
        }
        for hard in hard_layers(form):
            taken[f"code/{hard.path}"] = Decision(hard.codes.numpy()[None].copy())
        return taken

    def oracle(self, soft: nn.Module, inputs: tuple[Tensor, ...]) -> Arrays:
        """Round the latent weights and compute the layers in numpy and float64, one weight at a time."""
        return oracle_answers(soft, inputs, binding_of(soft).signature)

    def baseline(self, soft: nn.Module) -> nn.Module:
        """Return the trained model with its latent weights, as floats."""
        return exchanged(soft, FakeQuantizedLinear.plain)


def weight_bytes(hard: nn.Module) -> int:
    """Return an upper bound for the bytes of all constants of a file.

    Codes at half a byte in whole blocks, everything else as it is, and 64 bytes a module for constants of the graph.
    """
    layers = hard_layers(hard)
    own = {id(tensor) for layer in layers for tensor in layer.buffers()}
    others = [tensor for tensor in (*hard.parameters(), *hard.buffers()) if id(tensor) not in own]
    rest = sum(tensor.numel() * tensor.element_size() for tensor in others)
    return sum(layer.file_bytes for layer in layers) + rest + _BYTES_A_MODULE * len(list(hard.modules()))


def _largest_float(hard: nn.Module) -> int:
    tensors = [*hard.parameters(), *hard.buffers()]
    return max(tensor.numel() for tensor in tensors if tensor.is_floating_point())


def _facts(hard: nn.Module) -> Mapping[str, str]:
    layers = hard_layers(hard)
    coded = sum(layer.codes.numel() for layer in layers)
    floats = sum(tensor.numel() for tensor in (*hard.parameters(), *hard.buffers()) if tensor.is_floating_point())
    scales = sum(layer.scales.numel() for layer in layers)
    return {
        "weights of four bits": f"{coded:,} in {len(layers)} layers, {scales:,} scales of 32 bits",
        "other numbers of 32 bits": f"{floats - scales:,}",
        "bits a number": f"{8 * _stored_bytes(hard) / (coded + floats - scales):.2f}, scales included",
    }


def _stored_bytes(hard: nn.Module) -> int:
    return weight_bytes(hard) - _BYTES_A_MODULE * len(list(hard.modules()))
