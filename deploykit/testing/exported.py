"""A specimen written to a bundle: what the contracts of files and of serving look at, made once for each."""

from __future__ import annotations

import atexit
import functools
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.bundle import SUFFIX, Bundle
from deploykit.testing.specimen import Specimen, specimen
from deploykit_export.bundle_export import export_bundle


@dataclass(frozen=True)
class Exported:
    """What export wrote for a specimen.

    Attributes:
        files: the bytes of each lowering's ONNX file, by the lowering's name.
        bundle: with the float baseline beside them; on disk until the process ends.
    """

    made: Specimen
    files: Mapping[str, bytes]
    bundle: Bundle


def exported(name: str, task: str, config: dict[str, Any]) -> Exported:
    """Return the files of a method's specimen, written at the first call and shared by all tests."""
    return _exported(name, task, json.dumps(config, sort_keys=True))


@functools.cache
def _exported(name: str, task: str, config: str) -> Exported:
    made = specimen(name, task, json.loads(config))
    folder = tempfile.TemporaryDirectory(prefix="deploykit-contract-")
    atexit.register(folder.cleanup)
    count = len(made.inputs[0])
    bundle = export_bundle(
        made.soft, made.hard, Path(folder.name) / f"{name.replace('.', '-')}{SUFFIX}",
        calibration=made.calibration, heldout=made.task.samples("test").take(slice(0, count)),
    )  # fmt: skip
    files = {entry.name: bundle.read(entry.file) for entry in bundle.manifest.hard_variants}
    return Exported(made, files, bundle)
