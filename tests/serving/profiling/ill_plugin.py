"""The plugin of :mod:`ill_runtimes`, found by this process and by those it starts as if it were installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploykit.plugin_check.staging import stage
from deploykit.registry import installed
from deploykit.testing.offering import offered


@pytest.fixture
def ill_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register ``crashing``, ``hanging``, ``leaving`` and ``absent``."""
    installed()  # found before: the plugin is for the processes that are started, and here it would be offered twice
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.syspath_prepend(stage(tmp_path / "staged", "ill-runtimes", "0.1.0", {"ill-runtimes": "ill_runtimes"}))
    module = importlib.import_module("ill_runtimes")
    kinds = {"crashing": module.Crashing, "hanging": module.Hanging, "leaving": module.Leaving, "absent": module.Absent}
    with offered(runtimes=kinds):
        yield
