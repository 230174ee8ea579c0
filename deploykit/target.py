"""Target: what export can write beside ONNX, from a variant's ONNX file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from deploykit.cards import TargetCard
    from deploykit.signature import Signature


@dataclass(frozen=True, slots=True)
class Written:
    """What a target wrote of one variant.

    Attributes:
        files: bytes by file name, relative, without folders above.
        facts: what the report should say of them (layers, seconds, the builder's version).
    """

    files: Mapping[str, bytes]
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


class Target(ABC):
    """A format of its own: engines, repositories, archives.

    Attributes:
        card: set by the registry.
        starts_from: only variants whose lowering names this target are written; by default those for ONNX Runtime.
        timeout: seconds that writing one variant may take; set by who asks for it, kept to by targets that start
            other programs.
    """

    card: TargetCard
    starts_from: ClassVar[str] = "onnxruntime"
    timeout: float = 300.0

    def missing(self) -> str:
        """Return why nothing can be written on this machine, with the way to mend it; empty if all is there."""
        return ""

    @abstractmethod
    def write(self, variant: str, model: bytes, signature: Signature) -> Written:
        """Write one variant.

        Called once for each variant of the hard form that names :attr:`starts_from`. The bundle keeps the files under
        ``targets/NAME/VARIANT/`` with their hashes.

        Args:
            variant: its name.
            model: the checked bytes of its ONNX file.
            signature: what the model takes and gives.

        Raises:
            ExportError: this variant cannot be written; say what was refused. Others are still tried.
        """
