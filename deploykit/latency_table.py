"""Latency tables: measured times of fused blocks, from which networks of a search space are predicted.

One table answers both what a search needs while it mixes (:meth:`LatencyTable.expected`, differentiable in the weights)
and what the network it found takes (:meth:`LatencyTable.cost`). Tables are filled by
``deploykit_serving.latency_tables``; reading one needs neither torch nor onnx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from deploykit.latency_block import Block, Environment, LatencyTableError, nearest
from deploykit.latency_space import Genotype, SearchSpace, Weights

HOW_TO_MEASURE: Final = "measure it with deploykit_serving.latency_tables.measure_blocks and add it to the table"


class Entry(BaseModel):
    """One measured time, microseconds.

    Attributes:
        median_us: may lie a little below 0 for a block that costs nothing, because it is a difference.
        mad_us: median absolute deviation of the samples it comes from.
        accepted, rejected: samples that were taken while the machine was at rest, and the others.
        at_rest: whether enough were accepted; if not, the least disturbed ones were used.
        copies: numbers of copies in the two stacks whose difference it is; ``None`` for a skeleton.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    median_us: float
    mad_us: float = Field(0.0, ge=0)
    accepted: int = Field(1, ge=0)
    rejected: int = Field(0, ge=0)
    at_rest: bool = True
    copies: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A latency that a table predicts.

    Attributes:
        us: microseconds a call; of the weights' type where weights were given.
        foreign: how the table's environment differs from the one asked for; empty if it is the same.
    """

    us: Any
    foreign: str = ""


class LatencyTable:
    """Times of blocks and skeletons in one environment.

    Args:
        environment: where they were measured.
        blocks: what each block adds to a network.
        skeletons: what networks of a space take beside their blocks, by the space's name for it.
        canary_us: the reference network at its best while they were measured, microseconds.
        foreign: how ``environment`` differs from the one asked for; written on every answer.
    """

    def __init__(
        self,
        environment: Environment,
        blocks: Mapping[Block, Entry] | None = None,
        skeletons: Mapping[str, Entry] | None = None,
        *,
        canary_us: float | None = None,
        foreign: str = "",
    ) -> None:
        self.environment = environment
        self.blocks = dict(blocks or {})
        self.skeletons = dict(skeletons or {})
        self.canary_us = canary_us
        self.foreign = foreign

    def entry(self, block: Block) -> Entry:
        """Return what was measured of a block.

        Raises:
            LatencyTableError: nothing was; names the nearest that were, and interpolates never.
        """
        if block not in self.blocks:
            near = "; ".join(str(other) for other in nearest(block, self.blocks)) or "none at all"
            raise LatencyTableError(
                f"the latency table has no block {block}; nearest measured: {near}. Sizes are not interpolated, "
                f"because kernels change with alignment: {HOW_TO_MEASURE}"
            )
        return self.blocks[block]

    def skeleton(self, name: str) -> Entry:
        """Return what networks take beside their blocks.

        Raises:
            LatencyTableError: that was not measured.
        """
        if name not in self.skeletons:
            raise LatencyTableError(
                f"the latency table has no skeleton {name!r}, only {', '.join(self.skeletons) or 'none at all'}; "
                "measure one with deploykit_serving.latency_tables.measure_skeleton"
            )
        return self.skeletons[name]

    def missing(self, space: SearchSpace) -> tuple[Block, ...]:
        """Return the blocks of a space that were not measured yet."""
        return tuple(block for block in space.blocks if block not in self.blocks)

    def cost(self, space: SearchSpace, genotype: Genotype) -> Estimate:
        """Predict one network: its skeleton and the sum of its blocks.

        Raises:
            LatencyTableError: a block or the skeleton is missing, or the genotype is not one of the space's.
        """
        content = space.content(genotype)
        blocks = sum(self.entry(block).median_us * count for block, count in content.items())
        return Estimate(self.skeleton(space.skeleton).median_us + blocks, self.foreign)

    def expected(self, space: SearchSpace, weights: Weights) -> Estimate:
        """Predict the mean over networks whose choices are drawn independently with the given weights.

        At weights of 0 and 1 that is :meth:`cost`. Where weights are tensors, so is the answer, and gradients flow; the
        relaxation that made them is up to the method.

        Raises:
            LatencyTableError: as :meth:`cost`.
        """
        total: Any = self.skeleton(space.skeleton).median_us
        for term, chance in zip(space.terms, space.chances(weights), strict=True):
            total = total + chance * self.entry(term.block).median_us
        return Estimate(total, self.foreign)

    def coefficients(
        self, space: SearchSpace, weights: Weights | None = None
    ) -> tuple[float, dict[str, NDArray[np.float64]]]:
        """Return a constant and, for each choice, microseconds a candidate, (candidates,).

        ``constant + sum((weights[choice] * array).sum())`` is the expected latency: everywhere if no block depends on
        two choices; else give ``weights``, around which it is then taken, exact while a single choice changes (what a
        block-coordinate search needs).

        Args:
            weights: numbers, not tensors with gradients.

        Raises:
            LatencyTableError: as :meth:`cost`; or a block depends on two choices and no weights were given.
        """
        joint = next((term for term in space.terms if len(term.when) > 1), None)
        if weights is None and joint is not None:
            raise LatencyTableError(
                f"{joint.block} depends on {' and '.join(joint.when)} together, so there are no coefficients for each "
                "alone: use expected(), or coefficients(space, weights) around the present weights"
            )
        around = weights if weights is not None else {choice: [0.0] * len(c) for choice, c in space.choices.items()}
        arrays = {choice: np.zeros(len(names)) for choice, names in space.choices.items()}
        constant = float(self.expected(space, around).us)
        for term in space.terms:
            time = self.entry(term.block).median_us
            for choice, slope in space.slopes(term, around).items():
                arrays[choice][space.places(term, choice)] += float(slope) * time
        for choice, array in arrays.items():
            constant -= float(np.dot(np.asarray(around[choice], dtype=np.float64), array))
        return constant, arrays

    def merged(self, other: LatencyTable) -> LatencyTable:
        """Return a table with the entries of both, the other's where both have one.

        Raises:
            LatencyTableError: they were measured in different environments.
        """
        if self.environment != other.environment:
            raise LatencyTableError(
                "tables of different environments cannot be merged: "
                + "; ".join(self.environment.differences(other.environment))
            )
        floors = [floor for floor in (self.canary_us, other.canary_us) if floor is not None]
        return LatencyTable(
            self.environment,
            {**self.blocks, **other.blocks},
            {**self.skeletons, **other.skeletons},
            canary_us=min(floors, default=None),
            foreign=self.foreign,
        )
