"""Find plugins, check what they offer and look things up by name.

Discovery goes through entry points only, for our own plugins as for anybody's. One broken plugin is reported and
never stops the rest; one name claimed twice belongs to nobody until the clash is mended.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, cast

import pluggy

from deploykit import hookspecs
from deploykit.cards import CARD_HOOKS, Card, DecoderCard, MethodCard, RuntimeCard, TargetCard, TaskCard
from deploykit.contract_version import ATTRIBUTE, version_fault
from deploykit.errors import DuplicateNameError, MissingExtraError, PluginError, UnknownNameError
from deploykit.hook_calls import call_hook
from deploykit.plugin_record import PluginRecord, heavy_modules, import_remark, raised_at

ENTRY_POINT_GROUP: Final = "deploykit"
CardT = TypeVar("CardT", bound=Card)


class _Shelf(Generic[CardT]):
    """Cards of one kind, each name with all who claim it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._claims: dict[str, list[tuple[str, CardT]]] = {}

    def put(self, card: CardT, owner: str) -> None:
        self._claims.setdefault(card.name, []).append((owner, card))

    def drop(self, owner: str) -> None:
        kept = {name: [claim for claim in claims if claim[0] != owner] for name, claims in self._claims.items()}
        self._claims = {name: claims for name, claims in kept.items() if claims}

    def listed(self) -> Mapping[str, CardT]:
        return MappingProxyType({name: self._claims[name][0][1] for name in sorted(self._claims) if self._own(name)})

    def clashes(self) -> list[str]:
        return [self._clash(name) for name in self._claims if not self._own(name)]

    def get(self, name: str, failures: Iterable[str]) -> CardT:
        if name in self._claims:
            if not self._own(name):
                raise DuplicateNameError(self._clash(name))
            return self._claims[name][0][1]
        text = f"no {self.kind} {name!r} among {len(self._claims)}."
        if near := difflib.get_close_matches(name, self._claims, n=1, cutoff=0.5):
            text += f" Did you mean {near[0]!r}?"
        else:
            text += f" There are: {', '.join(sorted(self._claims)) or 'none'}."
        raise UnknownNameError("\n".join([text, *failures]))

    def _own(self, name: str) -> bool:
        return len(self._claims[name]) == 1

    def _clash(self, name: str) -> str:
        claimed = " and ".join(repr(owner) for owner, _ in self._claims[name])
        return f"{self.kind} {name!r} is registered by the plugins {claimed}; uninstall one or rename its {self.kind}"


class Registry:
    """What all plugins offer.

    Args:
        entry_points: what to load; by default the installed entry points of group ``deploykit``.

    Attributes:
        plugins: a record of each plugin, also of those that failed.
    """

    def __init__(self, entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        self.manager = pluggy.PluginManager("deploykit")
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[PluginRecord] = []
        self._shelves: dict[type[Card], _Shelf[Any]] = {card: _Shelf(card.kind) for card in CARD_HOOKS.values()}
        found = metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points
        for entry_point in sorted(found, key=lambda point: point.name):
            distribution = entry_point.dist
            record = PluginRecord(
                name=entry_point.name,
                distribution=distribution.name if distribution else "?",
                version=distribution.version if distribution else "?",
            )
            self._load(record, entry_point.load)

    @property
    def methods(self) -> Mapping[str, MethodCard]:
        """Cards of all methods by name, sorted, without names that two plugins claim."""
        return self.cards(MethodCard)

    @property
    def tasks(self) -> Mapping[str, TaskCard]:
        """Cards of all tasks by name, sorted."""
        return self.cards(TaskCard)

    @property
    def decoders(self) -> Mapping[str, DecoderCard]:
        """Cards of all decoders by name, sorted."""
        return self.cards(DecoderCard)

    @property
    def targets(self) -> Mapping[str, TargetCard]:
        """Cards of all targets by name, sorted."""
        return self.cards(TargetCard)

    @property
    def runtimes(self) -> Mapping[str, RuntimeCard]:
        """Cards of all runtimes by name, sorted."""
        return self.cards(RuntimeCard)

    @property
    def failures(self) -> list[str]:
        """One line for each plugin that did not load and each name claimed twice."""
        return self._broken() + [clash for shelf in self._shelves.values() for clash in shelf.clashes()]

    @property
    def remarks(self) -> list[str]:
        """One line for each plugin that works and should do something better."""
        return [f"plugin {record.name!r} {record.remark}" for record in self.plugins if record.remark]

    def cards(self, kind: type[CardT]) -> Mapping[str, CardT]:
        """Return the cards of one kind by name, sorted, without names that two plugins claim."""
        return self._shelf(kind).listed()

    def card(self, kind: type[CardT], name: str) -> CardT:
        """Return the card called ``name``.

        Raises:
            UnknownNameError: no plugin offers it; names the nearest and the plugins that did not load.
            DuplicateNameError: two plugins offer it.
        """
        return self._shelf(kind).get(name, self._broken())

    def method_card(self, name: str) -> MethodCard:
        """Return the card of the method called ``name``; raises as :meth:`card`."""
        return self.card(MethodCard, name)

    def task_card(self, name: str) -> TaskCard:
        """Return the card of the task called ``name``; raises as :meth:`card`."""
        return self.card(TaskCard, name)

    def decoder_card(self, name: str) -> DecoderCard:
        """Return the card of the decoder called ``name``; raises as :meth:`card`."""
        return self.card(DecoderCard, name)

    def offer(self, plugin: object, name: str) -> PluginRecord:
        """Take in a plugin that has no entry point, as tests do; what is wrong with it is in the record."""
        record = PluginRecord(name=name, distribution="-", version="-")
        self._load(record, lambda: plugin)
        return record

    def withdraw(self, record: PluginRecord) -> None:
        """Forget a plugin that :meth:`offer` took in, with everything it offers; others of its name stay."""
        self.plugins = [other for other in self.plugins if other is not record]
        if any(other.name == record.name for other in self.plugins):
            return  # it was refused because its name was taken, and so left nothing behind
        self._forget(self.manager.get_plugin(record.name))
        for shelf in self._shelves.values():
            shelf.drop(record.name)

    def report(self, name: str, failure: str) -> None:
        """Record a fault of a loaded plugin that shows later than at discovery."""
        for record in self.plugins:
            if record.name == name:
                record.failure = record.failure or failure

    def _shelf(self, kind: type[CardT]) -> _Shelf[CardT]:
        return cast("_Shelf[CardT]", self._shelves[kind])

    def _broken(self) -> list[str]:
        return [f"plugin {record.name!r} {record.failure}" for record in self.plugins if record.failure]

    def _load(self, record: PluginRecord, load: Callable[[], object]) -> None:
        self.plugins.append(record)
        started, heavy = time.perf_counter(), heavy_modules()
        plugin: object = None
        try:
            # What a plugin prints while it is loaded is no part of any command's answer.
            with contextlib.redirect_stdout(sys.stderr):
                loaded = load()
            if self.manager.has_plugin(record.name) or self.manager.is_registered(loaded):
                raise PluginError("another entry point has its name or its module; uninstall one")
            record.contract = getattr(loaded, ATTRIBUTE, None)
            if fault := version_fault(loaded):
                record.failure = fault
                return
            plugin = loaded
            self.manager.register(plugin, name=record.name)
            self.manager.check_pending()
            callers = self.manager.get_hookcallers(plugin) or []
            record.hooks = tuple(sorted(caller.name for caller in callers))
            self._collect(plugin, record)
        except pluggy.PluginValidationError as error:
            record.failure = f"misuses a hook: {error}{_nearest_hook(str(error))}"
            self._forget(plugin)
        except (Exception, SystemExit) as error:
            # Whatever a plugin raises while loading is its own fault and must not take the others down.
            record.failure = f"did not load: {type(error).__name__}: {error}{raised_at(error)}"
            if os.environ.get("DEPLOYKIT_TRACEBACK"):
                traceback.print_exception(error)
            self._forget(plugin)
        finally:
            record.seconds = time.perf_counter() - started
            record.remark = import_remark(heavy, record.seconds)

    def _forget(self, plugin: object) -> None:
        if plugin is not None and self.manager.is_registered(plugin):
            self.manager.unregister(plugin)

    def _collect(self, plugin: object, record: PluginRecord) -> None:
        # All cards are checked before any is kept: a half-registered plugin would be harder to explain than none.
        collected: list[tuple[type[Card], Card]] = []
        for hook, card_type in CARD_HOOKS.items():
            for call in call_hook(self.manager, hook, plugin=plugin):
                if call.error is not None:
                    raise call.error
                if not isinstance(call.value, tuple):
                    raise PluginError(f"{hook} must return {card_type.__name__}s, got {type(call.value).__name__}")
                for card in call.value:
                    if not isinstance(card, card_type):
                        raise PluginError(f"{hook} must yield {card_type.__name__}, got {type(card).__name__}")
                    collected.append((card_type, card))
        for card_type, card in collected:
            self._shelves[card_type].put(card, record.name)
        record.offers = tuple(f"{card.kind} {card.name}" for _, card in collected)


def _nearest_hook(text: str) -> str:
    unknown = re.search(r"unknown hook '(\w+)'", text)
    known = [name for name in vars(hookspecs) if name.startswith("deploykit_")]
    near = difflib.get_close_matches(unknown[1], known, n=1) if unknown else []
    return f". Did you mean {near[0]!r}?" if near else ""


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
