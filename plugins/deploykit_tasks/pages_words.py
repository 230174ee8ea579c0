"""Made-up words for generated pages: syllables, capitals, numbers and punctuation of Western text."""

from __future__ import annotations

from typing import Final

import numpy as np

_ONSETS: Final = ("", "b", "br", "c", "ch", "d", "fl", "g", "h", "k", "l", "m", "n", "p", "qu", "r", "s", "st", "t")
_NUCLEI: Final = ("a", "e", "i", "o", "u", "ai", "ea", "ie", "ou", "y")
_CODAS: Final = ("", "", "l", "n", "r", "s", "t", "nd", "ng", "ly", "x", "w")
_MARKS: Final = (".", ",", ":", ";", "!", "?", ")", "-")


def word(rng: np.random.Generator) -> str:
    """Return one word, number or abbreviation of 1 to about 14 characters."""
    if rng.random() < 0.12:
        return str(rng.integers(0, 100_000)) if rng.random() < 0.7 else f"{rng.integers(0, 100)}.{rng.integers(0, 100)}"
    syllables = int(rng.integers(1, 4))
    text = "".join(_pick(rng, _ONSETS) + _pick(rng, _NUCLEI) + _pick(rng, _CODAS) for _ in range(syllables))
    case = rng.random()
    if case < 0.2:
        text = text.capitalize()
    elif case < 0.27:
        text = text.upper()
    return text + _pick(rng, _MARKS) if rng.random() < 0.15 else text


def line_of_words(rng: np.random.Generator, words: int) -> str:
    """Return words with gaps of one space, or for the whole line two, as justified setting makes them."""
    gap = "  " if rng.random() < 0.2 else " "
    return gap.join(word(rng) for _ in range(words))


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
