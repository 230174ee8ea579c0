"""``deploykit export``: from a trained run, or a ready ONNX file, to a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploykit.cli.options import AsJson

if TYPE_CHECKING:
    from deploykit.bundle import Bundle
    from deploykit.target import Target


def export(
    source: Annotated[
        Path, typer.Argument(help="A folder that `deploykit train` wrote, or an .onnx file made elsewhere.")
    ],
    out: Annotated[Path | None, typer.Option(help="The bundle; by default bundles/SOURCE.bundle.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Also write this target (tensorrt, or one of a plugin's); may be given again."),
    ] = None,
    decoder: Annotated[str, typer.Option(help="For an .onnx file: a registered decoder for its outputs.")] = "",
    samples: Annotated[
        Path | None, typer.Option(help="For an .onnx file: an .npz with inputs by name, to record answers for.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for each exporting process.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Harden a trained run and write its bundle: every lowering, the float baseline, samples, weights, model card.

    Examples:
      deploykit export runs/digits-pruned.gate --out bundles/gate.bundle
      deploykit export runs/digits-pruned.gate --target tensorrt
      deploykit export model.onnx
    """
    from deploykit.cli.output import print_json

    started = time.perf_counter()
    path = out or Path("bundles") / f"{source.resolve().name.removesuffix('.onnx')}.bundle"
    targets = _targets(target or [], timeout)
    given = source.suffix == ".onnx"
    bundle = _import(source, path, decoder, samples) if given else _export_run(source, path, timeout)
    for wanted in targets:
        from deploykit_export.bundle_targets import add_target

        bundle = add_target(bundle, wanted)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"bundle": str(path), "seconds": seconds, "manifest": bundle.manifest.model_dump(mode="json")})
        return
    for variant in bundle.manifest.variants:
        typer.echo(f"  {variant.name}: {bundle.manifest.files[variant.file].size:,} bytes ({variant.role})")
    for name in bundle.names("targets"):
        typer.echo(f"  {name}: {bundle.manifest.files[name].size:,} bytes")
    typer.echo(f"wrote {path} in {seconds:.1f} s; next: deploykit verify {path}")


def _targets(names: list[str], timeout: float) -> list[Target]:
    """Return the targets that were asked for; what is missing is said now, not after everything else is done."""
    from deploykit.errors import ExportError
    from deploykit.making import make_target

    made = [make_target(name) for name in names]
    for target in made:
        if reason := target.missing():
            raise ExportError(f"target {target.card.name!r} cannot be written here: {reason}")
        target.timeout = timeout
    return made


def _export_run(folder: Path, path: Path, timeout: float) -> Bundle:
    from deploykit.lifecycle import harden
    from deploykit.outputs import tensors
    from deploykit_export.bundle_export import export_bundle
    from deploykit_training.training import soft_from_run

    record, soft, task = soft_from_run(folder)
    calibration = tensors(task.samples("calibration").inputs, task.signature)
    return export_bundle(
        soft, harden(soft, calibration), path, task=record.task, network=record.network,
        calibration=calibration, heldout=task.samples("test"), timeout=timeout,
    )  # fmt: skip


def _import(source: Path, path: Path, decoder: str, samples: Path | None) -> Bundle:
    from deploykit.errors import ExportError
    from deploykit.making import make_decoder
    from deploykit_export.heldout import read_arrays
    from deploykit_export.onnx_import import import_onnx

    try:
        data = source.read_bytes()
        arrays = None if samples is None else read_arrays(samples.read_bytes())
    except OSError as error:
        raise ExportError(f"{error.filename}: {error.strerror}") from error
    if decoder:
        make_decoder(decoder)
    return import_onnx(data, path, decoder=decoder, samples=arrays)
