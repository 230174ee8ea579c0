"""A plugin says which contract it was written for; one of another version is told both, and stops nobody."""

from __future__ import annotations

import types
from typing import Any

import pytest

from deploykit import CONTRACT_VERSION, MethodCard, hookimpl
from deploykit import contract_version as contract
from deploykit.registry import Registry


def plugin(**attributes: Any) -> types.ModuleType:
    module = types.ModuleType("versions_home")

    @hookimpl
    def deploykit_methods() -> list[MethodCard]:
        return [MethodCard("steps.sigmoid", "s", "nowhere:Sigmoid")]

    vars(module).update(attributes, deploykit_methods=deploykit_methods)
    return module


def test_a_plugin_of_this_contract_or_of_none_is_taken() -> None:
    for attributes in ({}, {"deploykit_contract": CONTRACT_VERSION}):
        registry = Registry([])
        record = registry.offer(plugin(**attributes), "mine")
        assert record.failure == ""
        assert record.contract == attributes.get("deploykit_contract")
        assert list(registry.methods) == ["steps.sigmoid"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            CONTRACT_VERSION + 1,
            f"was written for plugin contract {CONTRACT_VERSION + 1}, this deploykit speaks {CONTRACT_VERSION}; "
            "upgrade deploykit, or install an older version of the plugin",
        ),
        (
            0,
            f"was written for plugin contract 0, this deploykit speaks {CONTRACT_VERSION}; install a newer version of "
            "the plugin, or ask its author",
        ),
        ("1", f"deploykit_contract must be a whole number such as {CONTRACT_VERSION}, got '1'"),
        (True, f"deploykit_contract must be a whole number such as {CONTRACT_VERSION}, got True"),
    ],
)
def test_a_plugin_of_another_contract_is_refused(said: object, words: str) -> None:
    registry = Registry([])
    assert registry.offer(plugin(deploykit_contract=said), "mine").failure == words
    assert registry.failures == [f"plugin 'mine' {words}"]
    assert list(registry.methods) == []


def test_a_range_of_contracts_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "CONTRACT_VERSION", 5)
    monkeypatch.setattr(contract, "OLDEST_CONTRACT", 3)
    assert contract.version_fault(types.SimpleNamespace(deploykit_contract=4)) == ""
    assert "this deploykit speaks 3 to 5" in contract.version_fault(types.SimpleNamespace(deploykit_contract=2))
