"""The page on latency tables runs as it stands, and what it says is needed to read one is all that is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "latency-tables.md"


def test_reading_a_table_loads_neither_torch_nor_onnx() -> None:
    program = (
        "import sys, deploykit.latency_file, deploykit.latency_calibration\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_pages_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for code in blocks:
        exec(compile(code, str(PAGE), "exec"), names)
    assert names["accepted"] is True
    assert names["attempt"] == 1, "the loop was closed once: the first network measured too slow"
