"""Tensors as JSON numbers, flat or nested, row-major."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.protocol.faults import RequestFault, shown

_ACCEPTED: Final[dict[str, set[type]]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
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
    wanted = math.prod(shape)
    if wanted and data and type(data[0]) is list:
        data = _flat(data, shape, where)
    if len(data) != wanted:
        raise RequestFault(f"{where}: shape {shown(list(shape))} wants {wanted} numbers, 'data' holds {len(data)}")
    # Looked at before numpy sees them: it would make an array of the longest string's size times the count.
    if not set(map(type, data)) <= _ACCEPTED[dtype.kind]:
        raise RequestFault(f"{where}: 'data' must hold {_WORDS[dtype.kind]} for {dtype}")
    if not data:
        return np.zeros(shape, dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = min(data), max(data)
        if low < limits.min or high > limits.max:
            raise RequestFault(f"{where}: values from {low} to {high} do not fit {dtype}")
    # A number beyond float32 becomes infinity here and is refused with its name by the signature's check.
    with np.errstate(over="ignore"):
        return np.array(data, dtype).reshape(shape)


def _flat(data: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    """Return the numbers in lists that are nested as ``shape`` says."""
    regular = len(shape) > 1 and len(data) == shape[0]
    for size in shape[1:]:
        regular = regular and all(type(item) is list and len(item) == size for item in data)
        if regular:
            data = list(chain.from_iterable(data))
    if not regular:
        raise RequestFault(
            f"{where}: 'data' must be a flat list, or lists nested as 'shape' says: {shown(list(shape))}"
        )
    return data
