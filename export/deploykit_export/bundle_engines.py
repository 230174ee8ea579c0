"""Add TensorRT engines to a bundle, one for each variant that is meant for TensorRT."""

from __future__ import annotations

import json
from typing import Final

from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import ExportError, MissingExtraError
from deploykit_export.tensorrt_engine import DEFAULT_TARGET, build_engine, installed_builder

REPORT: Final = "proofs/engines.json"


def add_engines(bundle: Bundle, *, target: str = DEFAULT_TARGET, timeout: float = 300.0) -> Bundle:
    """Build an engine of every hard variant for TensorRT and publish the bundle with them.

    What a builder refuses is written to ``proofs/engines.json``, operators named, beside what was built.

    Raises:
        MissingExtraError: neither ``tensorrt`` nor ``tensorrt_rtx`` is installed.
        ExportError: no variant is for TensorRT, or not one engine could be built; nothing changes.
    """
    builder = installed_builder()
    wanted = [variant for variant in bundle.manifest.hard_variants if "tensorrt" in variant.targets]
    if not wanted:
        raise ExportError(f"{bundle.path}: no variant is written for tensorrt")
    files: dict[str, bytes] = {}
    report: dict[str, dict[str, object]] = {}
    for variant in wanted:
        try:
            engine = build_engine(
                bundle.read(variant.file), bundle.manifest.signature, builder=builder, target=target, timeout=timeout
            )
        except MissingExtraError:
            raise
        except ExportError as error:
            report[variant.name] = {"built": False, "reason": str(error)}
            continue
        name = (
            f"engines/{engine.builder}-{engine.version}-{engine.target.lower().replace(' ', '-')}/{variant.name}.plan"
        )
        files[name] = engine.data
        report[variant.name] = {"built": True, "file": name, "layers": engine.layers, "seconds": engine.seconds}
    if not files:
        reasons = "; ".join(str(entry["reason"]) for entry in report.values())
        raise ExportError(f"{bundle.path}: no engine could be built: {reasons}")
    files[REPORT] = json.dumps(report, indent=2, sort_keys=True).encode() + b"\n"
    stale = tuple(name for name in bundle.names("engines") if name not in files)
    return extend_bundle(bundle, files, drop=stale)
