"""From a supernet to the network that was found: with the supernet's weights, or fresh."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from deploykit.errors import ContractError
from deploykit_searched.cells import FixedCell, SearchCell, all_sources, edge_number
from deploykit_searched.choices import AllCandidates, Choice
from deploykit_searched.genotype import Genotype, check_fit, edge_path, genotype_of
from deploykit_searched.layer_exchange import exchanged, layers, unbound_copy
from deploykit_searched.operators import Nothing, Operator, merged

Derivation = Literal["inherit", "fresh"]


def derive(
    soft: nn.Module, how: Derivation = "inherit", *, genotype: Genotype | None = None, seed: int = 0
) -> nn.Module:
    """Return the network that a search found, as an ordinary module with nothing left to choose.

    It holds copies of the chosen candidates, under the paths of their choices, and of everything that was never
    searched. Train it as any model, for instance with ``deploykit.prepare(network, "plain.passthrough", example)``.

    Args:
        soft: a supernet; left as it is.
        how: ``inherit`` keeps the weights and statistics the supernet has trained: in eval mode the answer is the
            supernet's with all weight on the chosen candidates, exactly. ``fresh`` draws all of them anew with each
            layer's own ``reset_parameters``, as the paper does before it trains the found network from scratch.
        genotype: what to derive; by default what the supernet chooses now.
        seed: of the fresh parameters; torch's global state is left alone.

    Returns:
        a module in the mode of ``soft``, its parameters trainable; a fresh one in training mode.

    Raises:
        ContractError: the genotype is not one of this supernet's; ``fresh``, and a layer holds parameters and cannot
            draw them anew.

    Source: Liu et al. 2019, section 2.4 for ``fresh``; the paper's evaluation network is also deeper and wider, which
    here is a matter of building a larger supernet and deriving with a genotype.
    """
    found = genotype_of(soft) if genotype is None else genotype
    check_fit(found, soft)

    def exchange(path: str, layer: nn.Module) -> nn.Module | None:
        if isinstance(layer, SearchCell):
            sources = found.edges[path]
            edges = {
                edge_number(node, source): _candidate(
                    layer.choice(node, source), found.operators[edge_path(path, node, source)]
                )
                for node, read in enumerate(sources)
                for source in read
            }
            return FixedCell(layer, edges, sources)
        if isinstance(layer, Choice):
            return _candidate(layer, found.operators[path])
        return None

    network = exchanged(unbound_copy(soft), exchange)
    return network if how == "inherit" else _reset(network, seed)


def merge_batch_norms(network: nn.Module) -> nn.Module:
    """Merge the batch norms of our own operators into the convolutions before them, in place; return the network.

    Batch norms elsewhere in a user's model stay: what stands before them in its ``forward`` is not ours to guess.
    """

    def exchange(_: str, layer: nn.Module) -> nn.Module | None:
        return merged(layer) if isinstance(layer, Operator) else None

    return exchanged(network, exchange)


def undecided(soft: nn.Module) -> nn.Module:
    """Return a copy of a supernet that evaluates all candidates with constant weights, as one would deploy it as it is.

    Batch norms of our operators are merged, so that it is not slower than it must be.
    """

    def exchange(_: str, layer: nn.Module) -> nn.Module | None:
        if isinstance(layer, SearchCell):
            edges = {number: AllCandidates(edge) for number, edge in enumerate(layer.edges) if isinstance(edge, Choice)}
            return FixedCell(layer, edges, all_sources(layer.nodes))
        return AllCandidates(layer) if isinstance(layer, Choice) else None

    return merge_batch_norms(exchanged(unbound_copy(soft), exchange))


def _candidate(choice: Choice, name: str) -> nn.Module:
    candidate = choice.candidates[name]
    if isinstance(candidate, Nothing):
        raise ContractError(f"a genotype cannot choose {name!r}, which computes nothing; leave the edge out")
    return candidate


def _reset(network: nn.Module, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path, layer in layers(network, nn.Module).items():
            reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
            if callable(reset):
                reset()
            elif next(layer.parameters(recurse=False), None) is not None:
                raise ContractError(
                    f"{type(layer).__name__} at {path or 'the root'!r} holds parameters and has no reset_parameters(); "
                    "give it one, or derive with 'inherit' and set its parameters yourself"
                )
    return network.train().requires_grad_(True)
