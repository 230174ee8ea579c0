"""What a check of a plugin found, as values that travel from the checking process as lines of JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Outcome = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        group: what it belongs to: the plugin itself, or a card and a contract.
        name: short and unique in its group; the test's name where there is one.
        says: what holds if it is ok, as a sentence.
        message: why not, for the plugin's author; or a remark.
        seconds: how long it took.
    """

    group: str
    name: str
    says: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """The checks of one card under one contract, in the order in which they ran."""

    title: str
    checks: tuple[Check, ...]


@dataclass(slots=True)
class PluginReport:
    """Everything a check found.

    Attributes:
        subject: what was checked, in words.
        facts: what the registry knows of each entry point: version, hooks, offers, contract, load time.
        checks: in the order in which they ran.
        seconds: of the whole check, starting Python included.
    """

    subject: str
    facts: list[dict[str, Any]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether something was checked and nothing failed."""
        return bool(self.checks) and not self.failed

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]

    @property
    def groups(self) -> list[Group]:
        """The checks by group, in the order of each group's first."""
        titles = dict.fromkeys(check.group for check in self.checks)
        return [Group(title, tuple(check for check in self.checks if check.group == title)) for title in titles]

    def counts(self) -> dict[str, int]:
        """Return how many checks came to each outcome."""
        return {outcome: sum(check.outcome == outcome for check in self.checks) for outcome in get_args(Outcome)}

    def faults(self) -> list[tuple[str, list[Check]]]:
        """Return each message with the checks that failed with it: one fault often fails many checks."""
        messages: dict[str, list[Check]] = {}
        for check in self.failed:
            messages.setdefault(check.message, []).append(check)
        return list(messages.items())
