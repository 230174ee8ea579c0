"""The checking process: looks at one plugin and appends what it finds to a file.

Run: python -m deploykit.plugin_check.worker JOB.json
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from deploykit.cards import Card
from deploykit.errors import DeploykitError, MissingExtraError
from deploykit.plugin_check import discovery
from deploykit.plugin_check.events import EventWriter
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
    usable = [card for card in discovery.cards_of(alone) if _usable(card, events)]
    if usable and _kit_is_there(events):
        _run(usable, points, job, events)
    events.done()


def _usable(card: Card, events: EventWriter) -> bool:
    """Make the thing a card names, as every command does before it uses it."""
    making = importlib.import_module("deploykit.making")
    group, says = f"{card.kind} {card.name}", f"It is a deploykit.{card.contract} that can be made."
    events.started(f"{group}: {says}")
    started = time.perf_counter()
    try:
        getattr(making, f"make_{card.kind}")(card.name)
        fault = ""
    except DeploykitError as error:
        fault = str(error)
    except Exception as error:
        from deploykit.plugin_check.fault_messages import fault_message

        fault = fault_message(error, {card.implementation.partition(":")[0].partition(".")[0]})
    events.check(Check(group, "made", says, "failed" if fault else "ok", fault, time.perf_counter() - started))
    return not fault


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
    packages = {
        module.partition(":")[0].partition(".")[0] for module in (*points.values(), *(c.implementation for c in cards))
    }
    wanted = [pair for pair in pairs if pair not in left_out]
    collecting.run_contracts(wanted, [Path(test) for test in job["tests"]], packages, events)
    for card, contract in left_out:
        group = suites.group_of(card, contract)
        events.check(Check(group, "all", "Everything in this contract.", "skipped", "left out with --quick"))


if __name__ == "__main__":
    work(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
