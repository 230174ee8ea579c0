"""Cards: what a plugin declares about the things it offers, free to import.

A card names its implementation as ``module:attribute``; the module is imported only when the thing is used, so
listing a hundred methods imports neither torch nor onnx.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

_METHOD_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_-]*")
_PLAIN_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
_TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from."""

    title: str
    year: int
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """What every card says.

    Attributes:
        kind: what it is a card of, in one word.
        contract: the class of :mod:`deploykit` that the implementation must be a subclass of.
        name: unique among the cards of its kind, lower case.
        summary: one line for people who choose.
        implementation: ``package.module:Class``.

    Raises:
        ValueError: name or implementation is malformed.
    """

    kind: ClassVar[str]
    contract: ClassVar[str]

    name: str
    summary: str
    implementation: str

    def __post_init__(self) -> None:
        self._check_name()
        if not _TARGET.fullmatch(self.implementation):
            raise ValueError(
                f"{self.kind} {self.name!r}: implementation must read 'package.module:Class', "
                f"got {self.implementation!r}"
            )

    def _check_name(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.kind} name must be lower case letters, digits, '-' or '_', beginning with a letter, "
                f"got {self.name!r}"
            )


@dataclass(frozen=True, slots=True)
class MethodCard(Card):
    """A paper's technique, as the registry lists it; its name reads ``family.method``.

    Attributes:
        implementation: ``package.module:Class``, a subclass of :class:`deploykit.Method`.
        tasks: names of the tasks it is known to train on; the first is the default.
        paper: its source; ``None`` for techniques without one.
    """

    kind: ClassVar[str] = "method"
    contract: ClassVar[str] = "Method"

    tasks: tuple[str, ...] = ()
    paper: Paper | None = None

    def __post_init__(self) -> None:
        Card.__post_init__(self)
        if not isinstance(self.tasks, tuple):
            raise ValueError(
                f"method {self.name!r}: tasks must be a tuple of names such as ('digits',), got {self.tasks!r}"
            )

    @property
    def family(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]

    def _check_name(self) -> None:
        if not _METHOD_NAME.fullmatch(self.name):
            raise ValueError(f"method name must read 'family.method' in lower case, got {self.name!r}")


@dataclass(frozen=True, slots=True)
class TaskCard(Card):
    """Data, loss, metric and example inputs under one name; implemented by a :class:`deploykit.Task`."""

    kind: ClassVar[str] = "task"
    contract: ClassVar[str] = "Task"


@dataclass(frozen=True, slots=True)
class DecoderCard(Card):
    """Host post-processing under one name; implemented by a :class:`deploykit.Decoder`, which imports no torch."""

    kind: ClassVar[str] = "decoder"
    contract: ClassVar[str] = "Decoder"


@dataclass(frozen=True, slots=True)
class TargetCard(Card):
    """A format that ``export`` can write beside ONNX; implemented by a :class:`deploykit.Target`."""

    kind: ClassVar[str] = "target"
    contract: ClassVar[str] = "Target"


@dataclass(frozen=True, slots=True)
class RuntimeCard(Card):
    """What executes a file; implemented by a :class:`deploykit.Runtime`, which imports no torch when it serves."""

    kind: ClassVar[str] = "runtime"
    contract: ClassVar[str] = "Runtime"


CARD_HOOKS: Final[dict[str, type[Card]]] = {
    "deploykit_methods": MethodCard,
    "deploykit_tasks": TaskCard,
    "deploykit_decoders": DecoderCard,
    "deploykit_targets": TargetCard,
    "deploykit_runtimes": RuntimeCard,
}
"""Which hook offers which cards."""
