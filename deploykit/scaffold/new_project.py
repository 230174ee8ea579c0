"""Write a new plugin's folder from the templates of its kind: all of it, or nothing."""

from __future__ import annotations

import json
import os
import shutil
import string
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from deploykit.contract_version import CONTRACT_VERSION
from deploykit.errors import ConfigError
from deploykit.scaffold.kinds import PluginKind
from deploykit.scaffold.names import PluginNames

_ENDING: Final = ".tmpl"


def write_project(names: PluginNames, kind: PluginKind, out: Path) -> Path:
    """Write the package into a new folder of ``out`` and return that folder.

    It is written under another name and then renamed, so whatever goes wrong leaves nothing behind.

    Raises:
        ConfigError: ``out`` is no folder, or the plugin's folder exists already; nothing there is touched.
    """
    target = out / names.distribution
    if not out.is_dir():
        raise ConfigError(f"{out} is no folder; make it first, or name another with --out")
    if target.exists() or target.is_symlink():
        raise ConfigError(
            f"{target} exists already; move it away, or name another folder with --out. How something is added to a "
            "package that you have is told in docs/howto/kinds.md, under 'A second thing in the same package'"
        )
    staging = out / f".{names.distribution}.{os.getpid()}"
    try:
        for path, text in project_files(names, kind).items():
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            (staging / path).write_text(text, encoding="utf-8")
        staging.rename(target)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def project_files(names: PluginNames, kind: PluginKind) -> dict[str, str]:
    """Return the text of every file of a new plugin, by its path inside the folder."""
    words = {
        "name": names.name,
        "package": names.package,
        "module": names.module,
        "test": f"test_{names.subject}",
        "class_name": names.class_name,
        "distribution": names.distribution,
        "entry_point": names.family,
        "kind": kind.name,
        "noun": kind.noun,
        "offers": kind.offers,
        "contract": str(CONTRACT_VERSION),
        "dependencies": json.dumps(kind.needs),  # an array is written in JSON as in TOML
    }
    words["use"] = string.Template(kind.use).substitute(words)
    templates = files("deploykit.scaffold") / "templates"
    found = {**_texts(templates / "shared"), **_texts(templates / kind.name)}
    return {_placed(path, names): string.Template(text).substitute(words) for path, text in sorted(found.items())}


def _texts(folder: Traversable, at: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    for item in folder.iterdir():
        if item.is_dir():
            texts |= _texts(item, f"{at}{item.name}/")
        elif item.name.endswith(_ENDING):
            texts[at + item.name.removesuffix(_ENDING)] = item.read_text(encoding="utf-8")
    return texts


def _placed(path: str, names: PluginNames) -> str:
    """Return where a template's text goes; a leading dot would hide the template itself from tools."""
    path = path.replace("PACKAGE", names.package).replace("MODULE", names.subject)
    return ".gitignore" if path == "gitignore" else path
