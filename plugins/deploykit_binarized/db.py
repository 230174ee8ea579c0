"""Differentiable binarization: a text detector trained through its own thresholding.

Source: Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020, arXiv 1911.08947.
Ours differs in the backbone (plain convolutions instead of a residual network with deformable ones), in the optimiser
and in the default shrink ratio, see :class:`DBConfig`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deploykit import Decision, Decisions, HardForm, Method, MethodConfig, Promise, Signature, Tolerance
from deploykit.errors import ConfigError, ContractError
from deploykit.signature import Arrays
from deploykit.training_plan import TrainingPlan
from deploykit_binarized.db_labels import LabelMaps, label_maps
from deploykit_binarized.db_losses import balanced_cross_entropy, band_distance, dice
from deploykit_binarized.db_network import (
    STRIDES,
    HardDetector,
    Head,
    Pyramid,
    SmallBackbone,
    SoftDetector,
    SteppedDetector,
    centred,
)
from deploykit_binarized.db_oracle import probability_oracle

if TYPE_CHECKING:
    from deploykit.task import Targets, Task

_SLACK: int = 1 << 14  # shapes, scales and axes that the exporter stores beside the weights


class DBConfig(MethodConfig):
    """Settings.

    The paper shrinks text by 0.4. A network that learns such labels well draws cores so thin that the decoder's
    growth by 1.5 does not bring the box back: a long line comes back with 0.4 of its height. With 0.6 a perfect map
    gives overlaps from 0.7 (squares) to 0.9 (long lines). Trained networks draw thicker cores than their labels, so
    they need less: 0.9 gives a mean overlap of 0.84 on calibration pages, 1.5 one of 0.67.

    Boxes are scored inside the outline of a region: the paper's mean over the rectangle throws away bent lines.
    """

    steepness: float = Field(50.0, gt=0, description="k of the approximate step sigmoid(k (P - T))")
    shrink_ratio: float = Field(0.6, gt=0, lt=1, description="how much text shrinks in the labels; the paper: 0.4")
    width: int = Field(64, ge=8, multiple_of=4, description="channels of the feature pyramid; the paper: 256")
    probability_weight: float = Field(5.0, ge=0, description="weight of the probability map's loss")
    binary_weight: float = Field(1.0, ge=0, description="weight of the approximate bitmap's loss")
    threshold_weight: float = Field(10.0, ge=0, description="weight of the threshold map's loss")
    threshold: float = Field(0.3, gt=0, lt=1, description="the hard form's fixed threshold on P")
    box_threshold: float = Field(0.6, ge=0, le=1, description="the decoder's least mean P inside an outline")
    unclip_ratio: float = Field(0.9, ge=0, description="the decoder's growth, area times this over perimeter")


class DB(Method[SoftDetector]):
    """Text detection whose threshold map is learnt beside the probability map and dropped afterwards."""

    Config: ClassVar[type[MethodConfig]] = DBConfig

    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> SoftDetector:
        """Put a pyramid and two heads on a backbone that returns maps at strides 4, 8, 16 and 32.

        Args:
            model: takes float32 [batch, 3, height, width] from -1 to 1.
        """
        wanted = "one image [batch, 3, height, width] in and one map [batch, 1, height, width] out"
        if len(signature.inputs) != 1 or len(signature.outputs) != 1 or len(signature.outputs[0].shape) != 4:
            got = ", ".join(spec.text() for spec in (*signature.inputs, *signature.outputs))
            raise ContractError(
                f"binarized.db: wanted a signature with {wanted}, got {got}; a backbone's own signature does not say "
                "what the detector gives: pass signature=deploykit.make_task('pages').signature"
            )
        channels = _channels(model, example[0])
        width = self.config.width
        return SoftDetector(model, Pyramid(channels, width), Head(width), Head(width), self.config.steepness)

    def build(self, task: Task) -> SoftDetector:
        """Put them on a backbone of plain convolutions."""
        return self.prepare(SmallBackbone(), task.signature, task.example())

    def loss(self, soft: SoftDetector, inputs: tuple[Tensor, ...], targets: Targets, task: Task) -> Tensor:
        """Return the weighted sum of the losses of P, of the approximate bitmap and of T.

        Raises:
            ConfigError: the task does not say where its lines are.
        """
        if not {"quads", "lines"} <= set(targets):
            raise ConfigError(
                f"binarized.db: the task must give targets 'quads' [batch, lines, 4, 2] and 'lines' [batch], "
                f"got {sorted(targets)}; train on the task 'pages' or one with the same targets"
            )
        height, width = inputs[0].shape[-2:]
        labels = self.labels(targets["quads"].numpy(), targets["lines"].numpy(), height, width)
        wanted, mask, threshold, band = (
            torch.from_numpy(part)[:, None]
            for part in (labels.probability, labels.mask, labels.threshold, labels.threshold_mask)
        )
        maps = soft.maps(inputs[0])
        config: DBConfig = self.config
        total: Tensor = (
            config.probability_weight * balanced_cross_entropy(maps.probability, wanted, mask)
            + config.binary_weight * dice(maps.binary, wanted, mask)
            + config.threshold_weight * band_distance(maps.threshold, threshold, band)
        )
        return total

    def labels(self, quads: NDArray[Any], lines: NDArray[Any], height: int, width: int) -> LabelMaps:
        """Draw the targets of a batch: quads [batch, rows, 4, 2], of which the first ``lines`` rows count."""
        ratio = self.config.shrink_ratio
        return LabelMaps.stacked(
            [label_maps(page[:count], height, width, ratio) for page, count in zip(quads, lines, strict=True)]
        )

    def plan(self, soft: SoftDetector, task: Task) -> TrainingPlan:
        """Return AdamW that warms up over a twentieth of the steps and then decays with the paper's power of 0.9."""
        steps = max(1, task.epochs * -(-len(task.samples("train")) // task.batch_size))
        warm_up = max(1, steps // 20)
        optimizer = torch.optim.AdamW(soft.parameters(), lr=4e-3, weight_decay=1e-4)

        def factor(step: int) -> float:
            left = max(0.0, 1.0 - step / steps)
            return min(1.0, (step + 1) / warm_up) * float(max(0.01, left**0.9))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return TrainingPlan(optimizer, task.epochs, task.batch_size, scheduler, clip_norm=5.0)

    def harden(self, soft: SoftDetector, inputs: tuple[Tensor, ...]) -> HardForm:
        """Drop the threshold head, fold batch norms into convolutions; the decoder takes over the thresholding."""
        config: DBConfig = self.config
        backbone = copy.deepcopy(soft.backbone)
        if isinstance(backbone, SmallBackbone):  # in a user's own, neighbours need not run one after the other
            _fold(backbone)
        head = copy.deepcopy(soft.probability_head)
        _fold(head)
        module = HardDetector(backbone, copy.deepcopy(soft.pyramid), head).eval().requires_grad_(False)
        dropped = sum(tensor.numel() for tensor in soft.threshold_head.parameters())
        return HardForm(
            module=module,
            promise=Promise(
                # Sums of some hundred float32 products in an order that the runtime chooses, layer upon layer.
                tolerance=Tolerance(absolute=1e-4, relative=1e-4),
                weight_bytes=_stored_bytes(module) + _SLACK,
                weight_dtypes=("float32",),
                absent=("threshold_head",),
            ),
            decoder="text-boxes",
            decoder_config={
                "threshold": config.threshold,
                "box_threshold": config.box_threshold,
                "unclip_ratio": config.unclip_ratio,
                "score_over": "outline",
            },
            facts={"threshold head": f"dropped, {dropped} parameters", "bitmap": f"P > {config.threshold:g}"},
        )

    def decisions(self, form: nn.Module, inputs: tuple[Tensor, ...]) -> Decisions:
        """Return each form's own bitmap: the soft form's is P > T, which it is trained for; the hard form's P > 0.3.

        Replacing the learnt threshold map by one number is what hardening does here, so the two differ, and how far
        is the method's gap. The margin is the distance of P from the threshold.
        """
        with torch.no_grad():
            if isinstance(form, SoftDetector):
                maps = form.maps(inputs[0])
                distance = (maps.probability - maps.threshold).numpy()
            else:
                distance = form(*inputs).numpy() - np.float32(self.config.threshold)
        return {"bitmap": Decision(distance > 0, np.abs(distance))}

    def oracle(self, soft: SoftDetector, inputs: tuple[Tensor, ...]) -> Arrays:
        """Compute P in numpy, in float64."""
        from deploykit.lifecycle import binding_of

        (output,) = binding_of(soft).signature.outputs
        return {output.name: probability_oracle(soft, inputs[0].numpy())}

    def baseline(self, soft: SoftDetector) -> nn.Module:
        """Return the whole trained network, which answers with the approximate bitmap: two heads instead of one."""
        return SteppedDetector(copy.deepcopy(soft)).eval()


def _channels(model: nn.Module, image: Tensor) -> tuple[int, ...]:
    """Return the channels of the backbone's four maps.

    Raises:
        ContractError: it does not return four maps at strides 4, 8, 16 and 32.
    """
    height, width = image.shape[-2:]
    wanted = [(height // stride, width // stride) for stride in STRIDES]
    training = model.training
    with torch.no_grad():
        returned = model.eval()(centred(image))
    model.train(training)
    maps = returned if isinstance(returned, (tuple, list)) else (returned,)
    got = [tuple(tensor.shape[2:]) if isinstance(tensor, Tensor) else type(tensor).__name__ for tensor in maps]
    if got != wanted:
        raise ContractError(
            f"binarized.db: {type(model).__name__} must return a tuple of four maps at strides 4, 8, 16 and 32, "
            f"sizes {wanted} for an image of {height} x {width}; got {got}"
        )
    return tuple(tensor.shape[1] for tensor in maps)


def _fold(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, within the module's ``nn.Sequential`` parts, in place."""
    for part in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        layers = list(part)
        for index in range(len(layers) - 1):
            layer, norm = layers[index], layers[index + 1]
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(norm, nn.BatchNorm2d):
                transposed = isinstance(layer, nn.ConvTranspose2d)
                part[index] = fuse_conv_bn_eval(layer.eval(), norm.eval(), transpose=transposed)
                part[index + 1] = nn.Identity()


def _stored_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
