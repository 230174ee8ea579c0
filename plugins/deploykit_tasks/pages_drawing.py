"""Draw one text page: lines in real fonts over a background, slightly turned, lit, blurred and noisy."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deploykit_tasks.pages_fonts import FontFamily, font_at
from deploykit_tasks.pages_words import line_of_words

MAX_LINES: Final = 24
_MARGIN: Final = 3
_LARGEST_TURN: Final = 8.0  # degrees

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Page:
    """A drawn page.

    Attributes:
        image: uint8[3, size, size], RGB.
        quads: float32[lines, 4, 2], each line's ink box as x, y of TL, TR, BR, BL in the reading direction, inside
            the image; pixel centres are at whole numbers.
    """

    image: NDArray[np.uint8]
    quads: Floats


def draw_page(
    rng: np.random.Generator, size: int, families: tuple[FontFamily, ...], photographs: tuple[str, ...]
) -> Page:
    """Draw a page of ``size`` x ``size`` pixels.

    Args:
        rng: every choice comes from it, so a seed gives one page for given versions of Pillow and OpenCV.
        photographs: names in ``skimage.data`` that backgrounds may be cut from.
    """
    background = _background(rng, size, photographs)
    angle = float(rng.uniform(-_LARGEST_TURN, _LARGEST_TURN)) if rng.random() < 0.7 else 0.0
    turn: Floats = cv2.getRotationMatrix2D((size / 2, size / 2), angle, 1.0).astype(np.float32)
    layer = Image.new("L", (size, size))
    quads = _document(rng, layer, families, turn) if rng.random() < 0.65 else _scene(rng, layer, families, turn)
    if rng.random() < 0.3:
        _rules(rng, layer)
    alpha = cv2.warpAffine(np.asarray(layer), turn, (size, size), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    image = background + alpha[..., None] * (_ink(rng, background) - background)
    return Page(_photographed(rng, image).transpose(2, 0, 1).copy(), np.asarray(quads, np.float32).reshape(-1, 4, 2))


def _document(
    rng: np.random.Generator, layer: Image.Image, families: tuple[FontFamily, ...], turn: Floats
) -> list[Floats]:
    """Set a column of lines in one font, as on a printed page."""
    size = layer.width
    pixels = int(rng.integers(10, 27))
    font = _font(rng, families, pixels)
    left, top = int(rng.integers(4, size // 4)), float(rng.integers(2, size // 5))
    spacing = pixels * float(rng.uniform(1.15, 1.9))
    quads: list[Floats] = []
    while top < size and len(quads) < MAX_LINES:
        _place(layer, font, (left, top), _fitted(rng, font, size - left), turn, quads)
        top += spacing
    return quads


def _scene(
    rng: np.random.Generator, layer: Image.Image, families: tuple[FontFamily, ...], turn: Floats
) -> list[Floats]:
    """Scatter short texts of different fonts and sizes, one below the other and side by side."""
    size = layer.width
    quads: list[Floats] = []
    top = float(rng.integers(2, 24))
    while top < size and len(quads) < MAX_LINES:
        font = _font(rng, families, int(rng.integers(10, 49)))
        left = float(rng.integers(2, size // 2))
        height = 0.0
        for _ in range(int(rng.integers(1, 3))):
            box = _place(layer, font, (left, top), line_of_words(rng, int(rng.integers(1, 4))), turn, quads)
            left, height = box[2] + font.size * float(rng.uniform(1.5, 3.0)), max(height, box[3] - top)
        top += height + float(rng.integers(3, 40))
    return quads[:MAX_LINES]


def _place(
    layer: Image.Image, font: ImageFont.FreeTypeFont, at: tuple[float, float], text: str, turn: Floats,
    quads: list[Floats],
) -> tuple[float, float, float, float]:  # fmt: skip
    """Draw a line and note its box, but only if the turned box lies inside the page; return the upright box."""
    draw = ImageDraw.Draw(layer)
    # The ink ends one pixel before the right and lower edge that Pillow reports.
    left, upper, right, lower = draw.textbbox(at, text, font=font)
    box = (float(left) - 1, float(upper) - 1, float(right), float(lower))
    upright = np.array([[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]], np.float32)
    quad = upright @ turn[:, :2].T + turn[:, 2]
    if quad.min() >= _MARGIN and quad.max() <= layer.width - 1 - _MARGIN and len(quads) < MAX_LINES:
        draw.text(at, text, fill=255, font=font)
        quads.append(quad.astype(np.float32))
    return box


def _fitted(rng: np.random.Generator, font: ImageFont.FreeTypeFont, width: float) -> str:
    words = line_of_words(rng, 14).split(" ")
    share = 1.0 if rng.random() < 0.7 else float(rng.uniform(0.2, 0.9))
    while len(words) > 1 and font.getlength(" ".join(words)) > share * width - 12:
        words.pop()
    return " ".join(words).strip()


def _font(rng: np.random.Generator, families: tuple[FontFamily, ...], pixels: int) -> ImageFont.FreeTypeFont:
    family = families[int(rng.integers(len(families)))]
    return font_at(family, family.files[int(rng.integers(len(family.files)))], pixels)


def _rules(rng: np.random.Generator, layer: Image.Image) -> None:
    """Draw thin straight lines, which are no text."""
    draw = ImageDraw.Draw(layer)
    for _ in range(int(rng.integers(1, 4))):
        start, height = int(rng.integers(0, layer.width // 2)), int(rng.integers(0, layer.width))
        end = start + int(rng.integers(layer.width // 4, layer.width))
        draw.line((start, height, end, height), fill=int(rng.integers(90, 256)), width=int(rng.integers(1, 3)))


def _background(rng: np.random.Generator, size: int, photographs: tuple[str, ...]) -> Floats:
    kind = rng.random()
    colour = rng.uniform(0, 255, 3) if rng.random() < 0.4 else np.full(3, rng.uniform(120, 255))
    plain: Floats = np.broadcast_to(colour, (size, size, 3)).astype(np.float32)
    if kind < 0.35:
        return plain
    if kind < 0.65:
        other = np.clip(colour + rng.uniform(-70, 70), 0, 255)
        angle = rng.uniform(0, 2 * np.pi)
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
        share = np.clip(0.5 + np.cos(angle) * rows + np.sin(angle) * columns, 0, 1)[..., None]
        gradient: Floats = (plain * share + other.astype(np.float32) * (1 - share)).astype(np.float32)
        return gradient
    photograph = photograph_named(photographs[int(rng.integers(len(photographs)))])
    side = int(rng.integers(96, min(photograph.shape[:2])))
    row = int(rng.integers(photograph.shape[0] - side + 1))
    column = int(rng.integers(photograph.shape[1] - side + 1))
    crop = cv2.resize(photograph[row : row + side, column : column + side], (size, size)).astype(np.float32)
    share = float(rng.uniform(0.25, 1.0))
    mixed: Floats = (crop * share + plain * (1 - share)).astype(np.float32)
    return mixed


def _ink(rng: np.random.Generator, background: Floats) -> Floats:
    """Return a colour at least 70 grey levels lighter or darker than the background's mean."""
    level = float(background.mean())
    darker = level > 127 if rng.random() < 0.85 else level > 80
    shade = rng.uniform(0, max(1.0, level - 70)) if darker else rng.uniform(min(254.0, level + 70), 255)
    colour: Floats = np.clip(shade + rng.uniform(-25, 25, 3), 0, 255).astype(np.float32)
    return colour


def _photographed(rng: np.random.Generator, image: Any) -> NDArray[np.uint8]:
    size = image.shape[0]
    if rng.random() < 0.4:
        ramp = np.linspace(rng.uniform(0.55, 1.0), rng.uniform(0.8, 1.1), size, dtype=np.float32)
        image = image * (ramp[None, :, None] if rng.random() < 0.7 else ramp[:, None, None])
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.1)))
    image = image + rng.normal(0, float(rng.uniform(0, 7)), image.shape)
    if rng.random() < 0.3:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    pixels: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return pixels


@functools.cache
def photograph_named(name: str) -> NDArray[np.uint8]:
    """Return an image of ``skimage.data`` as uint8[height, width, 3]; only images inside the wheel are asked for."""
    import skimage.data

    image = np.asarray(getattr(skimage.data, name)())
    coloured: NDArray[np.uint8] = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]
    return coloured
