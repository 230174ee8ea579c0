"""Searched models: a mixture of operators in training, the chosen ones in production.

Mark what is to be searched in your own model with :class:`Choice` or :class:`SearchCell`, or let ``searched.darts``
turn its 3x3 convolutions into choices. After training, :func:`derive` gives the network that was found.

Importing this package does not import torch; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from deploykit import hookimpl
from deploykit.cards import MethodCard, Paper

if TYPE_CHECKING:
    from deploykit_searched.batch_statistics import reestimate_statistics, settle
    from deploykit_searched.cells import CellNetwork, SearchCell
    from deploykit_searched.choices import Choice
    from deploykit_searched.derivation import derive
    from deploykit_searched.discretization_gap import discretization_gap
    from deploykit_searched.genotype import Genotype, genotype_of
    from deploykit_searched.operators import Nothing

__all__ = [
    "CellNetwork",
    "Choice",
    "Genotype",
    "Nothing",
    "SearchCell",
    "deploykit_methods",
    "derive",
    "discretization_gap",
    "genotype_of",
    "reestimate_statistics",
    "settle",
]

_HOME_OF: Final = {
    "CellNetwork": "cells",
    "Choice": "choices",
    "Genotype": "genotype",
    "Nothing": "operators",
    "SearchCell": "cells",
    "derive": "derivation",
    "discretization_gap": "discretization_gap",
    "genotype_of": "genotype",
    "reestimate_statistics": "batch_statistics",
    "settle": "batch_statistics",
}


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="searched.darts",
        summary="a supernet mixes candidate operators; the derived network holds only the chosen ones",
        implementation="deploykit_searched.darts:Darts",
        tasks=("digits",),
        paper=Paper(title="DARTS: Differentiable Architecture Search", year=2019),
    )


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'deploykit_searched' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"deploykit_searched.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
