"""Drawing: a figure of Matplotlib as SVG that stands inside a page, takes its colours from it and names nothing else.

Colours are drawn as stand-ins and replaced by the page's CSS variables, so that one drawing is readable on light and
on dark ground and on paper. Text stays text.
"""

from __future__ import annotations

import functools
import html
import io
import itertools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from deploykit.errors import MissingExtraError

PALETTE: Final = 6
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
INK: Final = "#000001"
MUTED: Final = "#000002"
GRID: Final = "#000003"
PAPER: Final = "#000004"
ALARM: Final = "#000005"
_SERIES: Final = tuple(f"#0000f{index}" for index in range(PALETTE))
_VARIABLES: Final = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper", ALARM: "--alarm",
    **{stand_in: f"--series-{index}" for index, stand_in in enumerate(_SERIES)},
}  # fmt: skip
_SETTINGS: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deploykit",
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.formatter.use_mathtext": False,
    "font.size": 10.5,
    "font.family": "DejaVu Sans",  # wider than what pages show, so that nothing that fits here overflows there
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 6.5,
}
_PIXELS: Final = 72.0


def colour(index: int) -> str:
    """Return the stand-in of a series' colour."""
    return _SERIES[index % PALETTE]


def marker(index: int) -> str:
    """Return a series' marker; colour and marker together tell 42 series apart."""
    return MARKERS[index % len(MARKERS)]


class Canvas:
    """A figure to draw on.

    Attributes:
        figure: Matplotlib's.
    """

    def __init__(self, figure: Any, name: str) -> None:
        self.figure = figure
        self._name = name
        self._tips: dict[str, str] = {}

    def tip(self, artist: Any, text: str) -> None:
        """Let a mark say more when it is pointed at."""
        key = f"tip{len(self._tips)}"
        artist.set_gid(key)
        self._tips[key] = text

    def svg(self, description: str) -> str:
        """Return the drawing; it fills the width it is given.

        Args:
            description: what one who cannot see it is told.
        """
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with warnings.catch_warnings():
            # Text is set by the reader's fonts, which may well have what the measuring one lacks.
            warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
            self.figure.savefig(buffer, format="svg", metadata=nothing)
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
        text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->\s*", "", text, flags=re.DOTALL)
        # Only attributes: a name that looks like a stand-in stays what it is.
        text = re.sub(r'(?<=style=")[^"]*', _in_page_colours, text)
        for key, tip in self._tips.items():
            text = text.replace(f'<g id="{key}">', f'<g id="{key}" class="tip"><title>{html.escape(tip)}</title>', 1)
        # Ids are counted anew in every figure and would be found in the first one of the page.
        text = re.sub(r'(?<= id=")(?=[^"]*"[^<>]*>)', f"{self._name}-", text)
        text = re.sub(r'(?<=href="#)|(?<=url\(#)', f"{self._name}-", text)
        label = f'role="img" aria-label="{html.escape(description)}"'
        return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"<svg {_literal(label)} \1>", text, count=1)


@contextmanager
def canvas(name: str, width: float, height: float) -> Iterator[Canvas]:
    """Open a figure for drawing.

    Args:
        name: unique in the page; a word.
        width: of the drawing, in CSS pixels at its natural size.
        height: likewise.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib, which draws the charts,", "report") from error
    with mpl.rc_context(_SETTINGS):
        yield Canvas(Figure(figsize=(width / _PIXELS, height / _PIXELS), dpi=_PIXELS, layout="constrained"), name)


def glyph(index: int) -> str:
    """Return a series' marker as a drawing of its own, for legends and tables."""
    path = f'<path d="{_outline(marker(index))}" fill="var(--series-{index % PALETTE})"/>'
    return f'<svg class="glyph" viewBox="-7 -7 14 14" aria-hidden="true">{path}</svg>'


def log_axis(axis: Any, low: float, high: float) -> None:
    """Make an axis logarithmic, with numbers as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    wide = high / low > 30
    axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1000 else (1.0, 3.0) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axis.set_minor_formatter(NullFormatter())


def plain_number(value: float) -> str:
    """Return a number of an axis: ``0.03``, ``20``, ``5k``, ``2M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9999:
            return f"{value / size:g}{letter}"
    return f"{value:.6g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}"


def _in_page_colours(style: re.Match[str]) -> str:
    return re.sub(r"#0000(?:0[1-5]|f[0-9])", lambda found: f"var({_VARIABLES[found.group()]})", style.group())


def _literal(text: str) -> str:
    return text.replace("\\", r"\\")


@functools.cache
def _outline(kind: str) -> str:
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(kind)
    path = style.get_path().transformed(style.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    steps = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        numbers = (
            ""
            if int(code) == 79
            else " ".join(
                f"{value * scale:.2f}" for value, scale in zip(points, itertools.cycle((10.0, -10.0)), strict=False)
            )
        )
        steps.append(f"{letters[int(code)]}{numbers}")
    return "".join(steps)
