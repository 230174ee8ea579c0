from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from deploykit.cli.main import run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run ``deploykit ARGUMENTS`` in this process; gives exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def do(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deploykit", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            run()
        out, err = capsys.readouterr()
        return int(exit_info.value.code or 0), out, err

    return do
