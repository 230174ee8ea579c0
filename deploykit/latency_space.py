"""What a network of a search space is made of: which choices call for which blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from deploykit.latency_block import Block, LatencyTableError

Genotype = Mapping[str, str]
"""The candidate that each choice point takes, by name."""
Weights = Mapping[str, Any]
"""For each choice point one number a candidate: a numpy array, a list, or a tensor that gradients flow through."""


@dataclass(frozen=True, slots=True)
class Term:
    """A block that is there if certain candidates are chosen.

    Attributes:
        block: what then runs.
        when: for some choice points, the candidates that call for it; empty for a block that is always there.
        match: ``all`` choice points must have taken one of theirs (a block that two choices make together, as a node's
            two operators that the runtime fuses or whose layouts must agree); ``any`` of them is enough (the projection
            of a cell's input, which is there once if any edge reads it).
    """

    block: Block
    when: Mapping[str, tuple[str, ...]]
    match: Literal["all", "any"] = "all"

    def holds(self, genotype: Genotype) -> bool:
        """Tell whether a network has the block."""
        met = [genotype[choice] in names for choice, names in self.when.items()]
        return all(met) if self.match == "all" else any(met)


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The choice points of a search, and the blocks that their candidates call for.

    Attributes:
        skeleton: name under which a table keeps what all networks of the space have in common.
        choices: names of the candidates of each choice point, in the order of their weights. A candidate without a term
            costs nothing: ``none`` for a dropped edge.
        terms: blocks with their conditions.

    Raises:
        LatencyTableError: a term names a choice point or a candidate that is not there.
    """

    skeleton: str
    choices: Mapping[str, tuple[str, ...]]
    terms: tuple[Term, ...]
    _places: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for choice, names in self.choices.items():
            if len(set(names)) != len(names) or not names:
                raise LatencyTableError(f"choice {choice!r}: wanted different candidates, at least one, got {names}")
            self._places[choice] = {name: place for place, name in enumerate(names)}
        for term in self.terms:
            for choice, names in term.when.items():
                offered = self.choices.get(choice)
                if offered is None:
                    raise LatencyTableError(
                        f"the term of {term.block} names the choice {choice!r}; there are {', '.join(self.choices)}"
                    )
                if unknown := set(names) - set(offered):
                    raise LatencyTableError(
                        f"the term of {term.block} names {min(unknown)!r} at {choice!r}, which offers "
                        f"{', '.join(offered)}"
                    )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All different blocks that networks of the space can have: what a table must hold."""
        return tuple(dict.fromkeys(term.block for term in self.terms))

    def content(self, genotype: Genotype) -> Counter[Block]:
        """Return the blocks of one network, with how often it has each.

        Raises:
            LatencyTableError: a choice is missing, unknown, or takes what is not offered.
        """
        self._check(genotype)
        for choice, name in genotype.items():
            if name not in self._places[choice]:
                raise LatencyTableError(
                    f"the genotype takes {name!r} at {choice!r}, which offers {', '.join(self.choices[choice])}"
                )
        return Counter(term.block for term in self.terms if term.holds(genotype))

    def chances(self, weights: Weights) -> list[Any]:
        """Return for each term the probability of its block where choices are drawn independently of each other.

        Only ``+``, ``-`` and ``*`` of the weights' own type are used, so that tensors keep their gradients.

        Raises:
            LatencyTableError: a choice is missing or unknown, or has another number of weights than candidates.
        """
        self._check(weights)
        for choice, names in self.choices.items():
            if len(weights[choice]) != len(names):
                raise LatencyTableError(
                    f"choice {choice!r} has {len(names)} candidates ({', '.join(names)}), "
                    f"got {len(weights[choice])} weights"
                )
        shares: dict[tuple[str, tuple[str, ...]], Any] = {}
        for term in self.terms:
            for key in term.when.items():
                # Many terms ask for the same candidates; tensors' sums are not free.
                if key not in shares:
                    shares[key] = self.share(term, key[0], weights)
        return [_chance(term, shares) for term in self.terms]

    def slopes(self, term: Term, weights: Weights) -> dict[str, Any]:
        """Return, for each choice of a term, how fast its probability grows with that choice's share of the term."""
        shares = {choice: self.share(term, choice, weights) for choice in term.when}
        slopes: dict[str, Any] = {}
        for choice in shares:
            slope: Any = 1.0
            for other, share in shares.items():
                if other != choice:
                    slope = slope * (share if term.match == "all" else 1.0 - share)
            slopes[choice] = slope
        return slopes

    def places(self, term: Term, choice: str) -> list[int]:
        """Return the places of a term's candidates among those of one choice."""
        return [self._places[choice][name] for name in term.when[choice]]

    def share(self, term: Term, choice: str, weights: Weights) -> Any:
        """Return the weight of a term's candidates together, at one of its choices."""
        return sum((weights[choice][place] for place in self.places(term, choice)), 0.0)

    def _check(self, given: Mapping[str, object]) -> None:
        if missing := [choice for choice in self.choices if choice not in given]:
            raise LatencyTableError(
                f"nothing given for the choice {missing[0]!r}; wanted one for {_list(self.choices)}"
            )
        if unknown := [choice for choice in given if choice not in self.choices]:
            raise LatencyTableError(f"there is no choice {unknown[0]!r}; there are {_list(self.choices)}")


def one_hot(space: SearchSpace, genotype: Genotype) -> dict[str, list[float]]:
    """Return the weights that stand for one network: 1 for what is chosen, 0 for the rest.

    Raises:
        LatencyTableError: the genotype is not one of the space's.
    """
    space.content(genotype)
    return {choice: [float(name == genotype[choice]) for name in names] for choice, names in space.choices.items()}


def _chance(term: Term, shares: Mapping[tuple[str, tuple[str, ...]], Any]) -> Any:
    chance: Any = 1.0
    for key in term.when.items():
        chance = chance * (shares[key] if term.match == "all" else 1.0 - shares[key])
    return chance if term.match == "all" else 1.0 - chance


def _list(names: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(names)
