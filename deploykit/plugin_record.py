"""What the registry knows of one plugin, and what it notices while loading it."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pluggy

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


def raised_at(error: BaseException) -> str:
    """Return where a plugin's own code raised, as `` (file.py, line 3)``; nothing where only deploykit's did."""
    ours = Path(__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and ours not in Path(frame.filename).parents
    ]
    others = (sys.base_prefix, str(Path(pluggy.__file__).parent))
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
