"""Cards: what a plugin declares about the things it offers, free to import.

A card names its implementation as ``module:attribute``; the module is imported only when the thing is used, so
listing a hundred methods imports neither torch nor onnx.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_-]*")
_PLAIN_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
_TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from."""

    title: str
    year: int
    reference: str = ""


def _check_target(card: str, name: str, implementation: str) -> None:
    if not _TARGET.fullmatch(implementation):
        raise ValueError(f"{card} {name!r}: implementation must read 'package.module:Class', got {implementation!r}")


@dataclass(frozen=True, slots=True)
class MethodCard:
    """A paper's technique, as the registry lists it.

    Attributes:
        name: unique, ``family.method``, lower case.
        summary: one line for ``deploykit methods``.
        implementation: ``package.module:Class``, a subclass of :class:`deploykit.Method`.
        tasks: names of the tasks it is known to train on; the first is the default.
        paper: its source; ``None`` for techniques without one.

    Raises:
        ValueError: name or implementation is malformed.
    """

    name: str
    summary: str
    implementation: str
    tasks: tuple[str, ...] = ()
    paper: Paper | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"method name must read 'family.method' in lower case, got {self.name!r}")
        _check_target("method", self.name, self.implementation)

    @property
    def family(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class TaskCard:
    """Data, loss, metric and example inputs under one name.

    Attributes:
        implementation: ``package.module:Class``, a subclass of :class:`deploykit.Task`.
    """

    name: str
    summary: str
    implementation: str

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"task name must be lower case letters, digits, '-' or '_', got {self.name!r}")
        _check_target("task", self.name, self.implementation)


@dataclass(frozen=True, slots=True)
class DecoderCard:
    """Host post-processing under one name.

    Attributes:
        implementation: ``package.module:Class``, a subclass of :class:`deploykit.Decoder`; must not import torch.
    """

    name: str
    summary: str
    implementation: str

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"decoder name must be lower case letters, digits, '-' or '_', got {self.name!r}")
        _check_target("decoder", self.name, self.implementation)


Card = MethodCard | TaskCard | DecoderCard
