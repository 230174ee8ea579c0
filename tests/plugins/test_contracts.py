"""To register is to be tested: every registered method passes every contract."""

from __future__ import annotations

from typing import Any

import pytest

from deploykit import installed
from deploykit.testing import ExportContract, MethodContract

# Settings that keep the tests quick; nothing here changes what is checked.
_QUICK: dict[str, dict[str, Any]] = {}


def _contract_of(name: str) -> type:
    return type(
        f"Test_{name.replace('.', '_')}",
        (MethodContract, ExportContract),
        {"name": name, "config": _QUICK.get(name, {}), "__module__": __name__},
    )


for _card in installed().methods.values():
    globals()[f"Test_{_card.name.replace('.', '_')}"] = _contract_of(_card.name)


def test_every_installed_plugin_loads() -> None:
    assert installed().failures == []


@pytest.mark.parametrize("name", ["plain.passthrough", "binarized.biper", "pruned.gate", "routed.fff", "binarized.db"])
def test_the_shipped_methods_are_registered(name: str) -> None:
    assert name in installed().methods
