"""To register is to be tested: every registered method passes every contract."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from torch import nn

from deploykit import HardForm, installed, make_task
from deploykit.testing import ExportContract, MethodContract, ServingContract


class _KeptChannels:
    """Counts the channels of a pruned network: half of them stay."""

    def budgets(self, hard: HardForm) -> Mapping[str, tuple[int, int]]:
        whole, kept = (_channels(network) for network in (make_task("digits").network(), hard.module))
        return {"channels": (kept, whole // 2)}


def _channels(network: nn.Module) -> int:
    return sum(layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d))


_BUDGETS: dict[str, tuple[type, ...]] = {"pruned.gate": (_KeptChannels,)}


def _contract_of(name: str) -> type:
    return type(
        f"Test_{name.replace('.', '_')}",
        (*_BUDGETS.get(name, ()), MethodContract, ExportContract, ServingContract),
        {"name": name, "__module__": __name__},
    )


for _card in installed().methods.values():
    globals()[f"Test_{_card.name.replace('.', '_')}"] = _contract_of(_card.name)


def test_every_installed_plugin_loads() -> None:
    assert installed().failures == []


@pytest.mark.parametrize(
    "name",
    [
        "binarized.biper",
        "binarized.db",
        "graph.cogn",
        "matched.sinkhorn",
        "plain.passthrough",
        "pruned.gate",
        "quantized.ani",
        "routed.fff",
        "searched.darts",
        "sorted.diffsort",
    ],
)
def test_the_shipped_methods_are_registered(name: str) -> None:
    assert name in installed().methods
