"""What people write on a command line, with its units, and the numbers we count with: milliseconds and bytes."""

from __future__ import annotations

import math
import re
from typing import Final

from deploykit.errors import ConfigError

_MILLISECONDS: Final = {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3}
_BYTES: Final = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIME_UNITS: Final = "us, µs, ms or s"
_BYTE_UNITS: Final = "B, kB, MB, GB, KiB, MiB or GiB"
# The number takes what it can and the unit is the rest, so that a wrong unit is told from a wrong number.
_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?)(?![a-z]))\s*(.*)")
_SHARE_DIGITS: Final = 10


def percentile_share(text: str) -> float:
    """Return a percentile's name as a share: ``p99.9`` is 0.999.

    Raises:
        ConfigError: it is no percentile, or not between p0 and p100.
    """
    name = re.fullmatch(r"p(\d+(?:\.\d+)?)", text.strip())
    if name is None:
        raise ConfigError(f"{text.strip()!r} is no percentile; wanted p50, p90, p99, p99.9 or the like")
    # 99.9 / 100 is not the double next to 0.999; profiles hold the latter.
    share = round(float(name[1]) / 100.0, _SHARE_DIGITS)
    if not 0.0 < share < 1.0:
        raise ConfigError(f"there is no {text.strip()}: a percentile lies between p0 and p100, both left out")
    return share


def percentile_name(share: float) -> str:
    """Return a share as people write it: 0.999 is ``p99.9``."""
    return f"p{round(share * 100.0, _SHARE_DIGITS - 2):.12g}"


def milliseconds(text: str) -> float:
    """Read a time with its unit.

    Raises:
        ConfigError: number or unit is missing or wrong, or the time is not above 0.
    """
    number, unit = _quantity(text, "time", _TIME_UNITS, "5ms")
    if unit not in _MILLISECONDS:
        raise ConfigError(f"{text.strip()!r} has an unknown unit {unit!r}; wanted {_TIME_UNITS}, as in 5ms")
    return number * _MILLISECONDS[unit]


def byte_count(text: str) -> float:
    """Read a size with its unit; kB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024.

    Raises:
        ConfigError: number or unit is missing or wrong, or the size is not above 0.
    """
    number, unit = _quantity(text, "size", _BYTE_UNITS, "200MB")
    if unit not in _BYTES:
        raise ConfigError(f"{text.strip()!r} has an unknown unit {unit!r}; wanted {_BYTE_UNITS}, as in 200MB")
    return number * _BYTES[unit]


def time_text(ms: float) -> str:
    """Return milliseconds as people read them, in the unit that suits."""
    if ms >= 1000.0:
        return f"{ms / 1000.0:.4g} s"
    return f"{ms:.4g} ms" if ms >= 0.1 else f"{ms * 1000.0:.4g} µs"


def size_text(size: float) -> str:
    """Return bytes as people read them."""
    for unit in ("GB", "MB", "kB"):
        if size >= _BYTES[unit]:
            return f"{size / _BYTES[unit]:.4g} {unit}"
    return f"{size:.4g} B"


def _quantity(text: str, what: str, units: str, example: str) -> tuple[float, str]:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{text.strip()!r} is no {what}; wanted a number and a unit ({units}), as in {example}")
    number, unit = float(found[1]), found[2]
    if not (math.isfinite(number) and number > 0.0):
        raise ConfigError(f"{text.strip()!r}: a {what} must be above 0 and finite, as in {example}")
    if not unit:
        raise ConfigError(f"{text.strip()!r} has no unit; wanted {units}, as in {example}")
    return number, unit
