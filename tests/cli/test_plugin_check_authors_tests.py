"""``deploykit plugin check`` with tests of the author's own: their helpers, their settings, what they switch off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.faulty_plugins import DECODER, EXAMPLES, NOTHING
from tests.cli.plugin_projects import CommandLine, by_hand

SWITCHED_OFF = "test_mine.py switches test_its_input_stays_as_it_was of DecoderContract off; a promise that is never "
WRITING = NOTHING.replace("        return {", "        outputs['scores'][:] = 0\n        return {")
PYPROJECT = """
[project]
name = "deploykit-mine"
[project.entry-points.deploykit]
mine = "deploykit_mine"
"""
SETTINGS = NOTHING.replace(
    "class Mine(Decoder):\n",
    "class Settings(DecoderConfig):\n    size: int = Field(ge=1, le=9, description='rows')\n\n\n"
    "class Mine(Decoder):\n    Config = Settings\n",
).replace("import Decoder,", "import Decoder, DecoderConfig,")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def check(call: CommandLine, folder: Path, files: Mapping[str, str]) -> tuple[int, list[dict[str, Any]]]:
    """Check a decoder ``mine`` with these further files; returns the exit code and the checks."""
    sources = {"deploykit_mine/__init__.py": DECODER, "deploykit_mine/mine.py": NOTHING, **files}
    code, out, err = call("plugin", "check", by_hand(folder, sources), "--json")
    assert err == ""
    return code, json.loads(out)["checks"]


def failures(checks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["name"], item["message"]) for item in checks if item["outcome"] == "failed"]


@pytest.mark.parametrize(
    "tests",
    [
        f"{EXAMPLES}\n    test_its_input_stays_as_it_was = None\n",
        EXAMPLES.replace("import numpy", "import pytest\nimport numpy").replace(
            "class TestMine", "@pytest.mark.skip\nclass TestMine"
        ),
    ],
    ids=["none", "skip"],
)
def test_a_promise_switched_off_fails_and_says_so(call: CommandLine, tmp_path: Path, tests: str) -> None:
    code, checks = check(call, tmp_path, {"deploykit_mine/mine.py": WRITING, "tests/test_mine.py": tests})
    assert code == 1
    told = dict(failures(checks))
    assert told["test_its_input_stays_as_it_was"].startswith(SWITCHED_OFF)
    (off,) = [item for item in checks if item["name"] == "test_its_input_stays_as_it_was"]
    assert off["says"] == "It neither writes into a model's outputs nor hands them out as its own."


def test_a_class_of_which_nothing_is_left_fails(call: CommandLine, tmp_path: Path) -> None:
    tests = f"{EXAMPLES}\n    for promise in [name for name in dir(DecoderContract) if name.startswith('test_')]:\n"
    code, checks = check(call, tmp_path, {"tests/test_mine.py": f"{tests}        locals()[promise] = None\n"})
    names = {name for name, message in failures(checks) if "switches" in message}
    assert code == 1
    assert names == {item["name"] for item in checks if item["group"] == "decoder mine: DecoderContract"}
    assert len(names) > 5


def test_a_promise_that_another_class_tries_is_not_missing(call: CommandLine, tmp_path: Path) -> None:
    tests = f"{EXAMPLES}\n\nclass TestMore(TestMine):\n    test_its_input_stays_as_it_was = None\n"
    code, checks = check(call, tmp_path, {"tests/test_mine.py": tests})
    assert (code, failures(checks)) == (0, [])


def test_a_promise_that_is_expected_to_fail_fails(call: CommandLine, tmp_path: Path) -> None:
    tests = EXAMPLES.replace("import numpy", "import pytest\nimport numpy")
    tests = tests.replace("class TestMine", "@pytest.mark.xfail\nclass TestMine")
    code, checks = check(call, tmp_path, {"deploykit_mine/mine.py": WRITING, "tests/test_mine.py": tests})
    assert code == 1
    assert "test_its_input_stays_as_it_was" in dict(failures(checks))


def test_ours_is_run_where_a_conftest_takes_the_authors_away(call: CommandLine, tmp_path: Path) -> None:
    """A runtime's contract needs nothing of its author, so what theirs does not try is tried by ours."""
    card = (
        "from deploykit import RuntimeCard, hookimpl\n\n\n@hookimpl\ndef deploykit_runtimes():\n    yield RuntimeCard("
    )
    files = {
        "deploykit_mine/__init__.py": f"{card}'mine', 'the usual one', 'deploykit_mine.mine:Mine')\n",
        "deploykit_mine/mine.py": "from deploykit_serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu as Usual\n\n\n"
        "class Mine(Usual): ...\n",
        "tests/test_mine.py": "from deploykit.testing import RuntimeContract\n\n\nclass TestMine(RuntimeContract):\n"
        "    name = 'mine'\n",
        "tests/conftest.py": "def pytest_collection_modifyitems(items):\n"
        "    own = [item for item in items if item.path.name == 'test_mine.py']\n"
        "    for item in own[1:]:\n        items.remove(item)\n",
    }
    _, checks = check(call, tmp_path, files)
    from deploykit.plugin_check.suites import promises
    from deploykit.testing import RuntimeContract

    told = [item["name"] for item in checks if item["group"] == "runtime mine: RuntimeContract"]
    assert sorted(told) == sorted(promises(RuntimeContract))


@pytest.mark.parametrize(
    "files",
    [
        {"tests/helper.py": "import numpy as np\n"},
        {"tests/__init__.py": "", "helper.py": "import numpy as np\n"},
        {"more/ways/helper.py": "import numpy as np\n",
         "pyproject.toml": f"{PYPROJECT}[tool.pytest.ini_options]\npythonpath = 'more/ways'\n"},
        {"more ways/helper.py": "import numpy as np\n",
         "pyproject.toml": f"{PYPROJECT}[tool.pytest]\npythonpath = ['tests', 'more ways']\n"},
    ],
    ids=["beside it", "beside its package", "pythonpath", "native pythonpath"],
)  # fmt: skip
def test_helpers_are_found_as_pytest_finds_them(call: CommandLine, tmp_path: Path, files: Mapping[str, str]) -> None:
    tests = EXAMPLES.replace("import numpy as np\n", "from helper import np\n")
    code, checks = check(call, tmp_path, {"tests/test_mine.py": tests, **files})
    assert (code, failures(checks)) == (0, [])


def test_a_required_setting_is_taken_from_the_test(call: CommandLine, tmp_path: Path) -> None:
    source = SETTINGS.replace("import numpy", "from pydantic import Field\nimport numpy")
    tests = EXAMPLES.replace('    name = "mine"\n', '    name = "mine"\n    config = {"size": 3}\n')
    code, checks = check(call, tmp_path, {"deploykit_mine/mine.py": source, "tests/test_mine.py": tests})
    assert (code, failures(checks)) == (0, [])
    (made,) = [item for item in checks if item["name"] == "made"]
    assert (made["outcome"], made["message"]) == ("ok", "with the settings of its test: {'size': 3}")


@pytest.mark.parametrize("tests", [{}, {"tests/test_mine.py": EXAMPLES}], ids=["no test", "no config"])
def test_a_required_setting_that_nobody_gives(call: CommandLine, tmp_path: Path, tests: Mapping[str, str]) -> None:
    source = SETTINGS.replace("import numpy", "from pydantic import Field\nimport numpy")
    code, checks = check(call, tmp_path, {"deploykit_mine/mine.py": source, **tests})
    text = (
        "mine: no default for the setting 'size'; give one, or write a test class of DecoderContract with "
        "config = {'size': ...} and check the project's folder, where it is used"
    )
    assert code == 1
    assert failures(checks) == [("made", text)]


def test_a_required_setting_out_of_range(call: CommandLine, tmp_path: Path) -> None:
    source = SETTINGS.replace("import numpy", "from pydantic import Field\nimport numpy")
    tests = EXAMPLES.replace('    name = "mine"\n', '    name = "mine"\n    config = {"size": 30}\n')
    code, checks = check(call, tmp_path, {"deploykit_mine/mine.py": source, "tests/test_mine.py": tests})
    text = "mine: setting 'size': Input should be less than or equal to 9, got 30"
    assert (code, failures(checks)) == (1, [("made", text)])
