"""ONNX's reference evaluator, as a plugin."""

from __future__ import annotations

from deploykit import RuntimeCard, hookimpl

deploykit_contract = 1


@hookimpl
def deploykit_runtimes() -> list[RuntimeCard]:
    """Offer the runtime."""
    return [
        RuntimeCard(
            "onnx-reference",
            "ONNX's own evaluator in numpy: slow and obvious, a second opinion on every file",
            "onnx_reference_runtime.reference:OnnxReference",
        )
    ]
