"""The hard form: a value that holds the discretized model, how it may be written and what it promises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from deploykit.errors import ContractError

if TYPE_CHECKING:
    from torch import nn

DEFAULT_LOWERING: Final = "onnx"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be from its reference: ``|x - y| <= absolute + relative * |y|``.

    The default is equality, bit for bit.
    """

    absolute: float = 0.0
    relative: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether only equality will do."""
        return self.absolute == 0.0 and self.relative == 0.0


FLOAT32: Final = Tolerance(absolute=1e-5, relative=1e-4)
"""For float32 networks whose sums may be reordered by a runtime."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the author promises of the written file; ``verify`` measures it and fails the bundle if it does not hold.

    Attributes:
        tolerance: oracle against hard form, and hard form against every written file.
        weight_bytes: upper bound for the bytes of all initializers of a file.
        weight_dtypes: dtypes (numpy or ONNX names, ``int4`` too) that initializers of more than
            ``small_initializer`` elements may have; empty means any.
        small_initializer: initializers of at most this many elements (scales, biases, thresholds) are not looked at.
        macs: multiply-accumulate operations that one sample executes, as counted from the runtime's own record of
            the shapes that ran; an upper bound. ``None`` promises nothing.
        absent: parts of parameter names that must not survive in the file (``gate``, ``threshold_head``).
        forbidden_operators: ONNX operators that would betray a leftover of the relaxation.

    Raises:
        ContractError: names were not given as a tuple.
    """

    tolerance: Tolerance = FLOAT32
    weight_bytes: int | None = None
    weight_dtypes: tuple[str, ...] = ()
    small_initializer: int = 4096
    macs: int | None = None
    absent: tuple[str, ...] = ()
    forbidden_operators: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("weight_dtypes", "absent", "forbidden_operators"):
            value = getattr(self, name)
            if not isinstance(value, tuple):  # a lone text would be taken for its letters
                raise ContractError(f"a promise's {name} must be a tuple of texts such as ('gate',), got {value!r}")


@dataclass(frozen=True, slots=True)
class Lowering:
    """One way to write a hard form into an ONNX file.

    Attributes:
        module: what is exported; ``None`` means the hard form's own module.
        translations: ``package.module:function`` returning the table from torch operators to onnxscript functions
            for the method's own operators; looked up in the exporting process, so it must be importable there.
        targets: which targets this writing serves: ``onnxruntime``, ``tensorrt``, ``openvino``.
        purpose: one line for people who choose between lowerings.
        dynamic_batch: false if the file is for batch 1 only.
    """

    module: nn.Module | None = None
    translations: str = ""
    targets: tuple[str, ...] = ("onnxruntime", "tensorrt")
    purpose: str = ""
    dynamic_batch: bool = True


def _one_lowering() -> Mapping[str, Lowering]:
    return {DEFAULT_LOWERING: Lowering()}


_LOWERING_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class HardForm:
    """A discretized model: decisions taken, nothing shared with the soft form, only exportable operators.

    Attributes:
        module: takes the same inputs as the soft form in eval mode and gives the same outputs.
        promise: what holds for every file written from it.
        lowerings: how it may be written, by name; the name becomes the variant's and the file's name.
        decoder: name of the registered decoder for its outputs, or empty.
        decoder_config: settings of that decoder.
        facts: what the author wants on the model card (``{"kept channels": "16 of 32"}``).

    Raises:
        ContractError: a lowering's name cannot be a file's name.
    """

    module: nn.Module
    promise: Promise = Promise()
    lowerings: Mapping[str, Lowering] = field(default_factory=_one_lowering)
    decoder: str = ""
    decoder_config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.lowerings:
            if not _LOWERING_NAME.fullmatch(name):
                raise ContractError(
                    f"a lowering's name becomes a file's name: wanted lower case letters, digits, '-' or '_', "
                    f"got {name!r}"
                )
