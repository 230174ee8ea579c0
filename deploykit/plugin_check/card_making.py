"""Whether the thing a card names can be made, as every command does before it uses it; runs in the checking process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from deploykit import making
from deploykit.cards import Card
from deploykit.errors import DeploykitError
from deploykit.plugin_check import suites
from deploykit.plugin_check.fault_messages import fault_message
from deploykit.plugin_check.module_names import top_package
from deploykit.plugin_check.report import Check
from deploykit.registry import load_implementation

_WITH_SETTINGS: Final = frozenset({"method", "decoder"})


def required_settings(card: Card) -> list[str]:
    """Return the settings that have no default; none where the class cannot be had, which :func:`made` tells."""
    if card.kind not in _WITH_SETTINGS:
        return []
    try:
        config = getattr(load_implementation(card), "Config", None)
    except DeploykitError:
        return []
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        return []
    return [name for name, field in config.model_fields.items() if field.is_required()]


def making_says(card: Card) -> str:
    """Return what holds if the thing can be made."""
    return f"It is a deploykit.{card.contract} that can be made."


def made(card: Card, config: Mapping[str, Any] | None = None) -> Check:
    """Make the thing.

    Args:
        config: settings of the plugin's own test, for cards that have settings.
    """
    started = time.perf_counter()
    fault = _without_default(card, config or {}) or _fault(card, config or {})
    remark = f"with the settings of its test: {dict(config)}" if config else ""
    return Check(
        f"{card.kind} {card.name}", "made", making_says(card), "failed" if fault else "ok", fault or remark,
        time.perf_counter() - started,
    )  # fmt: skip


def _without_default(card: Card, given: Mapping[str, Any]) -> str:
    missing = [name for name in required_settings(card) if name not in given]
    if not missing:
        return ""
    config = ", ".join(f"{name!r}: ..." for name in missing)
    return (
        f"{card.name}: no default for the setting {', '.join(map(repr, missing))}; give one, or write a test class of "
        f"{suites.CONTRACTS[card.kind][0]} with config = {{{config}}} and check the project's folder, where it is used"
    )


def _fault(card: Card, config: Mapping[str, Any]) -> str:
    make = getattr(making, f"make_{card.kind}")
    try:
        make(card.name, config) if card.kind in _WITH_SETTINGS else make(card.name)
    except DeploykitError as error:
        return str(error)
    except Exception as error:
        return fault_message(error, {top_package(card.implementation)})
    return ""
