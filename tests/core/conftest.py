"""A small bundle of plain files; its contents are never parsed here."""

from __future__ import annotations

from typing import Any

import pytest

Parts = tuple[dict[str, Any], dict[str, bytes]]


def parts(stamp: str) -> Parts:
    """Return manifest fields and files that differ from those of another stamp."""
    fields: dict[str, Any] = {
        "name": "small",
        "created": "2026-01-01T00:00:00Z",
        "method": "plain.passthrough",
        "signature": {
            "inputs": [{"name": "x", "shape": ["batch", 2]}], "outputs": [{"name": "y", "shape": ["batch"]}]
        },
        "variants": [{"name": "onnx", "file": "models/onnx.onnx"}],
        "facts": {"stamp": stamp},
    }  # fmt: skip
    files = {
        "README.md": f"# {stamp}\n".encode(),
        "models/onnx.onnx": stamp.encode() * 40,
        "proofs/deep/export.json": b"{}",
        "empty": b"",
    }
    return fields, files


@pytest.fixture
def old_parts() -> Parts:
    """What stands before."""
    return parts("old")


@pytest.fixture
def new_parts() -> Parts:
    """What is to take its place."""
    return parts("new")
