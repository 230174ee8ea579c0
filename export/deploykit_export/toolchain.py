"""Versions of everything that had a hand in a bundle."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

_PACKAGES: Final = ("deploykit", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def toolchain() -> dict[str, str]:
    """Return versions by package name, Python's included; packages that are not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
