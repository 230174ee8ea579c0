"""``deploykit plugin new``: complete packages that work as they are written, names refused, nothing half-written."""

from __future__ import annotations

import ast
import json
import os
import string
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.plugins import LINES, code_lines, lines_of
from deploykit import installed
from deploykit.scaffold import KINDS
from deploykit.scaffold.names import LONGEST
from tests.cli.plugin_projects import NAMES, ROOT, CommandLine, import_path, pytest_on, written

QUICK = ("task", "target", "runtime", "decoder", "command")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One project of each kind."""
    folder = tmp_path_factory.mktemp("projects")
    return {kind: written(kind, folder) for kind in KINDS}


def test_it_writes_a_package_and_says_what_comes_next(call: CommandLine, tmp_path: Path) -> None:
    code, out, err = call("plugin", "new", "steps.sigmoid", "--kind", "layer", "--out", tmp_path)
    project = tmp_path / "deploykit-steps"
    assert (code, err) == (0, "")
    assert [item.name for item in tmp_path.iterdir()] == ["deploykit-steps"]
    files = {str(item.relative_to(project)) for item in project.rglob("*") if item.is_file()}
    package = {f"src/deploykit_steps/{name}" for name in ("__init__.py", "sigmoid.py", "py.typed")}
    assert files == package | {"pyproject.toml", "README.md", ".gitignore", "tests/test_sigmoid.py"}
    lines = out.splitlines()
    assert lines[0].startswith(f"wrote {project}: a method that ")
    assert lines[1] == "next:"
    assert lines[2:] == [
        f"  deploykit plugin check {project}",
        f"  pip install -c {ROOT / 'constraints.txt'} -e {project}",
        f"  python -m pytest {project}   # its tests want it installed first",
        "  deploykit train steps.sigmoid",
    ]


def test_it_writes_into_the_folder_it_is_called_in(
    call: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("plugin", "new", "best-class", "--kind", "decoder")
    assert code == 0
    assert out.startswith("wrote deploykit-best-class: a decoder")
    assert (tmp_path / "deploykit-best-class" / "src" / "deploykit_best_class" / "best_class.py").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_to_fill_in(projects: dict[str, Path], kind: str) -> None:
    project = projects[kind]
    content = tomllib.loads((project / "pyproject.toml").read_text())
    ((point, package),) = content["project"]["entry-points"]["deploykit"].items()
    assert point == NAMES[kind].partition(".")[0]
    assert "is somebody else's" in (project / "pyproject.toml").read_text()
    readme = (project / "README.md").read_text()
    for words in ("../deploykit/constraints.txt", "deploykit plugin check .", "python -m pytest", NAMES[kind]):
        assert words in readme
    for file in project.rglob("*"):
        if file.is_file():
            assert "$" not in file.read_text(), file
            assert "PACKAGE" not in str(file)
            assert "MODULE" not in str(file)
    tree = ast.parse((project / "src" / package / "__init__.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset == 0}
    assert imported <= {"deploykit", "collections.abc", "pathlib"}


def test_a_minimal_layer_plugin_has_at_most_forty_lines_of_code(projects: dict[str, Path]) -> None:
    assert 20 < lines_of(projects["layer"]) <= LINES == 40


def test_lines_of_code_are_counted_as_they_should_be() -> None:
    text = '"""Told.\n\nMore."""\n\n# why\nx = [\n    1,\n]\n\n\ndef f():\n    """Say."""\n    return """a\nb"""\n'
    assert code_lines(text) == 3 + 1 + 2


@pytest.mark.parametrize("length", [10, LONGEST])
def test_it_is_clean_under_our_rules(tmp_path: Path, length: int) -> None:
    """Our settings but for the docstrings of tests, and the settings that the project itself brings."""
    for letter, kind in zip(string.ascii_lowercase, KINDS, strict=False):
        family = f"{letter}family."
        name = f"{family}{'x' * (length - len(family))}" if KINDS[kind].noun == "method" else letter * length
        project = written(kind, tmp_path, name)
        roots = [*(str(ROOT / room) for room in ("", "export", "serving", "plugins")), str(project / "src")]
        ours = ["--config", str(ROOT / "pyproject.toml"), "--config", f"src = {json.dumps(roots)}"]
        for arguments, where in (
            (["check", *ours], "src"),
            (["check", "--ignore", "D", *ours], "tests"),
            (["format", "--check", *ours], "."),
            (["check", "--extend-select", "I"], "."),
            (["format", "--check"], "."),
        ):
            command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", where]
            done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{kind}: {done.stdout}{done.stderr}"


@pytest.mark.slow
def test_it_is_strictly_typed(projects: dict[str, Path]) -> None:
    rooms = [str(ROOT / room) for room in ("", "export", "serving", "plugins")]
    path = os.pathsep.join([*rooms, *(str(project / "src") for project in projects.values())])
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    folders = [str(project / folder) for project in projects.values() for folder in ("src",)]
    done = subprocess.run(
        [*command, *folders], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "MYPYPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_its_tests_pass_as_written(projects: dict[str, Path], tmp_path: Path) -> None:
    done = pytest_on([projects[kind] for kind in QUICK], tmp_path / "home")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layer", "architecture"])
def test_the_tests_of_a_method_pass_as_written(projects: dict[str, Path], tmp_path: Path, kind: str) -> None:
    source = next((projects[kind] / "tests").glob("*.py")).read_text()
    assert "(MethodContract, ExportContract, ServingContract):\n    name = " in source
    done = pytest_on([projects[kind]], tmp_path / "home")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_deploykit_finds_all_of_them_beside_its_own(projects: dict[str, Path], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": import_path(list(projects.values()), tmp_path)}
    command = [str(Path(sys.executable).with_name("deploykit")), "plugins", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    listed = json.loads(done.stdout)
    assert (listed["failures"], listed["remarks"]) == ([], [])
    offers = {offer for record in listed["plugins"] for offer in record["offers"]}
    wanted = {f"{KINDS[kind].noun} {name}" for kind, name in NAMES.items() if kind != "command"}
    assert wanted <= offers
    assert "method plain.passthrough" in offers


def test_an_installer_takes_it(projects: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run(
        [*command, str(tmp_path), str(projects["layer"])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "deploykit_steps" / "py.typed").is_file()
    assert (tmp_path / "deploykit_steps-0.1.0.dist-info" / "entry_points.txt").is_file()


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("sigmoid", "layer", "a method is called family.method, such as 'steps.sigmoid', got 'sigmoid'"),
        ("a.b.c", "architecture", "a method is called family.method, such as 'steps.sigmoid', got 'a.b.c'"),
        ("a.wine", "task", "a task has a plain name without dots, such as 'wine', got 'a.wine'"),
        ("Steps.sigmoid", "layer", "'Steps.sigmoid': 'Steps' is no name: wanted lower case letters"),
        ("steps.", "layer", "'steps.': '' is no name"),
        ("steps.2d", "layer", "'2d' is no name: wanted lower case letters, digits"),
        ("steps.a--b", "layer", "'a--b' is no name"),
        ("../out", "task", "a task has a plain name without dots"),
        ("a/b", "task", "'a/b' is no name"),
        ("steps.class", "layer", "'class' is a word of Python's own and cannot name a module"),
        ("lambda.x", "layer", "'lambda' is a word of Python's own"),
        ("deploykit-wine", "task", "leave 'deploykit' out of the name"),
        ("steps." + "x" * 40, "layer", "has 46 characters; a name becomes files and folders: at most 32"),
        ("pruned.gate", "layer", "method 'pruned.gate' is registered already; choose another name"),
        ("digits", "task", "task 'digits' is registered already"),
        ("pruned.other", "layer", "'pruned' is installed already, by deploykit 0.1.0; choose another family, or add"),
        ("serving", "runtime", "'serving' is installed already, by deploykit 0.1.0; choose another name"),
        ("relaxations", "decoder", "Python finds a package deploykit_relaxations already"),
        ("train", "command", "`deploykit train` exists already; choose another name for the command"),
        ("plugin", "command", "`deploykit plugin` exists already"),
        ("steps.sigmoid", "layers", "no kind of plugin 'layers'; there are: layer, architecture, task, target, run"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_are_refused(call: CommandLine, tmp_path: Path, name: str, kind: str, text: str) -> None:
    code, out, err = call("plugin", "new", name, "--kind", kind, "--out", tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert text in err
    assert list(tmp_path.iterdir()) == []


def test_names_of_the_templates_own_do_no_harm(tmp_path: Path) -> None:
    """Names that the code imports, or that are common among modules, are as good as any."""
    names = ("torch.torch", "numpy.method", "copy.decision", "matrices.tensor")
    projects = [written("layer", tmp_path, name) for name in names]
    for project in projects:
        command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "E,F,A,N", "."]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    program = (
        "from deploykit import installed, make_method\n"
        f"print(*(type(make_method(name)).__name__ for name in {names}), installed().failures)"
    )
    environment = {**os.environ, "PYTHONPATH": import_path(projects, tmp_path / "staged")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "TorchMethod MethodMethod DecisionMethod TensorMethod []\n", done.stderr


def test_what_is_there_is_never_touched(call: CommandLine, tmp_path: Path) -> None:
    theirs = tmp_path / "deploykit-wine"
    theirs.mkdir()
    code, _, err = call("plugin", "new", "wine", "--kind", "task", "--out", tmp_path)
    assert code == 1
    assert f"{theirs} exists already; move it away, or name another folder with --out" in err
    assert list(theirs.iterdir()) == []
    (tmp_path / "deploykit-packed").symlink_to(tmp_path / "nowhere")
    assert call("plugin", "new", "packed", "--kind", "target", "--out", tmp_path)[0] == 1
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "missing", tmp_path / "file"):
        code, _, err = call("plugin", "new", "wine", "--kind", "task", "--out", out)
        assert (code, err) == (1, f"error: {out} is no folder; make it first, or name another with --out\n")
    assert {item.name for item in tmp_path.iterdir()} == {"deploykit-wine", "deploykit-packed", "file"}


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on file sizes stops the writing at the first file that is larger, after smaller ones were written."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)); from deploykit.cli.main import run; "
        f"sys.argv = ['deploykit', 'plugin', 'new', 'wine', '--kind', 'task', '--out', {str(tmp_path)!r}]; run()"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr == f"error: cannot write {tmp_path / 'deploykit-wine'}: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_the_help_tells_the_kinds(call: CommandLine) -> None:
    code, out, _ = call("plugin", "new", "--help")
    assert code == 0
    for kind in KINDS:
        assert f"{kind}:" in out
    assert "deploykit plugin new steps.sigmoid --kind layer" in out
    code, out, _ = call("plugin", "--help")
    assert code == 0
    assert "new" in out
    assert "check" in out
    code, _, err = call("plugin", "new", "steps.sigmoid")
    assert code == 2
    assert "--kind" in err


def test_every_name_used_here_is_free() -> None:
    for kind, name in NAMES.items():
        card = KINDS[kind].card
        assert card is None or name not in installed().cards(card)
