"""Discrete choices that the soft form, the hard form and the file can all be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NEAR_TIE: Final = 1e-5
"""A choice whose margin is at most this may fall either way; in the units of the score that decides."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One kind of choice, taken once or many times for a batch.

    Attributes:
        value: the choices as integers or booleans, any shape (a bit, a leaf index, an order, a mask).
        margin: distance of each choice from its tie, same shape, at least 0, in the units of the score that decides;
            ``None`` when the choice is made on exact integers and cannot be a near tie.
    """

    value: NDArray[Any]
    margin: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.value.dtype.kind not in "biu":
            raise TypeError(f"a decision is made of integers or booleans, got {self.value.dtype}")
        if self.margin is not None and self.margin.shape != self.value.shape:
            raise ValueError(f"margin has shape {self.margin.shape}, the decision {self.value.shape}")


Decisions = Mapping[str, Decision]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two forms decide alike.

    Attributes:
        total: choices compared.
        different: choices that differ and are no near ties.
        near_ties: choices that differ within the band around the tie; counted apart, not hidden.
    """

    total: int
    different: int
    near_ties: int

    @property
    def rate(self) -> float:
        """Share of choices that agree, near ties counting as disagreement; 1 when there is nothing to compare."""
        return 1.0 if not self.total else 1.0 - (self.different + self.near_ties) / self.total


def agreement(left: Decision, right: Decision, band: float = NEAR_TIE) -> Agreement:
    """Compare the same decision of two forms.

    Args:
        band: a choice whose margin in either form is at most this is a near tie.

    Raises:
        ValueError: the shapes differ, so these are not the same decision.
    """
    if left.value.shape != right.value.shape:
        raise ValueError(f"decisions of shapes {left.value.shape} and {right.value.shape} cannot be compared")
    differ = left.value != right.value
    near = np.zeros_like(differ)
    for margin in (left.margin, right.margin):
        if margin is not None:
            near |= margin <= band
    return Agreement(total=differ.size, different=int((differ & ~near).sum()), near_ties=int((differ & near).sum()))
