"""Inputs drawn at random within a signature: what its ranges, dtypes and dimensions allow, and nothing cleverer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import SignatureError
from deploykit.signature import Signature, TensorSpec

_UNBOUNDED: Final = {"f": (-1.0, 1.0), "i": (0, 100), "u": (0, 100), "b": (0, 1)}


def random_inputs(
    signature: Signature, random: np.random.Generator, sizes: Mapping[str, int] | None = None
) -> dict[str, NDArray[Any]]:
    """Draw inputs uniformly within the signature's ranges; an open end is put at -1, 1 (floats) or 0, 100 (integers).

    Args:
        sizes: of symbolic dimensions by name; the smallest legal size where nothing is said.

    Raises:
        SignatureError: what was drawn is not legal, because a range is empty or a size is out of bounds.
    """
    names = {name for spec in signature.inputs for name in spec.shape if isinstance(name, str)}
    smallest = {name: legal_sizes(signature, name, 1)[0] for name in names}
    arrays = {spec.name: _draw(spec, {**smallest, **(sizes or {})}, random) for spec in signature.inputs}
    try:
        signature.check_inputs(arrays)
    except SignatureError as error:
        raise SignatureError(f"no random inputs for this signature: {error}") from error
    return arrays


def legal_sizes(signature: Signature, name: str, count: int) -> tuple[int, ...]:
    """Return up to ``count`` different legal sizes of a symbolic dimension, the smallest first, all of them small.

    The steps between them grow by one: 1, 2, 4, 7 without limits; 32, 64, 128 for multiples of 32.
    """
    dim = signature.dim(name)
    smallest = -(-dim.min // dim.multiple) * dim.multiple
    wanted = (smallest + dim.multiple * (step * (step + 1) // 2) for step in range(count))
    return tuple(size for size in wanted if not dim.fault(size))


def _draw(spec: TensorSpec, sizes: Mapping[str, int], random: np.random.Generator) -> NDArray[Any]:
    shape = tuple(size if isinstance(size, int) else sizes[size] for size in spec.shape)
    dtype = np.dtype(spec.dtype)
    floor, ceiling = _UNBOUNDED[dtype.kind]
    low = floor if spec.minimum is None else spec.minimum
    high = max(ceiling, low) if spec.maximum is None else spec.maximum
    if dtype.kind == "f":
        return random.uniform(min(low, high), high, shape).astype(dtype)
    first = int(np.ceil(min(low, high)))
    # A range without a whole number gives its first neighbour, which the caller's check refuses.
    return random.integers(first, max(first, int(np.floor(high))), shape, endpoint=True).astype(dtype)
