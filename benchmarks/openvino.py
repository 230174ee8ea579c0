"""OpenVINO on one thread of the CPU: what packing convolutions of signs into bits gains, and where ONNX Runtime stands.

The network is that of :mod:`benchmarks.binarized`: four 3 x 3 convolutions of 128 channels on 28 x 28 and a small
classifier, as binarized.biper writes it for ONNX Runtime. All sessions are measured in turns, batch 1.

Run: python -m benchmarks.openvino
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch

import deploykit
from benchmarks.binarized import network
from benchmarks.figure import Figure, main
from deploykit import Signature, TensorSpec
from deploykit.bundle import Bundle
from deploykit.manifest import VariantEntry
from deploykit.random_inputs import random_inputs
from deploykit.runtime import RuntimeOptions
from deploykit.signature import BATCH
from deploykit_export.bundle_export import export_bundle
from deploykit_serving.profiling.closed_loop import collector_off, feed, settle
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.profiling.sample_inputs import SampleInputs
from deploykit_serving.runtimes import Session, open_session
from deploykit_serving.runtimes.openvino_cpu import OpenVinoSession

_SECONDS: Final = 5.0
_OPTIONS: Final = RuntimeOptions(threads=1, spin=True)


def measure() -> list[Figure]:
    """Export the network, compare answers and time."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    example = torch.rand(4, 128, 28, 28) * 2 - 1
    with tempfile.TemporaryDirectory() as folder:
        bundle = _exported(example, Path(folder) / "biper.bundle")
        hard, baseline = bundle.manifest.hard_variants[0], bundle.manifest.variant("float")
        assert baseline is not None
        packed, plain = _openvino(bundle, hard), _openvino(bundle, hard, pack=False)
        assert packed.packed
        reference = open_session(bundle.read(hard.file), options=_OPTIONS)
        figures = [_equal(bundle, packed, reference)]
        for name, other in (
            ("OpenVINO without packing", plain),
            (f"ONNX Runtime's {hard.name}", reference),
            ("OpenVINO in float32", _openvino(bundle, baseline)),
            ("ONNX Runtime in float32", open_session(bundle.read(baseline.file), options=_OPTIONS)),
        ):
            figures.append(_faster(f"{hard.name} packed by OpenVINO against {name}", bundle, packed, other))
    return figures


def _exported(example: torch.Tensor, path: Path) -> Bundle:
    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", *example.shape[1:]), minimum=-1.0, maximum=1.0),),
        outputs=(TensorSpec(name="y", shape=("batch", 10)),),
    )
    soft = deploykit.prepare(network().train(), "binarized.biper", example, signature=signature)
    with torch.no_grad():
        for _ in range(3):
            soft(example)  # so that batch normalisation has statistics to fold
    return export_bundle(soft, deploykit.harden(soft, example), path)


def _openvino(bundle: Bundle, entry: VariantEntry, *, pack: bool = True) -> OpenVinoSession:
    return OpenVinoSession(bundle.read(entry.file), _OPTIONS, pack=pack)


def _equal(bundle: Bundle, session: Session, reference: Session) -> Figure:
    different, elements = 0, 0
    random = np.random.default_rng(0)
    for _ in range(64):
        inputs = random_inputs(bundle.manifest.signature, random, {BATCH: 1})
        for name, wanted in reference.run(inputs).items():
            different += int(np.sum(session.run(inputs)[name] != wanted))
            elements += wanted.size
    return Figure(
        name="packed convolutions against ONNX Runtime on the CPU",
        target="equal bit for bit",
        measured=f"{different} of {elements:,} numbers differ",
        interval="counted",
        met=different == 0,
    )


def _faster(name: str, bundle: Bundle, session: Session, other: Session) -> Figure:
    inputs = SampleInputs(bundle).batches(1)
    ours, theirs = feed(session, inputs), feed(other, inputs)
    with collector_off():
        for call in (ours, theirs):
            settle(call, seconds=_SECONDS / 5)
        pairs = interleave(theirs, ours, seconds=_SECONDS)
    found = pairs.ratio
    medians = [float(np.median(series)) / 1e6 for series in (pairs.variant, pairs.baseline)]
    return Figure(
        name=name,
        target="faster",
        measured=f"{found.ratio:.2f}x",
        interval=f"{found.low:.2f} to {found.high:.2f}, {found.pairs} pairs",
        met=found.low > 1,
        beside=f"{medians[0]:.3g} ms against {medians[1]:.3g} ms",
    )


if __name__ == "__main__":
    main(measure)
