"""``deploykit inspect``: what a bundle holds, without torch or onnx."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from deploykit.cli.options import AsJson, BundlePath

if TYPE_CHECKING:
    from deploykit.bundle import Bundle


def inspect(bundle: BundlePath, as_json: AsJson = False) -> None:
    """Check every file of a bundle and show what it holds.

    Example: deploykit inspect bundles/digits-biper.bundle
    """
    from deploykit.bundle import open_bundle
    from deploykit.cli.output import print_json, print_table

    opened = open_bundle(bundle)
    manifest = opened.manifest
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    settings = ", ".join(f"{key}={value}" for key, value in manifest.config.items()) or "none"
    made = f"{manifest.method} ({settings})" if manifest.method else "a file made elsewhere"
    typer.echo(f"{manifest.name}: {made}, written {manifest.created}")
    for spec in manifest.signature.inputs:
        typer.echo(f"  in   {spec.text()}")
    for spec in manifest.signature.outputs:
        typer.echo(f"  out  {spec.text()}")
    if manifest.decoder:
        typer.echo(f"  decoder {manifest.decoder}")
    for key, value in manifest.facts.items():
        typer.echo(f"  {key}: {value}")
    rows = [
        (item.name, item.role, f"{manifest.files[item.file].size:,}", ", ".join(item.targets), item.purpose)
        for item in manifest.variants
    ]
    print_table("", ("variant", "role", "bytes", "runs on", "purpose"), rows, right=("bytes",))
    typer.echo(_verified(opened) if "proofs/verify.json" in manifest.files
               else "not verified yet: deploykit verify " + str(bundle))  # fmt: skip
    for acceptance in manifest.accepted:
        typer.echo(f"accepted in spite of {acceptance.proof}: {acceptance.reason} ({acceptance.when})")
    typer.echo(f"all {len(manifest.files)} files are as the manifest says")


def _verified(bundle: Bundle) -> str:
    from deploykit.proof_binding import stale_reason

    report = json.loads(bundle.read("proofs/verify.json"))
    if stale := stale_reason(bundle.manifest, report):
        return f"verified as something else: {stale}; prove it again: deploykit verify {bundle.path}"
    proofs = report["proofs"]
    counts = {status: sum(proof["status"] == status for proof in proofs) for status in ("passed", "failed", "not run")}
    return f"verified: {counts['passed']} proofs passed, {counts['failed']} failed, {counts['not run']} not run"
