"""Decoder: host post-processing that is not tensor code, in numpy, without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from deploykit.cards import DecoderCard
    from deploykit.signature import Arrays, TensorSpec


class DecoderConfig(BaseModel):
    """Base of every decoder's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Decoder(ABC):
    """Turns a model's raw outputs into what a client wants: boxes, matches, strings.

    Attributes:
        card: set by the registry.
        outputs: the arrays :meth:`decode` returns; free sizes have names of their own.
    """

    Config: ClassVar[type[DecoderConfig]] = DecoderConfig
    outputs: ClassVar[tuple[TensorSpec, ...]]
    card: DecoderCard

    def __init__(self, config: DecoderConfig | None = None) -> None:
        self.config: Any = self.Config() if config is None else config

    @abstractmethod
    def decode(self, outputs: Arrays) -> Arrays:
        """Decode a batch.

        Args:
            outputs: the model's outputs by name, batch first.

        Returns:
            arrays as declared in ``outputs``; where samples give different counts, rows are concatenated and an
            int64 array ``sample`` says which sample each row belongs to.
        """
