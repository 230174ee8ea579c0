"""Real fonts for generated pages, found in the packages that ship them; none of those packages is imported."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import ImageFont

from deploykit.errors import MissingExtraError

_MATPLOTLIB: Final = ("matplotlib", "mpl-data/fonts/ttf")


@dataclass(frozen=True, slots=True)
class FontFamily:
    """One typeface in a few weights.

    Attributes:
        package: what ships it; Pillow's own font has no file and is asked for by an empty name.
        folder: inside the package.
        files: weights and slants.
    """

    name: str
    package: str
    folder: str
    files: tuple[str, ...]


TRAINING_FAMILIES: Final = (
    FontFamily("Aileron", "", "", ("",)),
    FontFamily("Lato", "font_lato", "files", ("Lato-Regular.ttf", "Lato-Bold.ttf", "Lato-Italic.ttf")),
    FontFamily("DejaVu Sans", *_MATPLOTLIB, ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf")),
    FontFamily("DejaVu Serif", *_MATPLOTLIB, ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf")),
    FontFamily("DejaVu Sans Mono", *_MATPLOTLIB, ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")),
    FontFamily("STIX", *_MATPLOTLIB, ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf")),
)
"""Sans, serif and monospaced families that training pages are set in."""

HELD_OUT_FAMILIES: Final = (
    FontFamily("Caladea", "font_caladea", "files", ("Caladea-Regular.ttf", "Caladea-Bold.ttf", "Caladea-Italic.ttf")),
    FontFamily("Fredoka One", "font_fredoka_one", "files", ("FredokaOne-Regular.ttf",)),
)
"""A serif and a display family that occur in test pages only."""


@functools.cache
def font_at(family: FontFamily, file: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of ``size`` pixels an em.

    Raises:
        MissingExtraError: the package with the font, or Pillow's FreeType support, is missing.
    """
    if not family.package:
        font = ImageFont.load_default(size)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise MissingExtraError("Pillow with FreeType", "text")
        return font
    spec = importlib.util.find_spec(family.package)
    if spec is None or spec.submodule_search_locations is None:
        raise MissingExtraError(f"{family.package!r}, which ships the font {family.name},", "text")
    return ImageFont.truetype(Path(spec.submodule_search_locations[0], family.folder, file), size)
