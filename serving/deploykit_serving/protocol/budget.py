"""The latency budget of a request: a number of milliseconds, as V2 parameter, as header, or both."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Final

from deploykit_serving.protocol.faults import RequestFault, shown

PARAMETER: Final = "latency_budget_ms"
HEADER: Final = "latency-budget-ms"
_HEADER: Final = HEADER.encode()
_NUMBER: Final = re.compile(rb"[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?")


def budget_parameter(value: Any) -> float:
    """Return the milliseconds that a parameter gives.

    Raises:
        RequestFault: not a finite number above 0.
    """
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise RequestFault(f"parameter {PARAMETER!r} must be a number of milliseconds above 0, got {shown(value)}")
    return float(value)


def budget_header(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Return the milliseconds that the headers give, ``None`` if they give none.

    Raises:
        RequestFault: not a finite number above 0, or given twice.
    """
    values = [value for name, value in headers if name == _HEADER]
    if not values:
        return None
    if len(values) > 1:
        raise RequestFault(f"the header {HEADER} is given twice")
    text = values[0].strip()
    number = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 0 < number < math.inf:
        got = shown(values[0].decode("latin-1"))
        raise RequestFault(f"the header {HEADER} must be a number of milliseconds above 0, got {got}")
    return number


def smaller(parameter: float | None, header: float | None) -> float | None:
    """Return the budget that counts, in seconds: of two the smaller."""
    given = [budget for budget in (parameter, header) if budget is not None]
    return min(given) / 1e3 if given else None
