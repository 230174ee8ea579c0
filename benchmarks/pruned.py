"""Half of the channels removed by trainable gates, against the whole network, both in ONNX Runtime on one thread.

The network: four 3 x 3 convolutions of 128 channels on 28 x 28 and a classifier. Its gates are given random values
instead of trained ones: which channels go does not matter to the time, that they are gone from the file does.

Run: python -m benchmarks.pruned
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import torch
from torch import nn

import deploykit
from benchmarks.figure import Figure, at_least, compare_variants, main
from deploykit.bundle import Bundle
from deploykit_export.bundle_export import export_bundle
from deploykit_export.executed_work import executed_work
from deploykit_serving.profiling.sample_inputs import SampleInputs

FASTER: Final = 2.5
KEEP: Final = 0.5
_CHANNELS: Final = 128
_SIDE: Final = 28


def network() -> nn.Module:
    """Return the unpruned network."""
    layers: list[nn.Module] = []
    for index in range(4):
        convolution = nn.Conv2d(_CHANNELS if index else 3, _CHANNELS, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(_CHANNELS), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_CHANNELS, 10))


def measure() -> list[Figure]:
    """Prune, export both networks, count the work and compare the time."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    example = torch.randn(4, 3, _SIDE, _SIDE)
    soft = deploykit.prepare(network(), "pruned.gate", example, keep=KEEP)
    with torch.no_grad():
        soft.get_submodule("gates").get_parameter("weight").normal_(0.0, 0.1)
    hard = deploykit.harden(soft, example)
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_bundle(soft, hard, Path(folder) / "gate.bundle")
        variant = bundle.manifest.hard_variants[0].name
        work = {name: _macs(bundle, name) for name in (variant, "float")}
        found = compare_variants(bundle, variant, 1, seconds=10.0)
    fewer = work["float"] / work[variant]
    counted = f"{work[variant]:,} against {work['float']:,}, {fewer:.2f}x fewer"
    beside = f"{found.words()}; multiply-accumulates executed: {counted}"
    kept = hard.facts["kept channels"]
    return [
        at_least(f"gate, {KEEP:.0%} of the channels ({kept}), speed, batch 1", FASTER, found, beside),
    ]


def _macs(bundle: Bundle, variant: str) -> int:
    entry = bundle.manifest.variant(variant)
    assert entry is not None
    return executed_work(bundle.read(entry.file), SampleInputs(bundle).batches(1)[0]).macs


if __name__ == "__main__":
    main(measure)
