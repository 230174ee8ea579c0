"""Inputs to warm a model up and to test it with: the bundle's held-out samples, or legal numbers without meaning."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import BundleError
from deploykit.signature import BATCH, Signature, TensorSpec

HELDOUT: Final = "samples/heldout.npz"
_FREE_SIZE: Final = 32

Named = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Inputs and the outputs that the hard form gave for them."""

    inputs: Named
    outputs: Named

    def parts(self, batched: bool, rows: int) -> Iterator[HeldOut]:
        """Yield the samples in groups of ``rows``; all at once if nothing counts samples."""
        count = min(len(array) for array in self.inputs.values()) if batched else 0
        if not batched or any(len(array) != count for array in (*self.inputs.values(), *self.outputs.values())):
            yield self
            return
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            yield HeldOut(
                {name: array[part] for name, array in self.inputs.items()},
                {name: array[part] for name, array in self.outputs.items()},
            )


def held_out(bundle: Bundle) -> HeldOut | None:
    """Return the bundle's held-out samples, or ``None`` if it has none.

    Raises:
        BundleError: the file is no npz of plain arrays, or lacks inputs or outputs.
    """
    if HELDOUT not in bundle.manifest.files:
        return None
    groups: dict[str, Named] = {"input": {}, "output": {}}
    try:
        with np.load(io.BytesIO(bundle.read(HELDOUT)), allow_pickle=False) as archive:
            for key in archive.files:
                group, _, name = key.partition("/")
                if group in groups:
                    groups[group][name] = archive[key]
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{bundle.path}: {HELDOUT!r} is not an npz of plain arrays: {error}") from error
    if not groups["input"] or not groups["output"]:
        raise BundleError(f"{bundle.path}: {HELDOUT!r} needs arrays 'input/NAME' and 'output/NAME'")
    return HeldOut(groups["input"], groups["output"])


def made_up(signature: Signature) -> Named:
    """Return inputs for one sample that fit the signature and mean nothing: zeros, or the nearest legal number."""
    return {spec.name: _legal(spec, signature) for spec in signature.inputs}


def _legal(spec: TensorSpec, signature: Signature) -> NDArray[Any]:
    value = 0.0 if spec.minimum is None else max(0.0, spec.minimum)
    if spec.maximum is not None:
        value = min(value, spec.maximum)
    return np.full([_size(size, signature) for size in spec.shape], value, np.dtype(spec.dtype))


def _size(size: int | str, signature: Signature) -> int:
    if isinstance(size, int):
        return size
    limits = signature.dim(size)
    wanted = max(limits.min, 1 if size == BATCH else _FREE_SIZE)
    rounded = -(-wanted // limits.multiple) * limits.multiple
    if limits.max is not None and rounded > limits.max:
        rounded = limits.max // limits.multiple * limits.multiple
    return rounded
