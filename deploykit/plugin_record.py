"""What the registry knows of one plugin, and what it notices while loading it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

HEAVY: Final = (
    "bentoml", "cv2", "lightning_fabric", "matplotlib", "onnx", "onnxruntime", "onnxscript", "openvino", "pandas",
    "scipy", "skimage", "sklearn", "tensorflow", "tensorrt", "tensorrt_rtx", "torch", "torchvision", "transformers",
)  # fmt: skip
"""Packages that take long to import: nobody should wait for them in order to list names."""


@dataclass(slots=True)
class PluginRecord:
    """One plugin as ``deploykit plugins`` shows it.

    Attributes:
        contract: the version of the plugin contract it says it was written for; ``None`` if it says nothing.
        seconds: time its import and its card hooks took.
        hooks: names of the hooks it implements, sorted.
        offers: its cards as ``kind name``.
        failure: why it is not (fully) usable; empty when all is well.
        remark: what it does well enough and should do better; it is usable all the same.
    """

    name: str
    distribution: str
    version: str
    contract: int | None = None
    seconds: float = 0.0
    hooks: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    failure: str = ""
    remark: str = ""


def heavy_modules() -> frozenset[str]:
    """Return the packages of :data:`HEAVY` that this process has imported so far."""
    return frozenset(name for name in HEAVY if name in sys.modules)


def import_remark(before: frozenset[str], seconds: float) -> str:
    """Return what to say of a plugin that imported heavy packages while it was discovered, or nothing.

    Args:
        before: :func:`heavy_modules` before it was loaded.
        seconds: how long loading it took.
    """
    heavy = sorted(heavy_modules() - before)
    if not heavy:
        return ""
    return (
        f"imports {', '.join(heavy)} at discovery, which took {seconds:.2f} s of everybody's start; import it in the "
        "module that the card names, not in the module of the entry point"
    )
