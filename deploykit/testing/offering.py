"""Offer methods, tasks and the like to the registry for the length of a test, without installing a package."""

from __future__ import annotations

import itertools
import re
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from deploykit.cards import CARD_HOOKS, Card, MethodCard
from deploykit.errors import PluginError
from deploykit.hookspecs import hookimpl
from deploykit.registry import installed

_HOOK_OF: Final = {card.kind: hook for hook, card in CARD_HOOKS.items()}
_numbers = itertools.count(1)


@contextmanager
def offered(
    *,
    methods: Mapping[str, type] | None = None,
    tasks: Mapping[str, type] | None = None,
    decoders: Mapping[str, type] | None = None,
    targets: Mapping[str, type] | None = None,
    runtimes: Mapping[str, type] | None = None,
    on: tuple[str, ...] | None = None,
) -> Iterator[None]:
    """Register classes under names while the context lasts, through the same hooks as an installed plugin's.

    Args:
        on: the tasks that the methods' cards name; by default the names of ``tasks``.

    Raises:
        ValueError: a name is malformed.
        PluginError: the registry does not take them; the text is what the plugin's author would read.
    """
    name = f"offered-{next(_numbers)}"
    home = types.ModuleType(name.replace("-", "_"))
    kinds = {"method": methods, "task": tasks, "decoder": decoders, "target": targets, "runtime": runtimes}
    on = on or tuple(tasks or ())
    for kind, classes in kinds.items():
        cards = tuple(_card(kind, key, home, item, on) for key, item in (classes or {}).items())
        if cards:
            setattr(home, _HOOK_OF[kind], hookimpl(_returning(cards)))
    sys.modules[home.__name__] = home
    record = installed().offer(home, name)
    try:
        if record.failure:
            raise PluginError(f"plugin {name!r} {record.failure}")
        yield
    finally:
        installed().withdraw(record)
        sys.modules.pop(home.__name__, None)


def _card(kind: str, name: str, home: types.ModuleType, implementation: type, on: tuple[str, ...]) -> Card:
    # Numbered, for classes of one factory have one name; a class that type() made may have any.
    attribute = re.sub(r"\W", "_", f"{kind}_{next(_numbers)}_{implementation.__name__}")
    setattr(home, attribute, implementation)
    where = f"{home.__name__}:{attribute}"
    summary = (implementation.__doc__ or implementation.__name__).partition("\n")[0]
    if kind == "method":
        return MethodCard(name, summary, where, tasks=on)
    return CARD_HOOKS[_HOOK_OF[kind]](name, summary, where)


def _returning(cards: tuple[Card, ...]) -> types.FunctionType:
    def hook() -> tuple[Card, ...]:
        return cards

    return hook  # type: ignore[return-value]
