"""Genotype: what a search decided, as text that can be kept and compared."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from deploykit.errors import ContractError
from deploykit_searched.cells import SearchCell, Sources, edge_number
from deploykit_searched.choices import Choice
from deploykit_searched.layer_exchange import layers


class Genotype(BaseModel):
    """The decisions of a search by path; it names operators, so that the order of candidates does not matter.

    Attributes:
        operators: the chosen candidate of each choice; dropped edges are not in it.
        edges: for each cell, for each of its nodes, the states it reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    operators: dict[str, str]
    edges: dict[str, Sources] = {}

    def to_json(self) -> str:
        """Return it as JSON; :meth:`from_json` gives it back."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Read what :meth:`to_json` wrote.

        Raises:
            ContractError: it is something else.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"]) or "the text"
            raise ContractError(f"this is no genotype: {where}: {fault['msg']}; wanted what to_json() wrote") from error


def genotype_of(soft: nn.Module) -> Genotype:
    """Return what a supernet would choose as its weights stand.

    Raises:
        ContractError: it holds no choice.
    """
    choices = layers(soft, Choice)
    if not choices:
        raise ContractError(
            f"{type(soft).__name__} holds no Choice, so nothing was searched; make a supernet with "
            "deploykit.prepare(model, 'searched.darts', example)"
        )
    edges = {path: cell.kept() for path, cell in layers(soft, SearchCell).items()}
    dropped = {path for cell, sources in edges.items() for path in dropped_edges(cell, sources)}
    return Genotype(
        operators={path: choice.chosen() for path, choice in choices.items() if path not in dropped}, edges=edges
    )


def edge_path(cell: str, node: int, source: int) -> str:
    """Return the path of an edge's choice.

    >>> edge_path("cells.0", node=1, source=2)
    'cells.0.edges.4'
    """
    return f"{cell}.edges.{edge_number(node, source)}".lstrip(".")


def dropped_edges(cell: str, sources: Sources) -> list[str]:
    """Return the paths of the edges that a cell does not keep."""
    return [
        edge_path(cell, node, source)
        for node, read in enumerate(sources)
        for source in range(2 + node)
        if source not in read
    ]


def check_fit(genotype: Genotype, soft: nn.Module) -> None:
    """Check that a genotype is one of a supernet's.

    Raises:
        ContractError: naming the first path that does not fit.
    """
    cells, choices = layers(soft, SearchCell), layers(soft, Choice)
    if set(genotype.edges) != set(cells):
        raise ContractError(f"the genotype has cells {sorted(genotype.edges)}, the supernet {sorted(cells)}")
    for path, cell in cells.items():
        sources = genotype.edges[path]
        possible = len(sources) == cell.nodes and all(
            read and list(read) == sorted(set(read)) and set(read) <= set(range(2 + node))
            for node, read in enumerate(sources)
        )
        if not possible:
            raise ContractError(
                f"the genotype's edges of cell {path!r} are {sources}; wanted for each of {cell.nodes} nodes the "
                "states before it that it reads, ascending"
            )
    wanted = set(choices) - {path for cell, sources in genotype.edges.items() for path in dropped_edges(cell, sources)}
    if different := sorted(wanted ^ set(genotype.operators)):
        raise ContractError(
            f"the genotype {'lacks' if different[0] in wanted else 'has'} an operator for {different[0]!r}, which the "
            f"supernet {'keeps' if different[0] in wanted else 'does not keep'}; was it made for other settings?"
        )
    for path, name in genotype.operators.items():
        if name not in choices[path].names:
            raise ContractError(
                f"the genotype chooses {name!r} at {path!r}; the supernet offers {', '.join(choices[path].names)}"
            )
