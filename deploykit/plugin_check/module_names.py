"""Names of modules, out of what entry points and cards say."""

from __future__ import annotations


def top_package(value: str) -> str:
    """Return the top-level package or module of ``package.module:object [extra]``; only the first part is a must."""
    for end in ("[", ":", "."):
        value = value.partition(end)[0]
    return value.strip()
