"""Tensors as bytes after the JSON header: little-endian, row-major, without padding, in the order of the inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit_serving.protocol.faults import RequestFault, shown


def binary_size(value: object, where: str) -> int:
    """Return a ``binary_data_size``, checked.

    Raises:
        RequestFault: not a whole number of bytes.
    """
    if type(value) is not int or value < 0:
        raise RequestFault(f"{where}: 'binary_data_size' must be a whole number of bytes, got {shown(value)}")
    return value


def read_binary_tensor(
    body: bytes, offset: int, size: int, dtype: np.dtype[Any], shape: tuple[int, ...], where: str
) -> NDArray[Any]:
    """Return ``size`` bytes of ``body`` as a tensor, read-only and without a copy where the alignment allows.

    Raises:
        RequestFault: the body ends too early, ``size`` is not what dtype and shape take, or a BOOL is neither 0 nor 1.
    """
    count = math.prod(shape)
    if count * dtype.itemsize != size:
        raise RequestFault(
            f"{where}: {dtype}{list(shape)} takes {count * dtype.itemsize} bytes, 'binary_data_size' says {size}"
        )
    if offset + size > len(body):
        raise RequestFault(
            f"{where}: wanted {size} bytes of binary data, the body has {max(0, len(body) - offset)} left"
        )
    if size == 0:
        return np.zeros(shape, dtype)
    if dtype.kind == "b" and np.frombuffer(body, np.uint8, count, offset).max() > 1:
        raise RequestFault(f"{where}: a BOOL must be one byte 0 or 1")
    array = np.frombuffer(body, dtype, count, offset).reshape(shape)
    return array if offset % dtype.itemsize == 0 else array.copy()
