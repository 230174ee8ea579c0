"""From logits to the best labels."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from deploykit import Decoder, DecoderConfig, TensorSpec
from deploykit.signature import Arrays


class TopLabelsConfig(DecoderConfig):
    """Settings of ``top-labels``."""

    count: int = Field(3, ge=1, description="how many labels a sample gets, fewer where there are fewer classes")
    output: str = Field("logits", description="name of the model's output that holds one score a class")


class TopLabels(Decoder):
    """The classes with the largest softmax probabilities, best first; equal scores in the order of the classes."""

    Config = TopLabelsConfig
    outputs = (
        TensorSpec(name="label", dtype="int64", shape=("batch", "labels"), description="class numbers, best first"),
        TensorSpec(name="probability", dtype="float32", shape=("batch", "labels"), minimum=0.0, maximum=1.0),
    )

    def decode(self, outputs: Arrays) -> Arrays:
        """Decode a batch of logits [batch, classes]."""
        logits = outputs[self.config.output].astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        probability = odds / odds.sum(axis=1, keepdims=True)
        label = np.argsort(-logits, axis=1, kind="stable")[:, : self.config.count]
        best = np.take_along_axis(probability, label, axis=1)
        return {"label": label.astype(np.int64), "probability": best.astype(np.float32)}
