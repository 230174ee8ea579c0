"""Graph models: who speaks to whom is decided node by node."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import hookimpl
from deploykit.cards import MethodCard, Paper

__all__ = ["deploykit_methods"]


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    """Offer the family's methods."""
    yield MethodCard(
        name="graph.cogn",
        summary="each node decides, layer by layer, whether to listen and to broadcast; closed edges carry nothing",
        implementation="deploykit_graph.cogn:CooperativeGraph",
        tasks=("root-neighbours",),
        paper=Paper(title="Cooperative Graph Neural Networks", year=2024),
    )
