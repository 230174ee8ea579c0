"""Which contracts a card is held to, as test classes; runs in the checking process."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Final

from deploykit.cards import Card

CONTRACTS: Final = {
    "method": ("MethodContract", "ExportContract", "ServingContract"),
    "task": ("TaskContract",),
    "decoder": ("DecoderContract",),
    "target": ("TargetContract",),
    "runtime": ("RuntimeContract",),
}
"""By kind of card; names in :mod:`deploykit.testing`."""

SLOW: Final = frozenset({"ExportContract", "ServingContract"})
"""What ``--quick`` leaves out: writing files and starting servers."""


def contracts_for(card: Card) -> list[type]:
    """Return the contracts a card is held to."""
    kit = importlib.import_module("deploykit.testing")
    return [getattr(kit, name) for name in CONTRACTS.get(card.kind, ())]


def promises(contract: type) -> list[str]:
    """Return the names of a contract's tests, in their order."""
    return [name for name in vars(contract) if name.startswith("test_")]


def needs_examples(contract: type) -> bool:
    """Whether only the plugin's author can say what a contract is tried on."""
    return "examples" in vars(contract)


def group_of(card: Card, contract: type) -> str:
    """Return the title of what is checked of a card under a contract."""
    return f"{card.kind} {card.name}: {contract.__name__}"


def suites(cards: Iterable[tuple[Card, type]]) -> dict[str, type]:
    """Return a test class for each pair of card and contract, by the name pytest knows it under."""
    made: dict[str, type] = {}
    for card, contract in cards:
        body: dict[str, Any] = {"name": card.name, "__doc__": contract.__doc__, "deploykit_card": card}
        made[f"Test_{card.kind}_{card.name}_{contract.__name__}"] = type(contract.__name__, (contract,), body)
    return made
