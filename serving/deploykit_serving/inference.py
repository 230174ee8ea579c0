"""One infer request, from parsed inputs to a written answer; the same work on the event loop and on a thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploykit.decoder import Decoder
from deploykit_serving.models import VERSION, LoadedModel, Variant, decoded
from deploykit_serving.protocol.faults import RequestFault, shown
from deploykit_serving.protocol.infer_request import InferRequest
from deploykit_serving.protocol.infer_response import Answer, Headers, write_infer_response


def choose(model: LoadedModel, request: InferRequest) -> Variant:
    """Return the variant of a bundle that will answer, after everything that can be refused before it runs has been.

    Raises:
        RequestFault: no such variant or output, no decoder to apply, or a budget that nothing is known to meet.
        SignatureError: the inputs do not fit the signature.
    """
    variant = model.variant(request.variant)
    model.check(variant, request.inputs)
    if request.budget_ms is not None:
        raise no_budget(model)
    _check_wishes(model, request)
    return variant


def check(model: LoadedModel, request: InferRequest) -> None:
    """Check a request to a deployment, all but whether anything can answer it in time.

    Raises:
        RequestFault: no such variant or output, or no decoder to apply.
        SignatureError: the inputs do not fit the signature.
    """
    if request.variant:
        model.check(model.variant(request.variant), request.inputs)
    else:
        model.gate.check(request.inputs)
    _check_wishes(model, request)


def no_budget(model: LoadedModel) -> RequestFault:
    """Say why a bundle takes no budget: a promise that cannot be kept is not made."""
    return RequestFault(
        f"model {model.name!r} is served without measured latencies, so it can keep no latency budget; leave it out, "
        "or serve a deployment file as 'deploykit select' writes it"
    )


def _check_wishes(model: LoadedModel, request: InferRequest) -> None:
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


def answer(model: LoadedModel, variant: Variant, request: InferRequest) -> tuple[Headers, bytes]:
    """Run a chosen variant and write the response.

    Raises:
        RequestFault: an output cannot be written as it was asked for.
        Exception: the runtime or the decoder failed; not the caller's fault.
    """
    answers = _computed(model, variant, request)
    parameters = {"variant": variant.name} if variant is not model.default else None
    headers, body = write_infer_response(model.name, VERSION, request.id, answers, parameters)
    headers.append(variant.header)
    return headers, body


class Timed(NamedTuple):
    """A response that tells its times, and how many seconds it took a thread from the first input to the last byte."""

    headers: Headers
    body: bytes
    seconds: float


def timed_answer(model: LoadedModel, variant: Variant, request: InferRequest, waited: float) -> Timed:
    """Run a chosen variant and write a response that says which it was, how long it waited and how long it ran.

    Args:
        waited: seconds that the request was in line.

    Raises:
        RequestFault: an output cannot be written as it was asked for.
        Exception: the runtime or the decoder failed; not the caller's fault.
    """
    started = time.perf_counter()
    answers = _computed(model, variant, request)
    times = {"queue_us": round(waited * 1e6), "compute_us": round((time.perf_counter() - started) * 1e6)}
    headers, body = write_infer_response(model.name, VERSION, request.id, answers, {"variant": variant.name, **times})
    headers.append(variant.header)
    headers.append((b"deploykit-queue-us", b"%d" % times["queue_us"]))
    headers.append((b"deploykit-compute-us", b"%d" % times["compute_us"]))
    return Timed(headers, body, time.perf_counter() - started)


def _computed(model: LoadedModel, variant: Variant, request: InferRequest) -> list[Answer]:
    outputs: Mapping[str, NDArray[Any]] = variant.session.run(request.inputs)
    if request.decode and model.decoder is not None:
        outputs = _with_decoded(model.decoder, outputs, keep=bool(request.outputs))
    if request.outputs:
        return [Answer(wish.name, outputs[wish.name], wish.binary) for wish in request.outputs]
    return [Answer(name, array, request.binary) for name, array in outputs.items()]


def _with_decoded(decoder: Decoder, outputs: Mapping[str, NDArray[Any]], keep: bool) -> dict[str, NDArray[Any]]:
    """Return the decoder's arrays; the raw outputs stay beside them where somebody may have named one."""
    result = {name: np.asarray(array) for name, array in decoded(decoder, outputs).items()}
    return {**outputs, **result} if keep else result
