"""Hooks are called through one door: failures stay with their plugin, arguments may be left out, calls be traced."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploykit import MethodCard, hookimpl
from deploykit.hook_calls import TRACE, call_hook
from deploykit.registry import Registry


def offering(registry: Registry, name: str, hook: str, function: Callable[..., Any]) -> None:
    function.__name__ = hook
    module = types.ModuleType(name)
    setattr(module, hook, hookimpl(function))
    assert registry.offer(module, name).failure == ""


def test_each_plugin_answers_for_itself() -> None:
    registry = Registry([])

    def raises(path: Path) -> None:
        raise OSError(f"disk of {path.name} is full")

    seen = []
    offering(registry, "broken", "deploykit_bundle_written", raises)
    offering(registry, "careless", "deploykit_bundle_written", lambda: seen.append("told"))
    calls = {call.plugin: call for call in call_hook(registry.manager, "deploykit_bundle_written", {"path": Path("b")})}
    assert str(calls["broken"].error) == "disk of b is full"
    assert calls["careless"].error is None
    assert seen == ["told"]


def test_iterators_are_read_to_their_end_within_the_call() -> None:
    registry = Registry([])

    def verbs() -> Iterator[object]:
        yield "first", print
        raise RuntimeError("half way")

    offering(registry, "p", "deploykit_cli", verbs)
    (call,) = call_hook(registry.manager, "deploykit_cli")
    assert call.value is None
    assert str(call.error) == "half way"


def test_calls_are_printed_when_asked_for(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def told(path: Path) -> None:
        raise OSError("full")

    def run() -> str:
        registry = Registry([])
        offering(registry, "steps", "deploykit_methods", lambda: [MethodCard("steps.sigmoid", "s", "m:A")])
        offering(registry, "listener", "deploykit_bundle_written", told)
        list(call_hook(registry.manager, "deploykit_bundle_written", {"path": Path("b")}))
        return capfd.readouterr().err

    for silent in ("", "0"):
        monkeypatch.setenv(TRACE, silent)
        assert run() == ""
    monkeypatch.setenv(TRACE, "1")
    first, second = run().splitlines()
    assert first.startswith("hook deploykit_methods() of 'steps' -> (MethodCard(name='steps.sigmoid'")
    assert second.startswith(f"hook deploykit_bundle_written(path={Path('b')!r}) of 'listener' raised OSError: full [")
    assert second.endswith(" ms]")


def test_a_long_result_is_cut(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(TRACE, "1")
    cards = [MethodCard(f"steps.s{number}", "s", "m:A") for number in range(100)]
    registry = Registry([])
    offering(registry, "many", "deploykit_methods", lambda: cards)
    assert len(capfd.readouterr().err) < 400
    assert len(registry.methods) == 100
