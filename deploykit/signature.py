"""What a model takes and gives: named tensors with symbolic dimensions, dtypes and ranges.

A dimension is a positive number or a name. A name that occurs twice means the same size in both places; a dimension
called ``batch`` counts samples and always comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploykit.errors import SignatureError

BATCH: Final = "batch"
Arrays = Mapping[str, NDArray[Any]]
DType = Literal[
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"
]
Size = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Dim(BaseModel):
    """Limits of a symbolic dimension.

    Attributes:
        multiple: sizes must be a multiple of this (32 for a detector with five halvings).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(1, ge=1)
    max: int | None = Field(None, ge=1)
    multiple: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _some_size_fits(self) -> Dim:
        smallest = -(-self.min // self.multiple) * self.multiple
        if self.max is not None and smallest > self.max:
            raise ValueError(f"no size fits: at least {self.min}, at most {self.max}, a multiple of {self.multiple}")
        return self

    def fault(self, size: int) -> str:
        """Return what is wrong with ``size`` as text, or nothing."""
        if size < self.min:
            return f"at least {self.min}"
        if self.max is not None and size > self.max:
            return f"at most {self.max}"
        if size % self.multiple:
            return f"a multiple of {self.multiple}"
        return ""


class TensorSpec(BaseModel):
    """One named tensor.

    Attributes:
        shape: sizes in order, each a number or the name of a symbolic dimension.
        minimum: smallest legal value, in the tensor's own units; ``None`` if unbounded.
        maximum: largest legal value; ``None`` if unbounded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    dtype: DType = "float32"
    shape: tuple[Size, ...]
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""

    @model_validator(mode="after")
    def _some_value_fits(self) -> TensorSpec:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"{self.text()}: the minimum {self.minimum:g} is above the maximum {self.maximum:g}")
        return self

    def text(self) -> str:
        """Return it as people write it: ``image float32[batch, 1, 8, 8]``."""
        return f"{self.name} {self.dtype}[{', '.join(str(size) for size in self.shape)}]"


class Signature(BaseModel):
    """Inputs and outputs of a model, in the order in which it takes and gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    dims: dict[str, Dim] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Signature:
        names = [spec.name for spec in (*self.inputs, *self.outputs)]
        if len(set(names)) != len(names):
            raise ValueError(f"tensor names must be unique, got {names}")
        used = {size for spec in (*self.inputs, *self.outputs) for size in spec.shape if isinstance(size, str)}
        if unused := set(self.dims) - used:
            raise ValueError(f"dims {sorted(unused)} belong to no tensor")
        for spec in (*self.inputs, *self.outputs):
            if BATCH in spec.shape[1:]:
                raise ValueError(f"{spec.text()}: the dimension {BATCH!r} must come first")
        return self

    @property
    def batched(self) -> bool:
        """Whether every input counts samples along its first dimension."""
        return all(spec.shape[:1] == (BATCH,) for spec in self.inputs)

    def dim(self, name: str) -> Dim:
        """Return the limits of a symbolic dimension; without an entry it is unbounded."""
        return self.dims.get(name, Dim())

    def check_inputs(self, arrays: Arrays) -> dict[str, int]:
        """Check arrays against the inputs.

        Returns:
            the sizes that the symbolic dimensions have in ``arrays``.

        Raises:
            SignatureError: a name is missing or unknown, or a dtype, rank, size, value or range does not fit.
        """
        return self._check(self.inputs, arrays, "input")

    def check_outputs(self, arrays: Arrays) -> dict[str, int]:
        """Check arrays against the outputs; returns and raises as :meth:`check_inputs`."""
        return self._check(self.outputs, arrays, "output")

    def _check(self, specs: tuple[TensorSpec, ...], arrays: Arrays, kind: str) -> dict[str, int]:
        wanted = [spec.name for spec in specs]
        if missing := [name for name in wanted if name not in arrays]:
            raise SignatureError(f"{kind} {missing[0]!r} is missing; wanted {', '.join(s.text() for s in specs)}")
        if unknown := [name for name in arrays if name not in wanted]:
            raise SignatureError(f"unknown {kind} {unknown[0]!r}; wanted {', '.join(s.text() for s in specs)}")
        sizes: dict[str, int] = {}
        for spec in specs:
            self._check_shape(spec, arrays[spec.name], kind, sizes)
            _check_values(spec, arrays[spec.name], kind)
        return sizes

    def _check_shape(self, spec: TensorSpec, array: NDArray[Any], kind: str, sizes: dict[str, int]) -> None:
        got = f"got {array.dtype}[{', '.join(str(size) for size in array.shape)}]"
        where = f"{kind} {spec.name!r}: wanted {spec.dtype}[{', '.join(str(s) for s in spec.shape)}], {got}"
        if array.dtype != np.dtype(spec.dtype):
            raise SignatureError(where)
        if array.ndim != len(spec.shape):
            raise SignatureError(f"{where}: {array.ndim} dimensions instead of {len(spec.shape)}")
        for size, wanted in zip(array.shape, spec.shape, strict=True):
            if isinstance(wanted, int):
                if size != wanted:
                    raise SignatureError(where)
                continue
            if sizes.setdefault(wanted, size) != size:
                raise SignatureError(f"{where}: {wanted!r} is {sizes[wanted]} elsewhere and {size} here")
            if fault := self.dim(wanted).fault(size):
                raise SignatureError(f"{where}: {wanted!r} must be {fault}, got {size}")


def _check_values(spec: TensorSpec, array: NDArray[Any], kind: str) -> None:
    if not array.size:
        return
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise SignatureError(f"{kind} {spec.name!r}: holds NaN or infinity; wanted finite numbers")
    low, high = float(array.min()), float(array.max())
    if (spec.minimum is not None and low < spec.minimum) or (spec.maximum is not None and high > spec.maximum):
        floor = "-infinity" if spec.minimum is None else f"{spec.minimum:g}"
        ceiling = "infinity" if spec.maximum is None else f"{spec.maximum:g}"
        raise SignatureError(f"{kind} {spec.name!r}: values from {low:g} to {high:g}; wanted {floor} to {ceiling}")
