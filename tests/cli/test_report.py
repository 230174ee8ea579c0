"""``deploykit report`` through the installed program's own entry."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.report.written import HOST, write_reported

Call = Callable[..., tuple[int, str, str]]


def test_page_json_and_csv_are_written_and_the_page_names_its_command(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reported(tmp_path / "all of them" / "a.bundle")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("report", "all of them", "-o", "page.html", "--host", HOST.id)
    assert (code, err) == (0, "")
    assert out.startswith("page.html (")
    assert "page.json and page.csv" in out
    page = Path("page.html").read_text()
    command = f"deploykit report 'all of them' -o page.html --host {HOST.id}"
    assert command.replace("'", "&#x27;") in page
    assert str(tmp_path) not in page
    assert json.loads(Path("page.json").read_text())["command"] == command
    assert Path("page.csv").read_text().startswith("bundle,variant,role,")


def test_what_is_missing_is_said_with_the_command_that_makes_it(call: Call, tmp_path: Path) -> None:
    write_reported(tmp_path / "a.bundle", proven=False, profiled=False)
    code, out, _ = call("report", tmp_path / "a.bundle", "-o", tmp_path / "r.html")
    assert code == 0
    assert f"a has no proofs: never verified; run: deploykit verify {tmp_path / 'a.bundle'}" in out
    assert f"run: deploykit profile {tmp_path / 'a.bundle'}" in out


def test_mistakes_are_one_message(call: Call, tmp_path: Path) -> None:
    code, out, err = call("report", tmp_path, "-o", tmp_path / "r.html")
    assert (code, out) == (1, "")
    assert err.startswith("error: no bundle in the folder")
    write_reported(tmp_path / "a.bundle")
    code, _, err = call("report", tmp_path, "-o", tmp_path / "r.pdf")
    assert code == 1
    assert err.startswith("error: the page's name must end in .html, got 'r.pdf'")
    assert not list(tmp_path.glob("r.*"))


def test_neither_report_nor_a_comparison_of_recorded_runs_imports_a_runtime_or_torch(tmp_path: Path) -> None:
    write_reported(tmp_path / "a.bundle")
    script = """
import sys
from pathlib import Path
from deploykit_serving.report.recorded_runs import compare_bundles_recorded
from deploykit_serving.report.writing import make_report
from deploykit.bundle import open_bundle
made = make_report([Path("a.bundle")], host_id=HOST)
bundle = open_bundle("a.bundle")
found = compare_bundles_recorded(bundle, bundle, (HOST, HOST), None, None)
assert found and "<svg" in made.page
heavy = {"torch", "onnx", "onnxruntime", "bentoml", "openvino", "tensorrt", "matplotlib.pyplot"}
print(sorted(heavy & set(sys.modules)))
""".replace("HOST", repr(HOST.id))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_without_matplotlib_the_extra_is_named(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reported(tmp_path / "a.bundle")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)

    class Refuses:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] == "matplotlib":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])
    code, _, err = call("report", tmp_path / "a.bundle", "-o", tmp_path / "r.html", "--host", HOST.id)
    assert code == 1
    assert "matplotlib" in err
    assert "[report]" in err
    assert not list(tmp_path.glob("r.*"))
