"""What may be kept: the cost of a set of gates, and the set that a budget allows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit.errors import ContractError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Term:
    """A share of the cost: ``coefficient * open inputs * open outputs``.

    Attributes:
        inputs: gate of each input channel, the number of gates for an ungated one; ``None`` counts one input.
        outputs: gate of each output channel, the same way.
    """

    coefficient: float
    inputs: Sequence[int] | None
    outputs: Sequence[int]


class Budget:
    """A bound on the cost of the gates that stay open.

    Args:
        terms: the cost is their sum; with all gates open it is :attr:`total`.
        gates: how many gates there are.
        keep: share of the total that may be kept.
        what: name of the cost's unit, for messages.
    """

    def __init__(self, terms: Sequence[Term], gates: int, keep: float, what: str) -> None:
        self.what = what
        self.keep = keep
        self._coefficients = np.array([term.coefficient for term in terms], dtype=np.float64)
        self._inputs = np.stack([_counts(term.inputs, gates) for term in terms])
        self._outputs = np.stack([_counts(term.outputs, gates) for term in terms])
        self.total = self.cost(np.ones(gates, dtype=np.bool_))
        # Costs are whole numbers: rounding to 1e-6 keeps 0.7 of 10 at 7 although 0.7 * 10 may fall short of it.
        self.limit = float(np.floor(np.round(keep * self.total, 6)))

    def cost(self, gates: NDArray[Any]) -> float:
        """Return the cost with these gates open, shape (n,)."""
        extended = np.append(gates.astype(np.float64), 1.0)
        return float((self._coefficients * (self._inputs @ extended) * (self._outputs @ extended)).sum())

    def share(self, gates: Tensor) -> Tensor:
        """Return cost over total as a scalar, differentiable in ``gates``, shape (n,)."""
        extended = torch.cat([gates, gates.new_ones(1)])
        inputs = torch.as_tensor(self._inputs, dtype=gates.dtype, device=gates.device) @ extended
        outputs = torch.as_tensor(self._outputs, dtype=gates.dtype, device=gates.device) @ extended
        weights = torch.as_tensor(self._coefficients / self.total, dtype=gates.dtype, device=gates.device)
        return (weights * inputs * outputs).sum()

    def choose(self, scores: Floats, starts: Sequence[int]) -> NDArray[np.bool_]:
        """Return the gates to keep, shape (n,).

        The best gate of each group is kept in any case. The others are taken greedily, best score first and, between
        equal scores, lower index first; one that no longer fits is passed over and the next is tried. For a cost
        that counts gates this is exactly the best ``limit`` of them, ties or not.

        Args:
            scores: the gates' scores, shape (n,).
            starts: where each group's gates begin, and n at the end.

        Raises:
            ContractError: one gate a group is already too much.
        """
        kept = np.zeros(len(scores), dtype=np.bool_)
        for start, end in itertools.pairwise(starts):
            kept[start + int(np.argmax(scores[start:end]))] = True
        least = self.cost(kept)
        if least > self.limit + 1e-6:
            raise ContractError(
                f"pruned.gate: keep={self.keep:g} allows {self.limit:.0f} of {self.total:.0f} {self.what}, but one "
                f"channel in each of {len(starts) - 1} groups needs {least:.0f}; raise keep to at least "
                f"{np.ceil(least / self.total * 1e4) / 1e4:g}"
            )
        extended = np.append(kept, True).astype(np.float64)
        inputs, outputs = self._inputs @ extended, self._outputs @ extended
        for gate in np.argsort(-scores, kind="stable"):
            if kept[gate]:
                continue
            more_inputs, more_outputs = inputs + self._inputs[:, gate], outputs + self._outputs[:, gate]
            if (self._coefficients * more_inputs * more_outputs).sum() <= self.limit + 1e-6:
                kept[gate] = True
                inputs, outputs = more_inputs, more_outputs
        return kept


def _counts(sources: Sequence[int] | None, gates: int) -> Floats:
    if sources is None:
        sources = [gates]
    return np.bincount(np.asarray(sources, dtype=np.int64), minlength=gates + 1).astype(np.float64)
