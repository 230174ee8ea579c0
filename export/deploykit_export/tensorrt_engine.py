"""ONNX to a TensorRT engine, through ``tensorrt`` or ``tensorrt_rtx``, whichever is installed.

TensorRT-RTX builds engines on a machine without a GPU; running them needs one. Engines are executable artefacts:
build your own, never load a foreign one.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploykit.errors import ExportError, MissingExtraError
from deploykit.signature import BATCH, Signature
from deploykit_export.isolated import run_isolated

BUILDERS: Final = ("tensorrt", "tensorrt_rtx")
DEFAULT_TARGET: Final = "SM89"
_LARGEST_BATCH: Final = 64
_LARGEST_SIZE: Final = 512


@dataclass(frozen=True, slots=True)
class Engine:
    """A built engine.

    Attributes:
        data: the serialized plan.
        builder: ``tensorrt`` or ``tensorrt_rtx``.
        version: the builder's version; an engine runs on that version only.
        target: compute capability it was built for, ``SM89`` and the like; ``this GPU`` for ``tensorrt``.
        layers: how many layers the parsed network had.
        seconds: how long building took.
        timing_cache: what the builder measured of kernels, for the next build on this GPU; empty for ``tensorrt_rtx``,
            which measures nothing.
    """

    data: bytes
    builder: str
    version: str
    target: str
    layers: int
    seconds: float
    timing_cache: bytes = b""


def installed_builder() -> str:
    """Return the first builder that is installed.

    Raises:
        MissingExtraError: none is.
    """
    for name in BUILDERS:
        if importlib.util.find_spec(name) is not None:
            return name
    raise MissingExtraError("tensorrt or tensorrt_rtx", "tensorrt-rtx")


def build_engine(
    model: bytes,
    signature: Signature,
    *,
    builder: str = "",
    target: str = DEFAULT_TARGET,
    sizes: Mapping[str, tuple[int, int, int]] | None = None,
    timing_cache: bytes = b"",
    timeout: float = 300.0,
) -> Engine:
    """Parse a model and build its engine in a process of its own.

    The network is strongly typed: precision is what the file says, quantisation is explicit Q/DQ. Float32 stays
    float32: TensorFloat-32, which builders use without being asked, is off.

    Args:
        model: the ONNX file's bytes.
        signature: gives the optimisation profile of free dimensions.
        builder: ``tensorrt`` or ``tensorrt_rtx``; by default the one that is installed.
        target: compute capability for ``tensorrt_rtx``, which needs no GPU to build.
        sizes: smallest, usual and largest size of a free dimension by name; by default from the signature.
        timing_cache: that of an earlier engine by the same builder on the same GPU, which makes building faster.
        timeout: seconds until building is stopped.

    Raises:
        MissingExtraError: no builder is installed.
        ExportError: an operator is refused (all of them are named), the build failed, crashed or hung.
    """
    name = builder or installed_builder()
    if name not in BUILDERS:
        raise ExportError(f"no engine builder {name!r}; there are: {', '.join(BUILDERS)}")
    if importlib.util.find_spec(name) is None:
        raise MissingExtraError(name, name.replace("_", "-"))
    with tempfile.TemporaryDirectory(prefix="deploykit-engine-") as temporary:
        folder = Path(temporary)
        (folder / "model.onnx").write_bytes(model)
        job = {
            "builder": name,
            "target": target,
            "model": str(folder / "model.onnx"),
            "engine": str(folder / "model.plan"),
            "profile": profile_of(signature, sizes),
            "timing_cache": str(folder / "timing.cache"),
        }
        (folder / "timing.cache").write_bytes(timing_cache)
        report = run_isolated(
            "deploykit_export.tensorrt_worker", job, folder, what=f"building the {name} engine", timeout=timeout
        )
        return Engine(
            data=(folder / "model.plan").read_bytes(),
            builder=name,
            version=report["version"],
            target=report["target"],
            layers=report["layers"],
            seconds=report["seconds"],
            timing_cache=(folder / "timing.cache").read_bytes(),
        )


def profile_of(
    signature: Signature, sizes: Mapping[str, tuple[int, int, int]] | None = None
) -> dict[str, list[list[int]]]:
    """Return smallest, usual and largest shape of every input with a free dimension: the optimisation profile."""
    sizes = sizes or {}
    profile = {}
    for spec in signature.inputs:
        if all(isinstance(size, int) for size in spec.shape):
            continue
        bounds = [
            (size, size, size) if isinstance(size, int) else sizes.get(size, _bounds(signature, size))
            for size in spec.shape
        ]
        profile[spec.name] = [[bound[index] for bound in bounds] for index in range(3)]
    return profile


def _bounds(signature: Signature, name: str) -> tuple[int, int, int]:
    limits = signature.dim(name)
    low = max(limits.min, limits.multiple)
    # A larger batch can be split by who asks; a larger image or graph cannot.
    largest = max(_LARGEST_BATCH if name == BATCH else _LARGEST_SIZE, 16 * low)
    high = min(limits.max or max(_LARGEST_BATCH, 8 * low), largest)
    high -= high % limits.multiple
    usual = min(high, max(low, 8 * limits.multiple))
    return low, usual, high
