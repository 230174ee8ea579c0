"""The contract's tests, run by pytest and told as checks; runs in the checking process."""

from __future__ import annotations

import inspect
import shlex
import tempfile
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from deploykit.cards import Card
from deploykit.plugin_check import suites
from deploykit.plugin_check.card_making import made, required_settings
from deploykit.plugin_check.events import EventWriter
from deploykit.plugin_check.fault_messages import fault_message
from deploykit.plugin_check.report import Check, Outcome

if TYPE_CHECKING:
    from pluggy import Result

_SAME_FAULT: Final = 3
"""After so many failures in a row for one reason the rest of a card's checks would only say it again, slowly."""

Pair = tuple[Card, type]
Promise = tuple[str, str]
"""A group and the name of a test in it."""


def run_contracts(
    pairs: Sequence[Pair],
    tests: Sequence[Path],
    import_path: Sequence[Path],
    packages: Collection[str],
    events: EventWriter,
) -> None:
    """Run the contracts and write a check for each test.

    Args:
        pairs: cards and the contracts they are held to.
        tests: files of the plugin's own; the promises that a class in them tries of one of the cards take the place
            of ours, because it knows the settings.
        import_path: folders that these files import their helpers from.
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
            "-o", f"pythonpath={shlex.join(map(str, import_path))}",
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
        self._own: dict[str, list[pytest.Class]] = {}  # the plugin's test classes by group
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

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note the plugin's own classes, also those of which no test is left."""
        for node in report.result or ():
            if isinstance(node, pytest.Class) and not _is_ours(node.obj):
                for pair in self.pairs:
                    if _holds(node.obj, pair):
                        self._own.setdefault(suites.group_of(*pair), []).append(node)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep one test for each promise: the plugin's own where it has one that runs."""
        unmade = self._unmade(items)
        own: set[Promise] = set()
        skipped: set[Promise] = set()
        for item in items:
            if (pair := self._pair(item)) and not _is_ours(item.cls):  # type: ignore[attr-defined]
                (skipped if item.get_closest_marker("skip") else own).add((suites.group_of(*pair), _function(item)))
        off = self._switched_off(own, skipped, unmade)
        kept: list[tuple[int, pytest.Item]] = []
        for item in items:
            pair = self._pair(item)
            if pair is None or pair[0] in unmade:
                continue
            promise = suites.group_of(*pair), _function(item)
            ours = _is_ours(item.cls)  # type: ignore[attr-defined]
            if promise not in off and ours == (promise not in own):
                kept.append((self.pairs.index(pair), item))
        items[:] = [item for _, item in sorted(kept, key=lambda place: place[0])]

    def _unmade(self, items: list[pytest.Item]) -> list[Card]:
        """Make the cards whose settings only the plugin's tests know; return those that cannot be made.

        Our suites, where they are needed, are given the same settings.
        """
        unmade: list[Card] = []
        for card in dict.fromkeys(card for card, _ in self.pairs):
            groups = [suites.group_of(*pair) for pair in self.pairs if pair[0] == card]
            if not required_settings(card):
                continue
            classes = [node.obj for group in groups for node in self._own.get(group, ())]
            config: dict[str, Any] = next((cls.config for cls in classes if getattr(cls, "config", None)), {})
            check = made(card, config)
            self._events.check(check)
            if check.outcome == "failed":
                unmade.append(card)
                self.told.update(groups)
            for item in items:
                if getattr(getattr(item, "cls", None), "deploykit_card", None) == card:
                    item.cls.config = config  # type: ignore[attr-defined]
        return unmade

    def _switched_off(self, own: set[Promise], skipped: set[Promise], unmade: Collection[Card]) -> set[Promise]:
        """Tell of the promises that the plugin's classes leave out, and return them."""
        off: set[Promise] = set()
        for card, contract in self.pairs:
            group = suites.group_of(card, contract)
            classes = self._own.get(group, [])
            alone = suites.needs_examples(contract)
            if card in unmade:
                continue
            if alone and not classes:
                self._tell(
                    Check(
                        group, "examples", "It does what the contract says.", "skipped",
                        f"only its author knows what to try it on: write a test with a {contract.__name__} and its "
                        "examples(), and check the project's folder",
                    )
                )  # fmt: skip
            for name in suites.promises(contract) if classes else ():
                function = getattr(contract, name)
                whole = all(getattr(node.obj, name, None) is function for node in classes)
                # Where it is whole and was left out by other means, ours is run instead.
                if (group, name) in own or (whole and not alone and (group, name) not in skipped):
                    continue
                off.add((group, name))
                message = (
                    f"{classes[0].path.name} switches {name} of {contract.__name__} off; a promise that is never tried "
                    "proves nothing: let it run, or use skipif with a reason if only some machines can try it"
                )
                self._tell(Check(group, name, _says(function, name), "failed", message))
        return off

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out what would fail for a reason already told, and refuse rewritten promises."""
        _, contract = pair = self._kept(item)
        group, name = suites.group_of(*pair), _function(item)
        self._events.started(f"{group}: {_says(getattr(item, 'function', None), name)}")
        last = self._last.get(group, [])
        if len(last) == _SAME_FAULT and len(set(last)) == 1:
            pytest.skip(f"the {_SAME_FAULT} checks before it failed with one and the same message; mend that first")
        if getattr(getattr(item, "cls", None), name) is not getattr(contract, name):
            pytest.fail(
                f"{Path(str(item.path)).name} rewrites {name} of {contract.__name__}; a promise that its author "
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
            error = call.excinfo.value
            # Not as pytest has it: what is expected to fail, by xfail, fails all the same.
            outcome = "skipped" if isinstance(error, pytest.skip.Exception) else "failed"
            message = error.msg or "" if isinstance(error, _OUTCOMES) else fault_message(error, self._packages)
        group, name = suites.group_of(*self._kept(item)), _function(item)
        if outcome == "failed":
            self._last[group] = [*self._last.get(group, []), message][-_SAME_FAULT:]
        elif outcome == "ok":
            self._last[group] = []
        says = _says(getattr(item, "function", None), name)
        self._tell(Check(group, name, says, outcome, message, call.duration))

    def _tell(self, check: Check) -> None:
        self.told.add(check.group)
        self._events.check(check)

    def _pair(self, item: pytest.Item) -> Pair | None:
        """Return what an item is a test of; none for tests that are not the contract's."""
        cls, name = getattr(item, "cls", None), _function(item)
        return next((pair for pair in self.pairs if _holds(cls, pair) and name in suites.promises(pair[1])), None)

    def _kept(self, item: pytest.Item) -> Pair:
        pair = self._pair(item)
        assert pair is not None, f"{item.name} is no test of the contract and was to be dropped"
        return pair


_OUTCOMES: Final = (pytest.skip.Exception, pytest.fail.Exception)


def _holds(cls: object, pair: Pair) -> bool:
    """Whether a test class holds a card to a contract."""
    card, contract = pair
    return isinstance(cls, type) and issubclass(cls, contract) and getattr(cls, "name", "") == card.name


def _is_ours(cls: object) -> bool:
    return hasattr(cls, "deploykit_card")


def _function(item: pytest.Item) -> str:
    """Return the name of a test without its parameters."""
    return str(getattr(item, "originalname", item.name))


def _says(function: object, name: str) -> str:
    """Return the first paragraph of a test's docstring, which says what holds."""
    text = inspect.getdoc(function) or name.removeprefix("test_").replace("_", " ")
    return " ".join(text.partition("\n\n")[0].replace("``", "`").split())
