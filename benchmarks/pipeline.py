"""How long export and verify take on bundles of the digits task; the slowest of three methods counts.

Export is hardening and writing all files in this process; verify is the whole command, with its server.

Run: python -m benchmarks.pipeline
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import torch

from benchmarks.figure import Figure, main
from deploykit.lifecycle import build, harden
from deploykit.making import make_method, make_task
from deploykit.outputs import tensors
from deploykit_export.bundle_export import export_bundle

VERIFY_SECONDS: Final = 30.0
EXPORT_SECONDS: Final = 20.0
METHODS: Final = ("binarized.biper", "pruned.gate", "routed.fff")


def measure() -> list[Figure]:
    """Export and verify an untrained bundle of each method; training does not change how long either takes."""
    torch.manual_seed(0)
    exports: dict[str, float] = {}
    verifies: dict[str, float] = {}
    codes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in METHODS:
            path = Path(folder) / f"{name.replace('.', '-')}.bundle"
            started = time.perf_counter()
            _export(name, path)
            exports[name] = time.perf_counter() - started
            started = time.perf_counter()
            command = [str(Path(sys.executable).with_name("deploykit")), "verify", str(path)]
            codes[name] = subprocess.run(command, check=False, capture_output=True).returncode
            verifies[name] = time.perf_counter() - started
    failed = [f"{name} ended with exit code {code}" for name, code in codes.items() if code]
    beside = "; ".join(failed) or "every proof that ran holds"
    return [
        _figure("verify of a digits bundle", VERIFY_SECONDS, verifies, beside, ok=not failed),
        _figure("export of a digits bundle", EXPORT_SECONDS, exports, ""),
    ]


def _export(name: str, path: Path) -> None:
    task = make_task("digits")
    soft = build(make_method(name), task)
    calibration = tensors(task.samples("calibration").inputs, task.signature)
    hard = harden(soft, calibration)
    export_bundle(soft, hard, path, task="digits", calibration=calibration, heldout=task.samples("test"))


def _figure(name: str, limit: float, seconds: dict[str, float], beside: str, *, ok: bool = True) -> Figure:
    each = ", ".join(f"{method} {took:.1f} s" for method, took in seconds.items())
    return Figure(
        name=name,
        target=f"under {limit:g} s",
        measured=f"{max(seconds.values()):.1f} s",
        interval=f"slowest of {len(seconds)}, one run each",
        met=ok and max(seconds.values()) < limit,
        beside="; ".join(part for part in (each, beside) if part),
    )


if __name__ == "__main__":
    main(measure)
