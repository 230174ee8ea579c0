"""Find plugins, check what they offer and look things up by name.

Discovery goes through entry points only, for our own plugins as for anybody's. One broken plugin is reported and
never stops the rest; one name claimed twice belongs to nobody until the clash is mended.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import pluggy

from deploykit import hookspecs
from deploykit.cards import Card, DecoderCard, MethodCard, TaskCard
from deploykit.errors import DuplicateNameError, MissingExtraError, PluginError, UnknownNameError

ENTRY_POINT_GROUP: Final = "deploykit"
_CARD_HOOKS: Final[tuple[tuple[str, type[Card]], ...]] = (
    ("deploykit_methods", MethodCard),
    ("deploykit_tasks", TaskCard),
    ("deploykit_decoders", DecoderCard),
)
CardT = TypeVar("CardT", MethodCard, TaskCard, DecoderCard)


@dataclass(slots=True)
class PluginRecord:
    """What is known of one plugin.

    Attributes:
        seconds: time its import and its card hooks took.
        failure: why it is not (fully) usable; empty when all is well.
    """

    name: str
    distribution: str
    version: str
    seconds: float = 0.0
    hooks: tuple[str, ...] = ()
    failure: str = ""


@dataclass(slots=True)
class _Shelf(Generic[CardT]):
    """Cards of one kind, with their owners."""

    kind: str
    cards: dict[str, CardT] = field(default_factory=dict)
    owners: dict[str, list[str]] = field(default_factory=dict)

    def put(self, card: CardT, owner: str) -> None:
        self.owners.setdefault(card.name, []).append(owner)
        self.cards[card.name] = card

    def clashes(self) -> dict[str, list[str]]:
        return {name: owners for name, owners in self.owners.items() if len(owners) > 1}


class Registry:
    """The methods, tasks and decoders of all plugins.

    Args:
        entry_points: what to load; by default the installed entry points of group ``deploykit``.
    """

    def __init__(self, entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        self.manager = pluggy.PluginManager("deploykit")
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[PluginRecord] = []
        self._methods: _Shelf[MethodCard] = _Shelf("method")
        self._tasks: _Shelf[TaskCard] = _Shelf("task")
        self._decoders: _Shelf[DecoderCard] = _Shelf("decoder")
        found = metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points
        for entry_point in sorted(found, key=lambda point: point.name):
            self._load(entry_point)

    @property
    def methods(self) -> Mapping[str, MethodCard]:
        """Cards of all methods by name, sorted, without names that two plugins claim."""
        return self._listed(self._methods)

    @property
    def tasks(self) -> Mapping[str, TaskCard]:
        """Cards of all tasks by name, sorted."""
        return self._listed(self._tasks)

    @property
    def decoders(self) -> Mapping[str, DecoderCard]:
        """Cards of all decoders by name, sorted."""
        return self._listed(self._decoders)

    @property
    def failures(self) -> list[str]:
        """One line for each plugin that did not load and each name claimed twice."""
        broken = [f"plugin {record.name!r} {record.failure}" for record in self.plugins if record.failure]
        shelves: tuple[_Shelf[Any], ...] = (self._methods, self._tasks, self._decoders)
        clashes = [
            _clash_text(shelf.kind, name, owners) for shelf in shelves for name, owners in shelf.clashes().items()
        ]
        return broken + clashes

    def method_card(self, name: str) -> MethodCard:
        """Return the card of the method called ``name``.

        Raises:
            UnknownNameError: no plugin offers it; names the nearest and the plugins that did not load.
            DuplicateNameError: two plugins offer it.
        """
        return self._get(self._methods, name)

    def task_card(self, name: str) -> TaskCard:
        """Return the card of the task called ``name``; raises as :meth:`method_card`."""
        return self._get(self._tasks, name)

    def decoder_card(self, name: str) -> DecoderCard:
        """Return the card of the decoder called ``name``; raises as :meth:`method_card`."""
        return self._get(self._decoders, name)

    def _listed(self, shelf: _Shelf[CardT]) -> Mapping[str, CardT]:
        clashes = shelf.clashes()
        return MappingProxyType({name: shelf.cards[name] for name in sorted(shelf.cards) if name not in clashes})

    def _get(self, shelf: _Shelf[CardT], name: str) -> CardT:
        owners = shelf.owners.get(name, [])
        if len(owners) > 1:
            raise DuplicateNameError(_clash_text(shelf.kind, name, owners))
        if name in shelf.cards:
            return shelf.cards[name]
        text = f"no {shelf.kind} {name!r} among {len(shelf.cards)}."
        if near := difflib.get_close_matches(name, shelf.cards, n=1, cutoff=0.5):
            text += f" Did you mean {near[0]!r}?"
        else:
            text += f" There are: {', '.join(sorted(shelf.cards)) or 'none'}."
        for record in self.plugins:
            if record.failure:
                text += f"\nplugin {record.name!r} {record.failure}"
        raise UnknownNameError(text)

    def _load(self, entry_point: metadata.EntryPoint) -> None:
        distribution = entry_point.dist
        record = PluginRecord(
            name=entry_point.name,
            distribution=distribution.name if distribution else "?",
            version=distribution.version if distribution else "?",
        )
        self.plugins.append(record)
        started = time.perf_counter()
        plugin: object = None
        try:
            loaded = entry_point.load()
            if self.manager.has_plugin(record.name) or self.manager.is_registered(loaded):
                raise PluginError("another entry point has its name or its module; uninstall one")
            plugin = loaded
            self.manager.register(plugin, name=entry_point.name)
            self.manager.check_pending()
            callers = self.manager.get_hookcallers(plugin) or []
            record.hooks = tuple(sorted(caller.name for caller in callers))
            self._collect(plugin, record.name)
        except pluggy.PluginValidationError as error:
            record.failure = f"misuses a hook: {error}{_nearest_hook(str(error))}"
            self._forget(plugin)
        except (Exception, SystemExit) as error:
            # Whatever a plugin raises while loading is its own fault and must not take the others down.
            record.failure = f"did not load: {type(error).__name__}: {error}"
            self._forget(plugin)
        record.seconds = time.perf_counter() - started

    def _forget(self, plugin: object) -> None:
        if plugin is not None and self.manager.is_registered(plugin):
            self.manager.unregister(plugin)

    def _collect(self, plugin: object, owner: str) -> None:
        # All cards are checked before any is kept: a half-registered plugin would be harder to explain than none.
        collected: list[Card] = []
        for hook, card_type in _CARD_HOOKS:
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                offered = implementation.function()
                if offered is None or isinstance(offered, str) or not isinstance(offered, Iterable):
                    raise PluginError(f"{hook} must return {card_type.__name__}s, got {type(offered).__name__}")
                for card in offered:
                    if not isinstance(card, card_type):
                        raise PluginError(f"{hook} must yield {card_type.__name__}, got {type(card).__name__}")
                    collected.append(card)
        for card in collected:
            match card:
                case MethodCard():
                    self._methods.put(card, owner)
                case TaskCard():
                    self._tasks.put(card, owner)
                case DecoderCard():
                    self._decoders.put(card, owner)


def _nearest_hook(text: str) -> str:
    unknown = re.search(r"unknown hook '(\w+)'", text)
    known = [name for name in vars(hookspecs) if name.startswith("deploykit_")]
    near = difflib.get_close_matches(unknown[1], known, n=1) if unknown else []
    return f". Did you mean {near[0]!r}?" if near else ""


def _clash_text(kind: str, name: str, owners: list[str]) -> str:
    claimed = " and ".join(repr(owner) for owner in owners)
    return f"{kind} {name!r} is registered by the plugins {claimed}; uninstall one or rename its {kind}"


@functools.cache
def installed() -> Registry:
    """Return the registry of the installed plugins, read once a process."""
    return Registry()


def load_implementation(card: Card) -> type:
    """Import the class a card names.

    Raises:
        PluginError: the module does not import, or has no such class.
        MissingExtraError: it needs a package of one of our extras.
    """
    module_name, _, attribute = card.implementation.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        if missing := MissingExtraError.from_import(error):
            raise missing from error
        raise _not_imported(card, error) from error
    except Exception as error:
        raise _not_imported(card, error) from error
    if not isinstance(found, type):
        raise PluginError(f"{card.name}: {card.implementation!r} is a {type(found).__name__}, wanted a class")
    return found


def _not_imported(card: Card, error: Exception) -> PluginError:
    return PluginError(f"{card.name}: cannot import {card.implementation!r}: {type(error).__name__}: {error}")
