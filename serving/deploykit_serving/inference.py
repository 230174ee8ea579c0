"""One infer request, from parsed inputs to a written answer; the same work on the event loop and on a thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.decoder import Decoder
from deploykit_serving.models import VERSION, LoadedModel, Variant, decoded
from deploykit_serving.protocol.faults import RequestFault, shown
from deploykit_serving.protocol.infer_request import InferRequest
from deploykit_serving.protocol.infer_response import Answer, Headers, write_infer_response


def choose(model: LoadedModel, request: InferRequest) -> Variant:
    """Return the variant that will answer, after everything that can be refused before it runs has been.

    Raises:
        RequestFault: no such variant or output, or no decoder to apply.
        SignatureError: the inputs do not fit the signature.
    """
    variant = model.variant(request.variant)
    model.check(variant, request.inputs)
    if request.decode and model.decoder is None:
        raise RequestFault(f"model {model.name!r} has no decoder; leave the parameter 'decode' out")
    if request.outputs:
        names = [spec.name for spec in model.signature.outputs]
        if request.decode and model.decoder is not None:
            names += [spec.name for spec in model.decoder.outputs]
        for wish in request.outputs:
            if wish.name not in names:
                raise RequestFault(
                    f"model {model.name!r} has no output {shown(wish.name)}; there are: {', '.join(names)}"
                )
    return variant


def answer(model: LoadedModel, variant: Variant, request: InferRequest) -> tuple[Headers, bytes]:
    """Run a chosen variant and write the response.

    Raises:
        RequestFault: an output cannot be written as it was asked for.
        Exception: the runtime or the decoder failed; not the caller's fault.
    """
    outputs: Mapping[str, NDArray[Any]] = variant.session.run(request.inputs)
    if request.decode and model.decoder is not None:
        outputs = _with_decoded(model.decoder, outputs, keep=bool(request.outputs))
    if request.outputs:
        answers = [Answer(wish.name, outputs[wish.name], wish.binary) for wish in request.outputs]
    else:
        answers = [Answer(name, array, request.binary) for name, array in outputs.items()]
    parameters = {"variant": variant.name} if variant is not model.default else None
    return write_infer_response(model.name, VERSION, request.id, answers, parameters)


def _with_decoded(decoder: Decoder, outputs: Mapping[str, NDArray[Any]], keep: bool) -> dict[str, NDArray[Any]]:
    """Return the decoder's arrays; the raw outputs stay beside them where somebody may have named one."""
    result = {name: np.asarray(array) for name, array in decoded(decoder, outputs).items()}
    return {**outputs, **result} if keep else result
