"""What the methods reach on their tasks: trained with their own settings and seed 0, exported, proven, measured.

For each method the task's metric of the soft form, the hard form and the file, the bytes of the weights and the speed
against the float model that is replaced. Nothing here has a target: papers' figures are for other data and networks.

Run: python -m benchmarks.methods [METHOD ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.figure import Figure, main
from deploykit.bundle import Bundle
from deploykit.lifecycle import harden
from deploykit.making import make_task
from deploykit.outputs import run_module, tensors
from deploykit.registry import installed
from deploykit.task import Task
from deploykit_export.bundle_export import export_bundle
from deploykit_export.proof_report import ProofReport
from deploykit_export.verification import Surroundings, verify_bundle
from deploykit_serving.profiling.profile import compare_with_baseline
from deploykit_serving.runtimes import open_session
from deploykit_training.training import evaluate, new_record, soft_from_run, train

METHODS: Final = ("sorted.diffsort", "graph.cogn", "searched.darts", "quantized.ani", "matched.sinkhorn")


def measure() -> list[Figure]:
    """Train, export and prove each method that was asked for."""
    torch.set_num_threads(1)
    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("-")] or METHODS
    return [figure for method in chosen for figure in _of(method)]


def _of(method: str) -> list[Figure]:
    name = installed().method_card(method).tasks[0]
    with tempfile.TemporaryDirectory() as folder:
        record = new_record(method, {}, name)
        train(record, Path(folder) / "run")
        _, soft, task = soft_from_run(Path(folder) / "run")
        hard = harden(soft, tensors(task.samples("calibration").inputs, task.signature))
        bundle = export_bundle(
            soft, hard, Path(folder) / "made.bundle", task=name, heldout=task.samples("test"), timeout=600
        )
        report = verify_bundle(bundle, Surroundings(open_session=open_session))
        figures = [_figure(method, task, bundle, report, record.seconds)]
        if name == "photograph":
            figures.append(_picture(method, bundle, hard.module, task))
        if name == "root-neighbours":
            figures.append(_without_method(method, name, Path(folder) / "plain"))
        return figures


def _figure(method: str, task: Task, bundle: Bundle, report: ProofReport, seconds: float) -> Figure:
    variant = bundle.manifest.hard_variants[0].name
    metric = {hop.name: hop.metric for hop in report.hops if hop.metric is not None}
    weighed = next(proof.figures for proof in report.proofs if proof.name == f"shrinkage {variant}")
    speed = compare_with_baseline(bundle)[variant]
    proofs = "every proof that ran holds" if not report.failures else f"{len(report.failures)} proofs failed"
    return Figure(
        name=f"{method} on {task.card.name}, {task.metric_name} of the hard form",
        target="none",
        measured=f"{metric['hard']:.4f}",
        interval=f"{report.samples} test samples, one seed",
        met=None,
        beside=(
            f"soft {metric['soft']:.4f}, file {metric[f'onnxruntime-cpu {variant}']:.4f}; trained in {seconds:.0f} s; "
            f"weights {weighed['weight_bytes']:,} bytes against {weighed['baseline_weight_bytes']:,}; speed against "
            f"the float model at batch 1 {speed.ratio:.2f}x ({speed.low:.2f} to {speed.high:.2f}); {proofs}"
        ),
    )


def _picture(method: str, bundle: Bundle, hard: torch.nn.Module, task: Task) -> Figure:
    from deploykit_tasks.photograph_rates import bits_per_pixel, jpeg_psnr, picture_psnr

    def answer(positions: NDArray[np.float32]) -> NDArray[Any]:
        return run_module(hard, {"position": positions}, task.signature)["grey"]

    file = bundle.manifest.hard_variants[0].file
    size = bundle.manifest.files[file].size
    theirs, bytes_of_jpeg = jpeg_psnr(size)
    return Figure(
        name=f"{method}, PSNR over the whole picture",
        target="none",
        measured=f"{picture_psnr(answer):.2f} dB",
        interval=f"{bits_per_pixel(size):.2f} bits a pixel, the whole file",
        met=None,
        beside=f"the best JPEG of at most as many bytes ({bytes_of_jpeg:,} of {size:,}) has {theirs:.2f} dB",
    )


def _without_method(method: str, name: str, folder: Path) -> Figure:
    train(new_record("plain.passthrough", {}, name, epochs=40), folder)
    _, plain, _ = soft_from_run(folder)
    task = make_task(name)
    return Figure(
        name=f"{name}, {task.metric_name} of the same network without {method}",
        target="none",
        measured=f"{evaluate(plain, task):.4f}",
        interval="all test samples, one seed",
        met=None,
        beside="trained as many epochs on the same samples",
    )


if __name__ == "__main__":
    main(measure)
