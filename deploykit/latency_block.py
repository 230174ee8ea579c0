"""What a latency table is keyed by: the block as the runtime fuses it, and the environment it was measured in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from deploykit.errors import DeploykitError

_NUMBERS: Final = ("channels_in", "channels_out", "height", "width", "stride", "groups", "dilation")
_OTHER_OPERATOR: Final = 100.0
_OTHER_ENDING: Final = 10.0


class LatencyTableError(DeploykitError):
    """A latency table cannot answer, or cannot be read: a block is not in it, or it is of another environment."""


class _Key(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Block(_Key):
    """Canonical description of a candidate block as it will run, after fusion; two equal ones take equally long.

    Blocks are compared exactly and never interpolated: on a CPU with 16 floats a register a separable convolution takes
    14 us with 16 channels and 38 us with 17.

    Attributes:
        operator: id of what it computes, kernel size included, for example ``sep_3``; several operators that are fused
            or share a layout are one block, for example ``sep_3+max_3``.
        height, width: of its input, in pixels; a sequence has height 1.
        residual: whether it ends in an addition onto another state.
        activation: what it ends in; empty for nothing.
    """

    operator: str = Field(min_length=1)
    channels_in: int = Field(ge=1)
    channels_out: int = Field(ge=1)
    height: int = Field(1, ge=1)
    width: int = Field(1, ge=1)
    stride: int = Field(1, ge=1)
    groups: int = Field(1, ge=1)
    dilation: int = Field(1, ge=1)
    residual: bool = False
    activation: str = ""

    def __str__(self) -> str:
        """Return it in one line.

        >>> print(Block(operator="sep_3", channels_in=16, channels_out=32, height=8, width=8, activation="relu"))
        sep_3 16>32 8x8 +relu
        """
        words = [self.operator, f"{self.channels_in}>{self.channels_out}", f"{self.height}x{self.width}"]
        words += [
            f"{name} {getattr(self, name)}" for name in ("stride", "groups", "dilation") if getattr(self, name) > 1
        ]
        words += ["+residual"] * self.residual + [f"+{self.activation}"] * bool(self.activation)
        return " ".join(words)

    def distance(self, other: Block) -> float:
        """Return how unlike two blocks are: 0 for the same; another operator weighs more than any size."""
        sizes = sum(abs(math.log(getattr(self, name) / getattr(other, name))) for name in _NUMBERS)
        ends = (self.residual != other.residual) + (self.activation != other.activation)
        return sizes + _OTHER_ENDING * ends + _OTHER_OPERATOR * (self.operator != other.operator)


def nearest(block: Block, measured: Iterable[Block], count: int = 3) -> list[Block]:
    """Return the measured blocks that are most like one that is missing, the nearest first."""
    return sorted(measured, key=lambda other: (block.distance(other), str(other)))[:count]


class Environment(_Key):
    """Everything beside the block that decides how long it takes; a time counts only where all of it is the same.

    Attributes:
        host: id of the machine's fingerprint, as in a profile.
        runtime: name of the runtime, for example ``onnxruntime-cpu``.
        version: what the runtime says it depends on, see :meth:`deploykit.Runtime.version`.
        threads: threads inside one operator.
        spin: whether idle threads spin.
        batch: samples a call.
        precision: of the blocks' arithmetic.
        optimization: level of the runtime's graph optimisation.
    """

    host: str = Field(min_length=1)
    runtime: str = Field(min_length=1)
    version: str
    threads: int = Field(1, ge=1)
    spin: bool = False
    batch: int = Field(1, ge=1)
    precision: str = "float32"
    optimization: str = "all"

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that stand for all fields."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def differences(self, other: Environment) -> list[str]:
        """Return what differs, one text a field, this one's value first.

        >>> here = Environment(host="a", runtime="onnxruntime-cpu", version="onnxruntime 1.32.0")
        >>> here.differences(here.model_copy(update={"threads": 2}))
        ['threads 1, not 2']
        """
        ours, theirs = self.model_dump(), other.model_dump()
        return [f"{name} {ours[name]}, not {theirs[name]}" for name in ours if ours[name] != theirs[name]]
