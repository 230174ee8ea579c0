"""Check inputs against a signature in a few microseconds.

The signature's own check gives the good messages and costs more than a small model; the gate answers only whether
everything plainly fits, and asks the signature when it does not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.signature import Arrays, Signature, TensorSpec

_FEW: Final = 32


@dataclass(frozen=True, slots=True)
class _Limits:
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    looked_at: bool
    minimum: float
    maximum: float

    @classmethod
    def of(cls, spec: TensorSpec) -> _Limits:
        dtype = np.dtype(spec.dtype)
        bounded = spec.minimum is not None or spec.maximum is not None
        # Bounds that every finite number keeps and no infinity: what is unbounded must still be finite.
        return cls(
            dtype,
            spec.shape,
            dtype.kind == "f" or bounded,
            -sys.float_info.max if spec.minimum is None else spec.minimum,
            sys.float_info.max if spec.maximum is None else spec.maximum,
        )

    def hold(self, array: NDArray[Any]) -> bool:
        """Whether all numbers are finite and in range; a NaN is neither above nor below anything."""
        if array.size <= _FEW:
            # Cheaper than two calls into numpy.
            low, high = self.minimum, self.maximum
            return all(low <= number <= high for number in array.ravel().tolist())
        return bool(
            np.minimum.reduce(array, axis=None) >= self.minimum and np.maximum.reduce(array, axis=None) <= self.maximum
        )


class InputGate:
    """The checks of one signature's inputs."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._limits = [(spec.name, _Limits.of(spec)) for spec in signature.inputs]
        names = {size for spec in signature.inputs for size in spec.shape if isinstance(size, str)}
        self._dims = {name: signature.dim(name) for name in names}

    def check(self, arrays: Arrays) -> None:
        """Check arrays against the inputs.

        Raises:
            SignatureError: as :meth:`deploykit.Signature.check_inputs`.
        """
        if not self.fits(arrays):
            self._signature.check_inputs(arrays)

    def fits(self, arrays: Arrays) -> bool:
        """Whether the arrays plainly fit; when false, the signature's check has the last word."""
        if len(arrays) != len(self._limits):
            return False
        sizes: dict[str, int] = {}
        for name, limits in self._limits:
            array = arrays.get(name)
            if array is None or array.dtype != limits.dtype or array.ndim != len(limits.shape) or not array.size:
                return False
            for size, wanted in zip(array.shape, limits.shape, strict=True):
                if size != wanted and (isinstance(wanted, int) or sizes.setdefault(wanted, size) != size):
                    return False
            if limits.looked_at and not limits.hold(array):
                return False
        return not any(self._dims[name].fault(size) for name, size in sizes.items())
