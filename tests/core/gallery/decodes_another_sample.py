"""Its decoder counts samples from one, so that every client reads its neighbour's answer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from deploykit import Decoder, DecoderCard, TensorSpec, hookimpl
from deploykit.signature import Arrays


class Shifted(Decoder):
    outputs = (
        TensorSpec(name="kind", dtype="int64", shape=("found",)),
        TensorSpec(name="sample", dtype="int64", shape=("found",)),
    )

    def decode(self, outputs: Arrays) -> Arrays:
        sample, kind = np.nonzero(outputs["y"] > 0)
        return {"kind": kind, "sample": sample + 1}


@hookimpl
def deploykit_decoders() -> Iterable[DecoderCard]:
    yield DecoderCard("gallery-shifted", "decodes another sample", f"{__name__}:Shifted")
