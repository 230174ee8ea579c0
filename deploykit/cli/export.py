"""``deploykit export``: from a trained run to a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli.options import AsJson, RunPath


def export(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="The bundle; by default bundles/RUN.bundle.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for the exporting process.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Harden a trained run and write its bundle: every lowering, the float baseline, samples, weights, model card.

    Example: deploykit export runs/digits-pruned.gate --out bundles/gate.bundle
    """
    from deploykit.cli.output import print_json
    from deploykit.lifecycle import harden
    from deploykit.outputs import tensors
    from deploykit_export.bundle_export import export_bundle
    from deploykit_training.training import soft_from_run

    started = time.perf_counter()
    record, soft, task = soft_from_run(run)
    calibration = tensors(task.samples("calibration").inputs, task.signature)
    path = out or Path("bundles") / f"{run.resolve().name}.bundle"
    bundle = export_bundle(
        soft, harden(soft, calibration), path, task=record.task, network=record.network,
        calibration=calibration, heldout=task.samples("test"), timeout=timeout,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"bundle": str(path), "seconds": seconds, "manifest": bundle.manifest.model_dump(mode="json")})
        return
    for variant in bundle.manifest.variants:
        typer.echo(f"  {variant.name}: {bundle.manifest.files[variant.file].size:,} bytes ({variant.role})")
    typer.echo(f"wrote {path} in {seconds:.1f} s; next: deploykit verify {path}")
