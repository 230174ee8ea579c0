"""From the name an author gives to the names of package, module and class, none of which may be taken."""

from __future__ import annotations

import contextlib
import importlib.util
import keyword
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from deploykit.errors import ConfigError, DuplicateNameError, UnknownNameError
from deploykit.registry import Registry
from deploykit.scaffold.kinds import PluginKind

LONGEST: Final = 32
_PART: Final = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class PluginNames:
    """Every name in a new plugin.

    Attributes:
        name: what is registered: ``family.method`` for methods, a plain name for everything else.
        family: the part that names the package: a method's family, otherwise the name.
        module: the file that holds the implementation, without ``.py``.
        subject: what its tests' file is called after.
    """

    name: str
    family: str
    module: str
    subject: str
    class_name: str

    @property
    def package(self) -> str:
        """What is imported."""
        return f"deploykit_{self.family.replace('-', '_')}"

    @property
    def distribution(self) -> str:
        """What is installed; also the folder's name."""
        return self.package.replace("_", "-")


def plugin_names(name: str, kind: PluginKind, registry: Registry, verbs: Collection[str] = ()) -> PluginNames:
    """Return the names a plugin called ``name`` gets.

    Args:
        verbs: the verbs that the command line has, for plugins that add one.

    Raises:
        ConfigError: the name is malformed; says which part and how it should read.
        DuplicateNameError: something registered or installed has one of the names; says which.
    """
    parts = _parts(name, kind)
    for part in parts:
        _check_part(name, part)
    if len(name) > LONGEST:
        raise ConfigError(f"{name!r} has {len(name)} characters; a name becomes files and folders: at most {LONGEST}")
    words = re.split("[_-]", parts[-1])
    names = PluginNames(
        name=name,
        family=parts[0],
        module=kind.module or parts[-1].replace("-", "_"),
        subject=parts[-1].replace("-", "_"),
        class_name="".join(word.capitalize() for word in words) + kind.suffix,
    )
    _check_registered(names, kind, registry, verbs)
    _check_installed(names)
    return names


def _parts(name: str, kind: PluginKind) -> list[str]:
    parts = name.split(".")
    if kind.noun == "method" and len(parts) != 2:
        raise ConfigError(
            f"a method is called family.method, such as 'steps.sigmoid', got {name!r}; the family names the package, "
            "and further methods of the same family can join it"
        )
    if kind.noun != "method" and len(parts) != 1:
        raise ConfigError(
            f"a {kind.noun} has a plain name without dots, such as {parts[-1] or kind.name!r}, got {name!r}"
        )
    return parts


def _check_part(name: str, part: str) -> None:
    if not _PART.fullmatch(part):
        raise ConfigError(
            f"{name!r}: {part!r} is no name: wanted lower case letters, digits and single '-' or '_' between them, "
            "beginning with a letter"
        )
    if keyword.iskeyword(part.replace("-", "_")):
        raise ConfigError(f"{name!r}: {part!r} is a word of Python's own and cannot name a module; choose another")
    if re.split("[_-]", part)[0] == "deploykit":
        raise ConfigError(f"{name!r}: leave 'deploykit' out of the name; the package is called deploykit_NAME anyhow")


def _check_registered(names: PluginNames, kind: PluginKind, registry: Registry, verbs: Collection[str]) -> None:
    if kind.card is None:
        if names.name in verbs:
            raise DuplicateNameError(f"`deploykit {names.name}` exists already; choose another name for the command")
    else:
        with contextlib.suppress(UnknownNameError):  # which is what a new name should be
            registry.card(kind.card, names.name)
            raise DuplicateNameError(f"{kind.noun} {names.name!r} is registered already; choose another name")
    for plugin in registry.plugins:
        if plugin.name == names.family:
            raise DuplicateNameError(
                f"a plugin called {plugin.name!r} is installed already, by {plugin.distribution} {plugin.version}; "
                f"{_other_name(kind)}"
            )


def _check_installed(names: PluginNames) -> None:
    try:
        version = metadata.version(names.distribution)
    except metadata.PackageNotFoundError:
        version = ""
    if version:
        raise DuplicateNameError(f"a package {names.distribution} {version} is installed already; choose another name")
    if importlib.util.find_spec(names.package) is not None:
        raise DuplicateNameError(
            f"Python finds a package {names.package} already, and the new one would hide it; choose another name"
        )


def _other_name(kind: PluginKind) -> str:
    return "choose another family, or add the method to that plugin" if kind.noun == "method" else "choose another name"
