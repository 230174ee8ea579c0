"""The manifest: what a bundle says about itself, as a versioned schema."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploykit.hard_form import Tolerance
from deploykit.signature import Signature

SCHEMA_VERSION: Final = 1
Role = Literal["hard", "baseline"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Part):
    """One file of the bundle: its size in bytes and its hash."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ToleranceEntry(_Part):
    """How far numbers may be from their reference; both zero means equal bit for bit."""

    absolute: float = Field(0.0, ge=0)
    relative: float = Field(0.0, ge=0)

    def value(self) -> Tolerance:
        """Return it as the contract's type."""
        return Tolerance(self.absolute, self.relative)


class PromiseEntry(_Part):
    """What the method promised of its files; see :class:`deploykit.Promise`."""

    tolerance: ToleranceEntry = ToleranceEntry(absolute=0.0, relative=0.0)
    weight_bytes: int | None = None
    weight_dtypes: tuple[str, ...] = ()
    small_initializer: int = 4096
    macs: int | None = None
    absent: tuple[str, ...] = ()
    forbidden_operators: tuple[str, ...] = ()


class VariantEntry(_Part):
    """One runnable file.

    Attributes:
        name: the lowering's name, or ``float`` for the baseline.
        role: ``hard`` for a writing of the hard form, ``baseline`` for the float model it replaces.
        file: path inside the bundle.
        targets: which targets this file serves: ``onnxruntime``, ``tensorrt``, ``openvino``.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    role: Role = "hard"
    file: str
    targets: tuple[str, ...] = ("onnxruntime",)
    purpose: str = ""
    dynamic_batch: bool = True


class Acceptance(_Part):
    """A failed proof that somebody accepted, with the reason given."""

    proof: str
    reason: str
    when: str


class Manifest(_Part):
    """What a bundle holds; every file but the manifest itself is listed with size and hash.

    Attributes:
        method: the method's registered name; empty for a file that was made elsewhere.
    """

    schema_version: int = SCHEMA_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    created: str
    method: str
    config: dict[str, Any] = Field(default_factory=dict)
    task: str = ""
    network: str = ""
    signature: Signature
    decoder: str = ""
    decoder_config: dict[str, Any] = Field(default_factory=dict)
    variants: tuple[VariantEntry, ...]
    promise: PromiseEntry = PromiseEntry()
    facts: dict[str, str] = Field(default_factory=dict)
    toolchain: dict[str, str] = Field(default_factory=dict)
    accepted: tuple[Acceptance, ...] = ()
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _variants_exist(self) -> Manifest:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"variant names must be unique, got {names}")
        if not any(variant.role == "hard" for variant in self.variants):
            raise ValueError("there is no variant of the hard form")
        for variant in self.variants:
            if variant.file not in self.files:
                raise ValueError(f"variant {variant.name!r}: file {variant.file!r} is not listed")
        return self

    def variant(self, name: str) -> VariantEntry | None:
        """Return the variant called ``name``, or ``None``."""
        return next((variant for variant in self.variants if variant.name == name), None)

    @property
    def hard_variants(self) -> tuple[VariantEntry, ...]:
        """The writings of the hard form; the first is the one served by default."""
        return tuple(variant for variant in self.variants if variant.role == "hard")
