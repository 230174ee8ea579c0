"""The top-labels decoder, as a plugin."""

from __future__ import annotations

from deploykit import DecoderCard, hookimpl

deploykit_contract = 1


@hookimpl
def deploykit_decoders() -> list[DecoderCard]:
    """Offer the decoder."""
    return [
        DecoderCard("top-labels", "the best labels with their probabilities", "top_labels_decoder.labels:TopLabels")
    ]
