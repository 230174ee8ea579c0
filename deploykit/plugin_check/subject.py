"""What is to be checked: the folder of a plugin's project, or an installed plugin's name."""

from __future__ import annotations

import difflib
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from deploykit.errors import ConfigError, UnknownNameError
from deploykit.plugin_check.module_names import top_package
from deploykit.registry import ENTRY_POINT_GROUP

_PROJECT: Final = "pyproject.toml"
_SECTION: Final = f"[project.entry-points.{ENTRY_POINT_GROUP}]"


@dataclass(frozen=True, slots=True)
class Subject:
    """A plugin to be checked.

    Attributes:
        title: what people call it.
        distribution: the name under which it is, or would be, installed.
        entry_points: modules by entry point name.
        roots: folders to import it from; empty if it is installed.
        tests: files of its own that use the kit, whose settings are then used.
        import_path: folders that its tests import their helpers from.
    """

    title: str
    distribution: str
    version: str
    entry_points: dict[str, str]
    roots: tuple[Path, ...] = ()
    tests: tuple[Path, ...] = ()
    import_path: tuple[Path, ...] = ()


def find_subject(where: str) -> Subject:
    """Return the plugin in folder ``where``, or the installed one of that name.

    Raises:
        ConfigError: the folder holds no plugin that could be checked; says what is missing.
        UnknownNameError: there is neither such a folder nor such a plugin.
    """
    folder = Path(where)
    if (folder / _PROJECT).is_file():
        return _project(folder.resolve())
    found = _installed(where)
    if found is not None:
        return found
    if folder.is_dir():
        raise ConfigError(f"{where} has no {_PROJECT}, so it is no plugin's project; give the folder that has one")
    names = sorted({point.name for point in metadata.entry_points(group=ENTRY_POINT_GROUP)})
    near = difflib.get_close_matches(where, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Installed are: {', '.join(names) or 'none'}."
    raise UnknownNameError(f"{where!r} is neither a folder nor an installed plugin. {hint}")


def _installed(name: str) -> Subject | None:
    """Find by the name of an entry point, a distribution or a module."""
    points = list(metadata.entry_points(group=ENTRY_POINT_GROUP))
    chosen = (
        [point for point in points if point.name == name]
        or [point for point in points if point.dist and _normal(point.dist.name) == _normal(name)]
        or [point for point in points if point.module == name]
    )
    if not chosen:
        return None
    distribution = chosen[0].dist
    return Subject(
        title=name,
        distribution=distribution.name if distribution else "?",
        version=distribution.version if distribution else "?",
        entry_points={point.name: point.value for point in chosen},
    )


def _project(folder: Path) -> Subject:
    file = folder / _PROJECT
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    project = _table(content, "project")
    if not isinstance(project.get("name"), str):
        raise ConfigError(f"{file} gives no name: write [project] with name and version, as packaging wants it")
    points = _table(project, "entry-points", ENTRY_POINT_GROUP)
    if not points or not all(isinstance(value, str) for value in points.values()):
        raise ConfigError(
            f"{file} has no entry point for deploykit, which could not find the plugin: write {_SECTION} with a line "
            'such as name = "package"'
        )
    roots = tuple(dict.fromkeys(_root(folder, name, value) for name, value in points.items()))
    options = _table(content, "tool", "pytest", "ini_options") or _table(content, "tool", "pytest")
    tests = tuple(_tests_with_the_kit(folder / place for place in _places(options, "testpaths") or ["tests"]))
    return Subject(
        title=project["name"],
        distribution=project["name"],
        version=str(project.get("version", "0")),
        entry_points=dict(points),
        roots=roots,
        tests=tests,
        import_path=tuple(
            dict.fromkeys(
                [*map(_importing_folder, tests), *(folder / place for place in _places(options, "pythonpath"))]
            )
        ),
    )


def _root(folder: Path, name: str, value: str) -> Path:
    """Return the folder from which an entry point's module can be imported."""
    package = top_package(value)
    inner = sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    for root in (folder / "src", folder, *inner):
        if (root / package / "__init__.py").is_file() or (root / f"{package}.py").is_file():
            return root
    raise ConfigError(
        f"{folder / _PROJECT}: entry point {name!r} names the module {package!r}, which is neither in src/ nor beside "
        f"{_PROJECT} nor one folder further down; correct {_SECTION}, or install the plugin and check it by its name"
    )


def _tests_with_the_kit(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for file in sorted(folder.rglob("test_*.py")):
            if "deploykit.testing" in file.read_text(encoding="utf-8", errors="replace"):
                yield file


def _importing_folder(test: Path) -> Path:
    """Return what pytest by default puts on the import path: the folder of the file, or of the package around it."""
    folder = test.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _places(options: dict[str, Any], key: str) -> list[str]:
    """Return a list of paths from pytest's settings, which may be one text."""
    told = options.get(key, [])
    return shlex.split(told) if isinstance(told, str) else [str(place) for place in told]


def _table(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return a table inside a table, empty if there is none."""
    found: object = content
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
