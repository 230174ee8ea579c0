"""The checking process: looks at one plugin and appends what it finds to a file.

Run: python -m deploykit.plugin_check.worker JOB.json
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from deploykit.cards import Card
from deploykit.errors import MissingExtraError
from deploykit.plugin_check import discovery
from deploykit.plugin_check.events import EventWriter
from deploykit.plugin_check.module_names import top_package
from deploykit.plugin_check.report import Check


def work(job: dict[str, Any]) -> None:
    """Check the plugin that the job names."""
    events = EventWriter(Path(job["events"]))
    points: dict[str, str] = job["entry_points"]
    alone = discovery.load_alone(points)
    for record in alone.plugins:
        events.fact(dataclasses.asdict(record))
    for check in discovery.discovery_checks(alone, points.values()):
        events.check(check)
    usable = [card for card in discovery.cards_of(alone) if _usable(card, job, events)]
    if usable and _kit_is_there(events):
        _run(usable, points, job, events)
    events.done()


def _usable(card: Card, job: dict[str, Any], events: EventWriter) -> bool:
    """Make the thing a card names, unless settings that only the plugin's tests know are needed for it."""
    # Not above: what it imports must not be there yet when the plugin is discovered, whose load time would hide it.
    from deploykit.plugin_check.card_making import made, making_says, required_settings

    events.started(f"{card.kind} {card.name}: {making_says(card)}")
    if job["tests"] and required_settings(card):
        return True  # made once the tests are read
    check = made(card)
    events.check(check)
    return check.outcome == "ok"


def _kit_is_there(events: EventWriter) -> bool:
    events.started("importing the contract suites")
    try:
        importlib.import_module("deploykit.testing")
    except ImportError as error:
        missing = MissingExtraError.from_import(error)
        text = str(missing) if missing else f"{type(error).__name__}: {error}"
        events.check(Check(discovery.GROUP, "kit", "The contract suites can be imported.", "failed", text))
        return False
    return True


def _run(cards: list[Card], points: dict[str, str], job: dict[str, Any], events: EventWriter) -> None:
    # Not above: pytest and torch must not be there yet when the plugin is discovered.
    from deploykit.plugin_check import collecting, suites

    pairs = [(card, contract) for card in cards for contract in suites.contracts_for(card)]
    left_out = [pair for pair in pairs if job["quick"] and pair[1].__name__ in suites.SLOW]
    packages = {top_package(value) for value in (*points.values(), *(card.implementation for card in cards))}
    wanted = [pair for pair in pairs if pair not in left_out]
    tests, import_path = ([Path(place) for place in job[key]] for key in ("tests", "import_path"))
    collecting.run_contracts(wanted, tests, import_path, packages, events)
    for card, contract in left_out:
        group = suites.group_of(card, contract)
        events.check(Check(group, "all", "Everything in this contract.", "skipped", "left out with --quick"))


if __name__ == "__main__":
    work(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
