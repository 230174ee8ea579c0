"""Tensors as JSON numbers, flat or nested, row-major."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.protocol.faults import RequestFault

_ACCEPTED: Final = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}
_WORDS: Final = {"b": "true and false", "u": "whole numbers", "i": "whole numbers", "f": "numbers"}


def read_json_tensor(data: object, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Return the tensor that JSON ``data`` gives.

    Args:
        data: a list of numbers, flat or nested as ``shape`` says.
        where: whose data it is, for the message.

    Raises:
        RequestFault: not a list, ragged, of another count or nesting than ``shape``, not numbers of this dtype, or
            out of its range; FP16 has no JSON form.
    """
    if dtype.itemsize == 2 and dtype.kind == "f":
        raise RequestFault(f"{where}: FP16 has no JSON form; send it as binary data")
    if type(data) is not list:
        raise RequestFault(f"{where}: 'data' must be a list, got {type(data).__name__}")
    try:
        values = np.array(data)
    except (ValueError, OverflowError) as error:
        raise RequestFault(f"{where}: 'data' must be a flat list or a regular nesting of lists") from error
    wanted = 1
    for size in shape:
        wanted *= size
    if values.size != wanted:
        raise RequestFault(f"{where}: shape {list(shape)} wants {wanted} numbers, 'data' holds {values.size}")
    if values.ndim > 1 and values.shape != shape:
        raise RequestFault(f"{where}: 'data' is nested as {list(values.shape)}, 'shape' says {list(shape)}")
    if values.size == 0:
        return np.zeros(shape, dtype)
    if values.dtype.kind not in _ACCEPTED[dtype.kind]:
        raise RequestFault(f"{where}: 'data' must hold {_WORDS[dtype.kind]} for {dtype}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise RequestFault(f"{where}: values from {low} to {high} do not fit {dtype}")
    # A number beyond float32 becomes infinity here and is refused with its name by the signature's check.
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False).reshape(shape)
