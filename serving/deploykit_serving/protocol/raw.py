"""Raw requests: the body is one tensor and nothing else (``Inference-Header-Content-Length: 0``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploykit.signature import BATCH, Signature
from deploykit_serving.protocol.binary_tensors import read_binary_tensor
from deploykit_serving.protocol.faults import RequestFault


def read_raw_tensor(body: bytes, signature: Signature) -> dict[str, NDArray[np.generic]]:
    """Return the only input, as one sample.

    Its shape follows from the signature: the batch is 1, and one other free dimension may follow from the body's size.

    Raises:
        RequestFault: the model has several inputs or several free dimensions, or the size does not fit.
    """
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise RequestFault(f"a raw request needs a model with one input; this one has {names}: send a JSON header")
    spec = signature.inputs[0]
    dtype = np.dtype(spec.dtype)
    shape = [1 if size == BATCH else size for size in spec.shape]
    free = [axis for axis, size in enumerate(shape) if isinstance(size, str)]
    if len(free) > 1:
        raise RequestFault(f"a raw request cannot give the shape of {spec.text()}: send a JSON header")
    if free:
        rest = dtype.itemsize
        for size in shape:
            rest *= size if isinstance(size, int) else 1
        if len(body) % rest:
            raise RequestFault(f"a raw request for {spec.text()} takes a multiple of {rest} bytes, got {len(body)}")
        shape[free[0]] = len(body) // rest
    sizes = tuple(int(size) for size in shape)
    wanted = dtype.itemsize
    for size in sizes:
        wanted *= size
    if wanted != len(body):
        raise RequestFault(f"a raw request for {spec.text()} takes {wanted} bytes (one sample), got {len(body)}")
    return {spec.name: read_binary_tensor(body, 0, len(body), dtype, sizes, spec.name)}
