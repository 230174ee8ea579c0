"""Add to a bundle what a target writes, one folder for each variant that the target can start from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from deploykit.bundle import Bundle
from deploykit.bundle_writer import extend_bundle
from deploykit.errors import ContractError, ExportError, MissingExtraError
from deploykit.target import Target, Written

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def target_folder(target: str) -> str:
    """Return the folder of a bundle that holds what a target wrote."""
    return f"targets/{target}"


def target_report(target: str) -> str:
    """Return the file of a bundle that says what a target wrote and what it refused."""
    return f"proofs/target-{target}.json"


def add_target(bundle: Bundle, target: Target) -> Bundle:
    """Write every hard variant that the target starts from and publish the bundle with the files.

    What was refused is written to ``proofs/target-NAME.json``, with the reason, beside what was written. Files of
    an earlier run of the same target go.

    Raises:
        ExportError: the target cannot write on this machine, no variant is for it, or it refused every one; nothing
            changes.
        ContractError: the target returned something else than files.
    """
    name = target.card.name
    if reason := target.missing():
        raise ExportError(f"target {name!r} cannot be written here: {reason}")
    wanted = [variant for variant in bundle.manifest.hard_variants if target.starts_from in variant.targets]
    if not wanted:
        raise ExportError(
            f"{bundle.path}: no variant is written for {target.starts_from!r}, which {name!r} starts from"
        )
    files: dict[str, bytes] = {}
    report: dict[str, dict[str, object]] = {}
    for variant in wanted:
        try:
            written = target.write(variant.name, bundle.read(variant.file), bundle.manifest.signature)
        except MissingExtraError:
            raise
        except ExportError as error:
            report[variant.name] = {"written": False, "reason": str(error)}
            continue
        placed = {
            f"{target_folder(name)}/{variant.name}/{file}": data for file, data in _checked(name, written).items()
        }
        files |= placed
        report[variant.name] = {"written": True, "files": sorted(placed), "facts": dict(written.facts)}
    if not files:
        reasons = "; ".join(f"{variant}: {entry['reason']}" for variant, entry in report.items())
        raise ExportError(f"{bundle.path}: target {name!r} could write no variant: {reasons}")
    files[target_report(name)] = json.dumps(report, indent=2, sort_keys=True).encode() + b"\n"
    stale = tuple(file for file in bundle.names(target_folder(name)) if file not in files)
    return extend_bundle(bundle, files, drop=stale)


def _checked(target: str, written: object) -> Mapping[str, bytes]:
    if not isinstance(written, Written):
        raise ContractError(f"target {target!r}: write must return deploykit.Written, got {type(written).__name__}")
    if not written.files:
        raise ContractError(f"target {target!r}: write returned no file; raise ExportError for what cannot be written")
    for file, data in written.files.items():
        if not _FILE_NAME.fullmatch(file):
            raise ContractError(
                f"target {target!r}: a file's name is relative, of letters, digits, '.', '_' and '-', got {file!r}"
            )
        if not isinstance(data, bytes):
            raise ContractError(f"target {target!r}: file {file!r} is a {type(data).__name__}; wanted bytes")
    for fact, value in written.facts.items():
        if not isinstance(value, str | int | float):
            raise ContractError(
                f"target {target!r}: fact {fact!r} is a {type(value).__name__}; wanted text or Python's own number"
            )
    return written.files
