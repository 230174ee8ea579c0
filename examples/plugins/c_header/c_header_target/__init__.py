"""The C header target, as a plugin."""

from __future__ import annotations

from deploykit import TargetCard, hookimpl

deploykit_contract = 1


@hookimpl
def deploykit_targets() -> list[TargetCard]:
    """Offer the target."""
    return [TargetCard("c-header", "the ONNX file as an array in a C header", "c_header_target.header:CHeader")]
