"""A model introduced to people: what it takes, and a request that works as it stands."""

from __future__ import annotations

import json
from typing import Any, Final

from deploykit.signature import Signature
from deploykit_serving.models import LoadedModel
from deploykit_serving.protocol.datatypes import datatype_of
from deploykit_serving.samples import made_up

_SHOWN_ELEMENTS: Final = 1000


def describe(signature: Signature) -> str:
    """Return a signature as one line."""
    inputs = ", ".join(spec.text() for spec in signature.inputs)
    return f"{inputs} -> {', '.join(spec.text() for spec in signature.outputs)}"


def summary(model: LoadedModel) -> str:
    """Return name, signature, variants (the default first, with the time of a warm run) and decoder as text."""
    variants = ", ".join(f"{variant.name} ({variant.seconds * 1e6:.0f} us)" for variant in model.variants.values())
    decoder = f"\n    decoder   {model.manifest.decoder}" if model.decoder is not None else ""
    return f"  {model.name}\n    signature {describe(model.signature)}\n    variants  {variants}{decoder}"


def example_request(model: LoadedModel) -> str:
    """Return an infer request as JSON that the model accepts; empty if it would not fit on a screen."""
    arrays = made_up(model.signature)
    if sum(array.size for array in arrays.values()) > _SHOWN_ELEMENTS:
        return ""
    inputs: list[dict[str, Any]] = [
        {"name": name, "shape": list(array.shape), "datatype": datatype_of(array.dtype), "data": array.ravel().tolist()}
        for name, array in arrays.items()
    ]
    return json.dumps({"inputs": inputs}, separators=(",", ":"))
