"""The page: sections as HTML, every text escaped, one file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Final

from deploykit_serving.report.blocks import Chart, Section, Table
from deploykit_serving.report.canvas import glyph
from deploykit_serving.report.series import Series

_SHORT: Final = 20
# Nothing may be fetched and no script may run, whatever a bundle's texts hold.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(title: str, lead: Sequence[str], sections: Sequence[Section], command: str) -> str:
    """Return the whole page.

    Args:
        lead: sentences under the title.
        sections: empty ones are left out.
        command: makes the page again.
    """
    style = files("deploykit_serving.report").joinpath("style.css").read_text(encoding="utf-8")
    shown = [section for section in sections if not section.empty]
    links = "".join(f'<a href="#{escape(section.key)}">{escape(section.heading)}</a>' for section in shown)
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>\n{style}</style></head><body>",
            f"<header><h1>{escape(title)}</h1>",
            *(f'<p class="lead">{escape(sentence)}</p>' for sentence in lead),
            f"<nav>{links}</nav></header><main>",
            *(_section(section) for section in shown),
            f"</main><footer><p>Made again with <code>{escape(command)}</code></p>",
            "<p>[low, high]: 95 % interval, from ranks alone. A percentile is refused where too few calls support it "
            "(MLPerf's early-stopping counts: 459 for p99). Latency is milliseconds.</p></footer></body></html>",
            "",
        )
    )


def _section(section: Section) -> str:
    kind = ' class="trouble"' if section.key in {"missing", "troubles"} else ""
    parts = [f'<section id="{escape(section.key)}"{kind}><h2>{escape(section.heading)}</h2>']
    if section.made:
        parts.append(f'<p class="made">{escape(section.made)}</p>')
    if section.charts:
        parts.append(f'<div class="charts">{"".join(_chart(chart) for chart in section.charts)}</div>')
        parts.append(_legend(section.charts))
    parts += [_table(table) for table in section.tables]
    parts += [f'<p class="note">{escape(note)}</p>' for note in section.notes]
    parts += [f"<details><summary>{escape(table.title)}</summary>{_table(table)}</details>" for table in section.folded]
    return "\n".join([*parts, "</section>"])


def _legend(charts: Sequence[Chart]) -> str:
    named = {one.index: one for chart in charts for one in chart.legend}
    items = "".join(f"<li>{glyph(index)}{escape(one.label)}</li>" for index, one in sorted(named.items()))
    return f'<ul class="legend">{items}</ul>' if items else ""


def _chart(chart: Chart) -> str:
    kind = ' class="wide"' if chart.wide else ""
    return "".join(
        (
            f'<figure{kind}><h3>{escape(chart.heading)}</h3><div class="inner">{chart.svg}</div>',
            *(f'<p class="note">{escape(note)}</p>' for note in chart.notes),
            "</figure>",
        )
    )


def _table(table: Table) -> str:
    numbers = [column.endswith("#") for column in table.columns]
    head = "".join(f"<th{_kind(number)}>{escape(column.removesuffix('#'))}</th>"
                   for column, number in zip(table.columns, numbers, strict=True))  # fmt: skip
    about: Sequence[Series | None] = table.series or (None,) * len(table.rows)
    lines = []
    for row, one in zip(table.rows, about, strict=True):
        cells = [f"<td{_kind(number, cell)}>{escape(cell)}</td>" for cell, number in zip(row, numbers, strict=True)]
        if one is not None:
            cells[0] = f'<td class="name" title="{escape(one.name)}">{glyph(one.index)}{escape(row[0])}</td>'
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _kind(number: bool, cell: str = "") -> str:
    if number:
        return ' class="number"'
    return ' class="short"' if 0 < len(cell) <= _SHORT else ""
