"""What the checking process says as it goes, one line of JSON each, so that a crash still leaves the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploykit.plugin_check.report import Check


class EventWriter:
    """Appends events to a file; used in the checking process."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def fact(self, values: dict[str, Any]) -> None:
        """Tell what the registry knows of one entry point."""
        self._write({"fact": values})

    def started(self, what: str) -> None:
        """Tell what is looked at now."""
        self._write({"started": what})

    def check(self, check: Check) -> None:
        """Tell what was found."""
        self._write({"check": asdict(check)})

    def done(self) -> None:
        """Tell that everything was looked at."""
        self._write({"done": True})

    def _write(self, event: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, default=str) + "\n")


class EventReader:
    """Reads what was appended since it was last asked; used beside the checking process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the events that are complete and not yet read."""
        if not self._file.exists():
            return []
        with self._file.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
