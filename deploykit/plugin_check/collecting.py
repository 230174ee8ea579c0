"""The contract's tests, run by pytest and told as checks; runs in the checking process."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from deploykit.cards import Card
from deploykit.plugin_check import suites
from deploykit.plugin_check.events import EventWriter
from deploykit.plugin_check.fault_messages import fault_message
from deploykit.plugin_check.report import Check, Outcome

if TYPE_CHECKING:
    from pluggy import Result

_SAME_FAULT: Final = 3
"""After so many failures in a row for one reason the rest of a card's checks would only say it again, slowly."""

Pair = tuple[Card, type]


def run_contracts(pairs: Sequence[Pair], tests: Sequence[Path], packages: Collection[str], events: EventWriter) -> None:
    """Run the contracts and write a check for each test.

    Args:
        pairs: cards and the contracts they are held to.
        tests: files of the plugin's own; a class in them that holds one of the cards to one of the contracts takes
            the place of ours, because it knows the settings.
        packages: the plugin's top-level packages.
    """
    with tempfile.TemporaryDirectory(prefix="deploykit-check-") as folder:
        home = Path(folder)
        (home / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        ours = home / "test_contracts.py"
        ours.write_text(
            "from deploykit.plugin_check import collecting\nglobals().update(collecting.chosen_suites())\n",
            encoding="utf-8",
        )
        _Teller.pairs = tuple(pairs)
        options = [
            "-q", "-c", str(home / "pytest.ini"), "--rootdir", str(home), "--import-mode=importlib", "--no-header",
            "-p", "no:cacheprovider", "-p", "no:logging", "--continue-on-collection-errors",
        ]  # fmt: skip
        teller = _Teller(packages, events)
        code = pytest.main([*options, str(ours), *map(str, tests)], plugins=[teller])
    # A check that silently ran nothing would pass everything.
    left = [group for group in (suites.group_of(*pair) for pair in pairs) if group not in teller.told]
    if left or code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED}:
        text = f"pytest ended with {pytest.ExitCode(code).name}; not run: {', '.join(left) or 'what came after'}"
        events.check(Check("plugin", "run", "Every contract is run to its end.", "failed", text))


def chosen_suites() -> dict[str, type]:
    """Return the test classes of this run; read by the file that pytest collects."""
    return suites.suites(pair for pair in _Teller.pairs if not suites.needs_examples(pair[1]))


class _Teller:
    """A pytest plugin: keeps the contract's tests, drops all others, tells what becomes of each."""

    pairs: tuple[Pair, ...] = ()

    def __init__(self, packages: Collection[str], events: EventWriter) -> None:
        self._packages = packages
        self._events = events
        self._last: dict[str, list[str]] = {}
        self.told: set[str] = set()

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, report: pytest.CollectReport | pytest.TestReport
    ) -> None:
        """Tell of a file of the plugin's own that cannot be imported."""
        if isinstance(report, pytest.CollectReport):
            text = str(report.longrepr)
            lines = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
            says = f"Its tests in {node.path.name} can be read."
            self._events.check(Check("plugin", "tests", says, "failed", "\n".join(lines) or text))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep one test for each promise: the plugin's own class where it has one."""
        own = {pair for item in items for pair in self._held(item) if not _is_ours(item)}
        kept: list[pytest.Item] = []
        for item in items:
            held = self._held(item)
            if (_is_ours(item) and not held & own) or (not _is_ours(item) and held):
                kept.append(item)
        for card, contract in self.pairs:
            if suites.needs_examples(contract) and (card.name, contract) not in own:
                self._tell(
                    Check(
                        suites.group_of(card, contract), "examples", "It does what the contract says.", "skipped",
                        f"only its author knows what to try it on: write a test with a {contract.__name__} and its "
                        "examples(), and check the project's folder",
                    )
                )  # fmt: skip
        order = {(card.name, contract): index for index, (card, contract) in enumerate(self.pairs)}
        items[:] = sorted(kept, key=lambda item: min(order[held] for held in self._held(item)))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out what would fail for a reason already told, and refuse rewritten promises."""
        group = self._group(item)
        self._events.started(f"{group}: {_says(item)}")
        last = self._last.get(group, [])
        if len(last) == _SAME_FAULT and len(set(last)) == 1:
            pytest.skip(f"the {_SAME_FAULT} checks before it failed with one and the same message; mend that first")
        contract = self._contract(item)
        function = getattr(item, "originalname", item.name)
        if getattr(getattr(item, "cls", None), function) is not getattr(contract, function):
            pytest.fail(
                f"{Path(str(item.path)).name} rewrites {function} of {contract.__name__}; a promise that its author "
                "words proves nothing: take it out, or give it another name"
            )

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Result[pytest.TestReport], None]:
        """Tell how a test ended."""
        result = yield
        report = result.get_result()
        if report.when != "call" and report.passed:
            return
        message = ""
        outcome: Outcome = "ok"
        if call.excinfo is not None:
            outcome = "skipped" if report.skipped else "failed"
            error = call.excinfo.value
            message = error.msg or "" if isinstance(error, _OUTCOMES) else fault_message(error, self._packages)
        group = self._group(item)
        if outcome == "failed":
            self._last[group] = [*self._last.get(group, []), message][-_SAME_FAULT:]
        elif outcome == "ok":
            self._last[group] = []
        self._tell(Check(group, getattr(item, "originalname", item.name), _says(item), outcome, message, call.duration))

    def _tell(self, check: Check) -> None:
        self.told.add(check.group)
        self._events.check(check)

    def _held(self, item: pytest.Item) -> set[tuple[str, type]]:
        """Return which of the wanted promises an item is a test of; none for tests that are not the contract's."""
        cls, function = getattr(item, "cls", None), getattr(item, "originalname", item.name)
        if not isinstance(cls, type):
            return set()
        return {
            (card.name, contract)
            for card, contract in self.pairs
            if issubclass(cls, contract) and getattr(cls, "name", "") == card.name and function in vars(contract)
        }

    def _contract(self, item: pytest.Item) -> type:
        ((_, contract),) = self._held(item)
        return contract

    def _group(self, item: pytest.Item) -> str:
        ((name, contract),) = self._held(item)
        card = next(card for card, other in self.pairs if card.name == name and other is contract)
        return suites.group_of(card, contract)


_OUTCOMES: Final = (pytest.skip.Exception, pytest.fail.Exception)


def _is_ours(item: pytest.Item) -> bool:
    return hasattr(getattr(item, "cls", None), "deploykit_card")


def _says(item: pytest.Item) -> str:
    """Return the first paragraph of a test's docstring, which says what holds."""
    text = inspect.getdoc(getattr(item, "function", None)) or item.name.removeprefix("test_").replace("_", " ")
    return " ".join(text.partition("\n\n")[0].replace("``", "`").split())
