"""Private names of deploykit in a plugin's sources, found by reading them.

A name that begins with one underscore is nobody's promise: it may go with any version. Looked for are imports,
attributes of what was imported, and the attributes by which the frame keeps its own notes on a module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OURS: Final = "deploykit"


@dataclass(frozen=True, slots=True)
class PrivateName:
    """One use of a private name."""

    file: str
    line: int
    name: str

    def text(self) -> str:
        """Return it as people look for it."""
        return f"{self.file}:{self.line} uses {self.name}"


def private_names(file: Path, shown_as: str, own: frozenset[str]) -> list[PrivateName]:
    """Return the uses in one file, by line.

    Args:
        own: the plugin's own top-level packages, whose private names are its own business.

    Raises:
        SyntaxError: the file is no Python.
    """
    tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"), filename=str(file))
    bound = _bound(tree, own)
    found = {PrivateName(shown_as, line, name) for node in ast.walk(tree) for line, name in _uses(node, bound, own)}
    return sorted(found, key=lambda use: (use.line, use.name))


def _uses(node: ast.AST, bound: dict[str, str], own: frozenset[str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((node.lineno, item.name) for item in node.names if _foreign(item.name, own) and _hidden(item.name))
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and _foreign(node.module or "", own):
        for item in node.names:
            name = f"{node.module}.{item.name}"
            if _hidden(name):
                yield node.lineno, name
    elif isinstance(node, ast.Attribute) and _private(node.attr):
        root = _root(node.value)
        if root in bound:
            yield node.lineno, ast.unparse(node) + ("" if bound[root] == root else f", where {root} is {bound[root]}")
        elif node.attr.startswith(f"_{_OURS}"):
            yield node.lineno, ast.unparse(node)
    elif isinstance(node, ast.Call):
        yield from _spelt_out(node, bound, own)


def _spelt_out(node: ast.Call, bound: dict[str, str], own: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Private names given as text: ``getattr(x, "_name")``, ``import_module("deploykit._name")``."""
    texts = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    called = ast.unparse(node.func)
    if called in {"getattr", "setattr", "hasattr", "delattr"} and node.args:
        known = _root(node.args[0]) in bound
        for text in texts:
            if _private(text) and (known or text.startswith(f"_{_OURS}")):
                yield node.lineno, f"{ast.unparse(node.args[0])}.{text}"
    elif called.rpartition(".")[2] in {"import_module", "__import__"}:
        yield from ((node.lineno, text) for text in texts if _foreign(text, own) and _hidden(text))


def _bound(tree: ast.AST, own: frozenset[str]) -> dict[str, str]:
    """Return what names in the file stand for something of ours, by the name used there."""
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                if _foreign(item.name, own):
                    used = item.asname or item.name.partition(".")[0]
                    bound[used] = item.name if item.asname else used
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and _foreign(node.module or "", own):
            bound |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return bound


def _root(node: ast.AST) -> str:
    """Return the name at which a chain of attributes, calls and subscripts begins."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _foreign(module: str, own: frozenset[str]) -> bool:
    top = module.partition(".")[0]
    return (top == _OURS or top.startswith(f"{_OURS}_")) and top not in own


def _hidden(name: str) -> bool:
    return any(_private(part) for part in name.split("."))


def _private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))
