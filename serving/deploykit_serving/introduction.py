"""A model introduced to people: what it takes, and a request that works as it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from deploykit.signature import Signature
from deploykit_serving.choice.measured import MeasuredVariants
from deploykit_serving.models import LoadedModel
from deploykit_serving.protocol.budget import HEADER, PARAMETER
from deploykit_serving.protocol.datatypes import datatype_of
from deploykit_serving.samples import made_up
from deploykit_serving.selection.units import percentile_name

_SHOWN_ELEMENTS: Final = 1000


def describe(signature: Signature) -> str:
    """Return a signature as one line."""
    inputs = ", ".join(spec.text() for spec in signature.inputs)
    return f"{inputs} -> {', '.join(spec.text() for spec in signature.outputs)}"


def summary(model: LoadedModel) -> str:
    """Return name, signature, variants (the default first, with the time of a warm run) and decoder as text.

    Of a deployment's variants also metric and measured latency, and which requests it answers by them.
    """
    lines = [f"  {model.name}", f"    signature {describe(model.signature)}"]
    if model.choice is None:
        variants = ", ".join(f"{variant.name} ({variant.seconds * 1e6:.0f} us)" for variant in model.variants.values())
        lines.append(f"    variants  {variants}")
    else:
        lines += _deployed(model, model.choice)
    if model.decoder is not None:
        lines.append(f"    decoder   {model.manifest.decoder}")
    return "\n".join(lines)


def _deployed(model: LoadedModel, measured: MeasuredVariants) -> Iterator[str]:
    deployment = measured.deployment
    percentile = percentile_name(deployment.percentile)
    label = "variants "
    for known in measured.variants:
        metric = "metric unknown" if known.metric is None else f"metric {known.metric:.4g}"
        milliseconds = 1e3 * known.curve.seconds(deployment.batch)
        yield (
            f"    {label} {known.name} ({metric}, {percentile} {milliseconds:.3g} ms at batch {deployment.batch}, "
            f"warm run {model.variants[known.name].seconds * 1e6:.0f} us)"
        )
        label = " " * len(label)
    yield (
        f"    budget    {deployment.budget_ms:g} ms at {percentile} without another one; a request's own: "
        f"parameter {PARAMETER} or header {HEADER}"
    )
    if measured.foreign:
        yield f"    warning   latencies may not hold here: {measured.foreign}"


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
