"""To register is to be tested: every registered task passes the task contract."""

from __future__ import annotations

import pytest

from deploykit import installed
from deploykit.testing import TaskContract

for _name in installed().tasks:
    _title = f"Test_{_name.replace('-', '_')}"
    globals()[_title] = type(_title, (TaskContract,), {"name": _name, "__module__": __name__})


@pytest.mark.parametrize(
    "name", ["digit-order", "digits", "pages", "photograph", "point-pairs", "root-neighbours"]
)  # fmt: skip
def test_the_shipped_tasks_are_registered(name: str) -> None:
    assert name in installed().tasks
