"""Docstrings write ``:class:`name```, which editors and Sphinx read; the pages show the name alone."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:py:)?(?:mod|class|func|meth|attr|data|exc):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Takes the roles out of every docstring that is read for the pages."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
