"""Decisions of a supernet, and of the network derived from it, which is checked to be what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import numpy as np
from torch import nn

from deploykit import Decision
from deploykit.errors import ContractError
from deploykit_searched.cells import FixedCell, SearchCell, edge_number
from deploykit_searched.choices import Choice
from deploykit_searched.genotype import Genotype, edge_path, genotype_of
from deploykit_searched.layer_exchange import layers

_MADE: Final = "searched_operator"
_DECIDED: Final = "searched_choices"
_DROPPED: Final = -1
ValueT = TypeVar("ValueT")


def mixed_decisions(soft: nn.Module) -> dict[str, Decision]:
    """Return the decisions of a supernet."""
    decisions: dict[str, Decision] = {}
    cells = layers(soft, SearchCell)
    for path, cell in cells.items():
        rows = list(zip(cell.kept(), cell.margins(), strict=True))
        pairs = [(node, source) for node in range(cell.nodes) for source in range(2 + node)]
        kept = np.array([source in rows[node][0] for node, source in pairs])
        near = np.array([rows[node][1][source] for node, source in pairs])
        preferred = [cell.choice(node, source).preference() for node, source in pairs]
        index = np.array([found.index for found in preferred])
        margin = np.array([found.margin for found in preferred])
        # A dropped edge has no operator, whichever it would prefer; a kept one changes if it is dropped, too.
        decisions[_name("operator", path)] = Decision(
            np.where(kept, index, _DROPPED), np.where(kept, np.minimum(margin, near), near)
        )
        decisions[_name("edge", path)] = Decision(kept, near)
    for path, choice in _alone(layers(soft, Choice), cells).items():
        found = choice.preference()
        decisions[_name("operator", path)] = Decision(np.array([found.index]), np.array([found.margin]))
    return decisions


def remember_choices(network: nn.Module, soft: nn.Module) -> None:
    """Write into a derived network what was decided, and into each chosen operator which one it is."""
    genotype = genotype_of(soft)
    candidates = {path: choice.names for path, choice in layers(soft, Choice).items()}
    for path, name in genotype.operators.items():
        setattr(network.get_submodule(path), _MADE, name)
    setattr(network, _DECIDED, (genotype, candidates))


def remembered_decisions(form: nn.Module) -> dict[str, Decision]:
    """Return the decisions of a derived network, read off the operators and edges it has.

    Raises:
        ContractError: it is no hard form of this family, or does not hold what was decided.
    """
    decided: tuple[Genotype, dict[str, tuple[str, ...]]] | None = getattr(form, _DECIDED, None)
    if decided is None:
        raise ContractError(f"searched: wanted one of its own soft or hard forms, got {type(form).__name__}")
    genotype, candidates = decided
    modules = dict(form.named_modules(remove_duplicate=False))
    there = {path: getattr(modules[path], _MADE, "") for path in genotype.operators if path in modules}
    if there != genotype.operators:
        raise ContractError(f"searched: the hard form holds the operators {there}, decided were {genotype.operators}")
    chosen = {path: names.index(there[path]) if path in there else _DROPPED for path, names in candidates.items()}
    decisions: dict[str, Decision] = {}
    cells = layers(form, FixedCell)
    for path, cell in cells.items():
        pairs = [(node, source) for node in range(len(cell.sources)) for source in range(2 + node)]
        kept = [str(edge_number(node, source)) in cell.edges for node, source in pairs]
        operators = [chosen[edge_path(path, node, source)] for node, source in pairs]
        decisions[_name("operator", path)] = Decision(np.array(operators))
        decisions[_name("edge", path)] = Decision(np.array(kept))
    for path, index in _alone(chosen, cells).items():
        decisions[_name("operator", path)] = Decision(np.array([index]))
    return decisions


def _alone(found: Mapping[str, ValueT], cells: Mapping[str, nn.Module]) -> dict[str, ValueT]:
    """Return what belongs to no cell."""
    edges = tuple(f"{path}.edges.".lstrip(".") for path in cells)
    return {path: value for path, value in found.items() if not path.startswith(edges)}


def _name(kind: str, path: str) -> str:
    return f"{kind}/{path or 'model'}"
