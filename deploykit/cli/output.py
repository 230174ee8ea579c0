"""Printing: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

_PIPED = 240


def print_json(content: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(content, indent=2, default=str))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print a table; columns named in ``right`` hold numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        # Whoever reads a pipe searches it for names, which must not be broken; 80 columns are nobody's width there.
        console.width = max(console.width, _PIPED)
    console.print(table)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as people read it, or a dash."""
    return "-" if value is None else f"{value:.{digits}g}"
