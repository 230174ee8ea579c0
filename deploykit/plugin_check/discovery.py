"""The plugin itself: does it load, quickly, under names of its own, written for this contract, on public names alone?

Runs in the checking process, before anything heavy is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from deploykit.cards import CARD_HOOKS, Card
from deploykit.contract_version import ATTRIBUTE, CONTRACT_VERSION, version_fault
from deploykit.errors import DuplicateNameError, UnknownNameError
from deploykit.plugin_check.module_names import top_package
from deploykit.plugin_check.private_names import private_names
from deploykit.plugin_check.report import Check, Outcome
from deploykit.plugin_record import PluginRecord
from deploykit.registry import ENTRY_POINT_GROUP, Registry, installed

GROUP: Final = "plugin"


def load_alone(names: Iterable[str]) -> Registry:
    """Return a registry of these entry points and no others, so that what they import is their own doing."""
    wanted = set(names)
    return Registry(point for point in metadata.entry_points(group=ENTRY_POINT_GROUP) if point.name in wanted)


def cards_of(registry: Registry) -> list[Card]:
    """Return every card that the plugins of a registry offer, by kind."""
    return [card for kind in CARD_HOOKS.values() for card in registry.cards(kind).values()]


def discovery_checks(alone: Registry, modules: Iterable[str]) -> Iterator[Check]:
    """Yield what is to be said of the plugin before any of its implementations is imported.

    Args:
        modules: what its entry points name.
    """
    for record in alone.plugins:
        yield _loads(record)
        yield _light(record)
        yield _version(record)
    yield _names(alone)
    verbs = [record.name for record in alone.plugins if "deploykit_cli" in record.hooks]
    if verbs:
        yield _verbs(verbs)
    yield _public_names({top_package(value) for value in (*modules, *(c.implementation for c in cards_of(alone)))})


def _loads(record: PluginRecord) -> Check:
    says = f"Entry point {record.name!r} loads and implements hooks as specified."
    if record.failure:
        return _check("loads", says, "failed", f"plugin {record.name!r} {record.failure}")
    if not record.hooks:
        return _check(
            "loads", says, "failed",
            f"plugin {record.name!r} implements no hook, so it offers nothing; mark its functions, such as "
            "deploykit_methods, with @hookimpl from deploykit",
        )  # fmt: skip
    return _check("loads", says, seconds=record.seconds)


def _light(record: PluginRecord) -> Check:
    says = "Discovery imports nothing heavy."
    if record.remark:
        return _check("light", says, "failed", f"plugin {record.name!r} {record.remark}", record.seconds)
    return _check("light", says)


def _version(record: PluginRecord) -> Check:
    says = f"It says that it was written for contract {CONTRACT_VERSION} of deploykit."
    if record.contract is None and record.failure:
        return _check("version", says, "skipped", "it did not load, so it could not be asked")
    if record.contract is None:
        return _check("version", says, message=f"it says nothing; write {ATTRIBUTE} = {CONTRACT_VERSION} in its module")
    if fault := version_fault(SimpleNamespace(**{ATTRIBUTE: record.contract})):
        return _check("version", says, "failed", f"plugin {record.name!r} {fault}")
    if record.contract != CONTRACT_VERSION:
        says = f"It says that it was written for contract {record.contract}; deploykit speaks {CONTRACT_VERSION}."
    return _check("version", says)


def _names(alone: Registry) -> Check:
    """Compare with everybody else's plugins."""
    says = "No other plugin has its names."
    own = {record.name for record in alone.plugins if not record.failure}
    faults = [
        f"plugin {record.name!r} {record.failure}"
        for record in installed().plugins
        if record.name in own and record.failure
    ]
    for card in cards_of(alone):
        try:
            installed().card(type(card), card.name)
        except DuplicateNameError as error:
            faults.append(str(error))
        except UnknownNameError:
            continue  # the plugin as a whole was refused, which is said above
    faults += [failure for failure in alone.failures if " is registered by the plugins " in failure]
    return _check("names", says, "failed" if faults else "ok", "\n".join(faults))


def _verbs(names: list[str]) -> Check:
    """Put the verbs into the command line as it starts, which has typer read the arguments of each."""
    from deploykit.cli.main import app
    from deploykit.cli.plugin_verbs import add_plugin_verbs

    says = "Its commands fit into the command line."
    add_plugin_verbs(app)
    faults = [
        f"plugin {record.name!r} {record.failure}"
        for record in installed().plugins
        if record.name in names and record.failure
    ]
    return _check("commands", says, "failed" if faults else "ok", "\n".join(faults))


def _public_names(packages: set[str]) -> Check:
    says = "Its sources use no private name of deploykit."
    uses: list[str] = []
    for package in sorted(packages):
        for file, shown in _sources(package):
            try:
                uses += [use.text() for use in private_names(file, shown, frozenset(packages))]
            except SyntaxError as error:
                uses.append(f"{shown}:{error.lineno} is no Python: {error.msg}")
    if not uses:
        return _check("public names", says)
    advice = "names that begin with '_' may change with any version; use public ones, or ask for what is missing"
    return _check("public names", says, "failed", "\n".join([*uses, advice]))


def _sources(package: str) -> Iterator[tuple[Path, str]]:
    """Yield the Python files of a top-level package or module, with the names to show them by."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.origin and spec.origin.endswith(".py"):
            yield Path(spec.origin), Path(spec.origin).name
        return
    for place in spec.submodule_search_locations:
        for file in sorted(Path(place).rglob("*.py")):
            yield file, str(Path(package) / file.relative_to(place))


def _check(name: str, says: str, outcome: Outcome = "ok", message: str = "", seconds: float = 0.0) -> Check:
    return Check(GROUP, name, says, outcome, message, seconds)
