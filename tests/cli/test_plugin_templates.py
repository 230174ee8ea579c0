"""What the templates of ``deploykit plugin new`` hold: what they change, what they import, how they read."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from deploykit import Signature, TensorSpec
from deploykit.scaffold import KINDS
from tests.cli.plugin_projects import NAMES, ROOT, CommandLine, import_path, pytest_on, written

BROUGHT = {"numpy", "pydantic", "torch", "typer"}
"""What a plugin may import and leave to deploykit's installation."""


class Tagger(nn.Module):
    """An embedding and a recurrent layer, whose weights are matrices too, below a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.memory, self.head = nn.Embedding(7, 4), nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tag the whole of each sequence."""
        answer: torch.Tensor = self.head(self.memory(self.embedding(x))[0][:, -1])
        return answer


class Tied(nn.Module):
    """Two linear layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Go through both."""
        answer: torch.Tensor = self.second(torch.relu(self.first(x)))
        return answer


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The layer template's module, imported."""
    file = written("layer", tmp_path_factory.mktemp("layer")) / "src" / "deploykit_steps" / "sigmoid.py"
    spec = importlib.util.spec_from_file_location("written_sigmoid", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signature(x: TensorSpec) -> Signature:
    return Signature(inputs=(x,), outputs=(TensorSpec(name="logits", shape=("batch", 3)),))


def block(page: str, words: str) -> str:
    """Return the one Python block of a page that holds these words."""
    text = (ROOT / "docs" / "howto" / page).read_text()
    (found,) = [code for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if words in code]
    return str(found)


def imports(source: str) -> set[str]:
    """Return the packages a text imports anywhere, those of Python itself left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            found.add(node.module)
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names


def test_only_linear_layers_get_bits(layer: ModuleType) -> None:
    torch.manual_seed(0)
    model, x = Tagger(), torch.randint(0, 7, (5, 6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    method_input = signature(TensorSpec(name="x", dtype="int64", shape=("batch", 6)))
    assert set(layer.matrices(model)) == {"head.weight"}
    soft = layer.OneBitModel(model, method_input)
    hard = layer.SigmoidMethod.harden(None, soft, (x,)).module
    after = hard.state_dict()
    assert {name for name, value in before.items() if not torch.equal(after[name], value)} == {"head.weight"}
    assert after["head.weight"].abs().unique().numel() == 1
    assert torch.equal(soft(x), hard(x))
    assert torch.equal(model.head.weight, before["head.weight"])


def test_a_model_that_is_one_linear_layer_and_a_weight_that_two_share(layer: ModuleType) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4)
    for model, names in ((nn.Linear(4, 3), {"weight"}), (Tied(), {"first.weight"})):
        assert set(layer.matrices(model)) == names
        soft = layer.OneBitModel(model, signature(TensorSpec(name="x", shape=("batch", 4))))
        hard = layer.SigmoidMethod.harden(None, soft, (x,)).module
        assert torch.equal(soft(x), hard(x))
        assert not torch.equal(model(x), hard(x))


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_imports_is_what_it_lists(tmp_path: Path, kind: str) -> None:
    project = written(kind, tmp_path)
    imported: set[str] = set()
    for file in (project / "src").rglob("*.py"):
        imported |= imports(file.read_text())
    others = {name for name in imported - BROUGHT if name.partition("_")[0] != "deploykit"}
    owners = metadata.packages_distributions()
    content = tomllib.loads((project / "pyproject.toml").read_text())
    listed = content["project"]["dependencies"]
    assert sorted(listed) == sorted(owners[name][0] for name in others)
    assert listed == list(KINDS[kind].needs)


def test_the_reader_of_imports_sees_them_all() -> None:
    text = "import os, a.b\nfrom c.d import e\nfrom . import f\ndef g():\n    import h\n"
    assert imports(text) == {"a", "c", "h"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_says_once_what_it_is(tmp_path: Path, kind: str) -> None:
    readme = (written(kind, tmp_path) / "README.md").read_text()
    (line,) = [line for line in readme.splitlines() if line.startswith("A plugin for deploykit.")]
    assert line.startswith(f"A plugin for deploykit. It offers `{NAMES[kind]}`, a {KINDS[kind].noun}")
    assert line.count(f"{KINDS[kind].noun} ") + line.count(f"{KINDS[kind].noun}:") == 1


def test_every_line_of_the_table_of_kinds_works_in_one_folder(call: CommandLine, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "howto" / "kinds.md").read_text()
    commands = re.findall(r"`deploykit plugin new (\S+) --kind (\w+)`", text)
    assert {kind for _, kind in commands} == set(KINDS)
    for name, kind in commands:
        code, _, err = call("plugin", "new", name, "--kind", kind, "--out", tmp_path)
        assert (code, err) == (0, "")


def test_a_second_method_joins_the_first_as_the_page_says(call: CommandLine, tmp_path: Path) -> None:
    project = written("layer", tmp_path)
    code, _, err = call("plugin", "new", "steps.tower", "--kind", "architecture", "--out", tmp_path)
    heading = "A second thing in the same package"
    assert code == 1
    assert f"docs/howto/kinds.md, under '{heading}'" in err
    assert f"\n## {heading}\n" in (ROOT / "docs" / "howto" / "kinds.md").read_text()

    package = project / "src" / "deploykit_steps"
    (tmp_path / "elsewhere").mkdir()
    template = written("architecture", tmp_path / "elsewhere", "others.tower")
    (template / "src" / "deploykit_others" / "tower.py").rename(package / "tower.py")
    head, _, _ = (package / "__init__.py").read_text().partition("@hookimpl\n")
    (package / "__init__.py").write_text(head + block("kinds.md", "steps.tower"))
    program = (
        "from deploykit import installed, make_method\n"
        "print(*(type(make_method(f'steps.{name}')).__name__ for name in ('sigmoid', 'tower')), installed().failures)"
    )
    environment = {**os.environ, "PYTHONPATH": import_path([project], tmp_path / "staged")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "SigmoidMethod TowerMethod []\n", done.stderr


def test_the_examples_of_the_page_on_tests_fit_the_decoder(tmp_path: Path) -> None:
    project = written("decoder", tmp_path, "best-labels")
    (project / "tests" / "test_best_labels.py").write_text(block("testing.md", "DecoderContract"))
    done = pytest_on([project], tmp_path / "home")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed in ", done.stdout, re.MULTILINE), done.stdout
