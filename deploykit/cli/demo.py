"""``deploykit demo``: the whole way on real data, in one command."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from deploykit.bundle import Bundle
    from deploykit_export.proof_report import ProofReport

_SHOWN: Final = ("binarized.biper", "pruned.gate", "routed.fff")
_TITLE: Final = (
    "Accuracy on the test digits at each hop; bytes of weights, and of the float\n"
    "model that is replaced; speed in times of that model's, at batch 1 and 64."
)


def demo(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help=f"Methods to show on the digits; by default {', '.join(_SHOWN)}.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the bundles go; those of an earlier demo are replaced.")] = Path(
        "bundles"
    ),
    epochs: Annotated[int | None, typer.Option(min=1, help="Fewer for a quick look; the methods' own by default.")] = (
        None
    ),
) -> None:
    """Train methods on digits, prove and measure each, serve them and send one real request. Exit 3 on failure.

    Examples: deploykit demo · deploykit demo searched.darts --epochs 5
    """
    from deploykit.cli.output import print_table
    from deploykit.cli.verify import publish, run_proofs

    rows, bundles, failed = [], [], []
    for method in methods or _SHOWN:
        started = time.perf_counter()
        bundle = _make(method, out, epochs)
        report = run_proofs(bundle)
        bundles.append(publish(bundle, report))
        failed += [f"{method}: {proof.name}: {proof.detail}" for proof in report.failures]
        rows.append(_row(bundle, report))
        typer.echo(f"{method}: done in {time.perf_counter() - started:.0f} s", err=True)
    columns = ("method", "soft", "hard", "ONNX", "HTTP", "bytes", "float's", "speed", "batch 64")
    typer.echo(_TITLE)
    print_table("", columns, rows, right=columns[1:])
    _ask(bundles)
    if failed:
        for line in failed:
            typer.echo(f"failed: {line}", err=True)
        raise typer.Exit(3)


def _make(method: str, out: Path, epochs: int | None) -> Bundle:
    from deploykit.cli.train import with_progress
    from deploykit.lifecycle import harden
    from deploykit.outputs import tensors
    from deploykit_export.bundle_export import export_bundle
    from deploykit_training.training import new_record, soft_from_run, train

    name = f"digits-{method.partition('.')[2]}"
    folder = out / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    record = new_record(method, {}, "digits", epochs=epochs)
    with_progress(f"training {method}", record.epochs, lambda report: train(record, folder, report=report))
    _, soft, task = soft_from_run(folder)
    calibration = tensors(task.samples("calibration").inputs, task.signature)
    return export_bundle(
        soft, harden(soft, calibration), out / f"{name}.bundle", task="digits", calibration=calibration,
        heldout=task.samples("test"),
    )  # fmt: skip


def _row(bundle: Bundle, report: ProofReport) -> tuple[str, ...]:
    variant = bundle.manifest.hard_variants[0].name
    metric = {hop.name: hop.metric for hop in report.hops}
    figures = {proof.name: proof.figures for proof in report.proofs}
    weights = figures.get(f"shrinkage {variant}", {})
    speeds = [figures.get(f"speed {variant}{batch}", {}) for batch in ("", " at batch 64")]
    ratios = [f"{speed['ratio']:.2f}x" if speed else "-" for speed in speeds]
    return (
        bundle.manifest.method,
        *(_share(metric.get(hop)) for hop in ("soft", "hard", f"onnxruntime-cpu {variant}", f"http {variant}")),
        f"{weights.get('weight_bytes', 0):,}", f"{weights.get('baseline_weight_bytes', 0):,}", *ratios,
    )  # fmt: skip


def _share(metric: float | None) -> str:
    return "-" if metric is None else f"{metric:.3f}"


def _ask(bundles: list[Bundle]) -> None:
    from deploykit.making import make_task
    from deploykit_serving.client import infer
    from deploykit_serving.launch import running

    samples = make_task("digits").samples("test").take(slice(7, 8))
    image: Any = samples.inputs["image"]
    with running([bundle.path for bundle in bundles]) as url:
        typer.echo(f"\nserving {len(bundles)} models at {url}; asking each for this digit:")
        for line in image[0, 0]:
            typer.echo("  " + "".join(" .:*#"[min(4, int(value) // 4)] * 2 for value in line))
        for bundle in bundles:
            logits = infer(url, bundle.manifest.name, {"image": image})["logits"]
            typer.echo(
                f"POST {url}/v2/models/{bundle.manifest.name}/infer -> {int(logits[0].argmax())} "
                f"(label {int(samples.targets['label'][0])})"
            )
