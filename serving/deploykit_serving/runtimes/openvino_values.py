"""Which numbers a tensor of an OpenVINO model can hold, as far as that is provable from the graph alone.

A tensor is followed back to its root: the levels of a quantiser, a comparison, or a convolution that adds up integers.
The root's numbers lie on a grid; operators that keep order are followed from there, channel by channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Step = Callable[[Floats], Floats]

_FEW: Final = 4096
"""Numbers of a grid that are enumerated; larger grids are only searched."""
_EXACT: Final = 2.0**24
"""Whole numbers up to here are float32 numbers."""
_TIE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Traced:
    """A tensor as a function of its root; the function never decreases.

    Attributes:
        root: name of the node whose first output is the root.
        step: distance of the root's neighbouring numbers.
        low: the root's smallest number; ``low`` to ``high`` is a whole number of steps.
        high: its largest.
        chain: what happens to the root's numbers on the way; takes float64 [channels or 1, anything].
        pools: names of the max pools on the way.
    """

    root: str
    step: float
    low: float
    high: float
    chain: tuple[Step, ...] = ()
    pools: tuple[str, ...] = ()

    def then(self, step: Step) -> Traced:
        """Return what comes out of one more operator; it must keep order."""
        return replace(self, chain=(*self.chain, step))

    def at(self, root: Floats) -> Floats:
        """Return the tensor's numbers for numbers of the root; NaN where rounding could go either way."""
        for step in self.chain:
            root = step(root)
        return root

    def ends(self) -> tuple[float, float]:
        """Return the smallest and the largest number of any channel."""
        return float(self.at(np.array([[self.low]])).min()), float(self.at(np.array([[self.high]])).max())

    def enumerated(self) -> Floats | None:
        """Return every number the tensor can hold, or ``None`` where the root has too many or one is uncertain."""
        if (self.high - self.low) / self.step > _FEW:
            return None
        numbers = np.unique(self.at(np.arange(self.low, self.high + self.step / 2, self.step)[None]))
        return numbers if np.isfinite(numbers).all() else None

    def two_values(self) -> tuple[tuple[float, float], Floats] | None:
        """Return both numbers and, by channel, from where in the root on it is the larger, if there are just two."""
        steps = round((self.high - self.low) / self.step)
        first, last = (self.at(np.array([[end]]))[:, 0] for end in (self.low, self.high))
        low, high = float(first.min()), float(last.max())
        if not (low < high and np.isin([*first, *last], (low, high)).all()):
            return None
        # Bisection by channel: below ``under`` it is the lower number, from ``under + 1`` steps on the higher.
        under, above = np.zeros(len(first)), np.full(len(first), float(steps))
        while (above - under > 1).any():
            middle = np.floor((under + above) / 2)
            larger = self._at_steps(middle) > low
            under, above = np.where(larger, under, middle), np.where(larger, middle, above)
        always, never = first == high, last == low
        known = (self._at_steps(under) == low) & (self._at_steps(above) == high)
        if not (known | always | never).all():
            return None  # there is a third number, or one that rounding decides
        threshold = self.low + (under + 0.5) * self.step
        threshold = np.where(always, self.low - self.step / 2, threshold)
        return (low, high), np.where(never, self.high + self.step / 2, threshold)

    def _at_steps(self, steps: Floats) -> Floats:
        return self.at((self.low + steps * self.step)[:, None])[:, 0]


Values = dict[tuple[str, int], Traced]
"""What is known, by a node's name and the index of its output."""


def constant_of(output: Any) -> NDArray[Any] | None:
    """Return the numbers of a constant, or ``None``."""
    node = output.get_node()
    return node.data if node.get_type_name() == "Constant" else None


def key_of(output: Any) -> tuple[str, int]:
    """Return an output's key in :data:`Values`."""
    return output.get_node().get_friendly_name(), output.get_index()


def trace(node: Any, values: Values) -> None:
    """Note what is known of a node's first output; nothing, for most."""
    found = _followed(node, values)
    if found is not None:
        values[node.get_friendly_name(), 0] = found


def _followed(node: Any, values: Values) -> Traced | None:
    kind, name = node.get_type_name(), node.get_friendly_name()
    inputs = node.input_values()
    if not inputs:
        return None
    given = values.get(key_of(inputs[0]))
    others = [constant_of(item) for item in inputs[1:]]
    if kind == "Convolution":
        return None if given is None or others[0] is None else _sums(name, given, others[0])
    if kind in _COMPARED:
        return _compared(kind, name, given, others[0])
    if kind == "FakeQuantize":
        return _quantized(node, given, others)
    if given is None:
        return _swapped(node, values) if kind in _OF_TWO else None
    if kind == "MaxPool":
        return replace(given, pools=(*given.pools, name)) if _plain_pool(node.get_attributes()) else None
    if kind == "Convert":
        return _converted(given, node.get_output_element_type(0))
    if kind == "Select":
        return _selected(given, others)
    if kind in _OF_ONE:
        return given.then(_OF_ONE[kind])
    if kind in _OF_TWO and others[0] is not None:
        return _with_constant(kind, given, others[0], node)
    return None


def _swapped(node: Any, values: Values) -> Traced | None:
    """The constant comes first: only where the order of inputs makes no difference."""
    first, second = node.input_values()
    constant, given = constant_of(first), values.get(key_of(second))
    if node.get_type_name() == "Subtract" or constant is None or given is None:
        return None
    return _with_constant(node.get_type_name(), given, constant, node)


def _plain_pool(attributes: dict[str, Any]) -> bool:
    return set(attributes.get("dilations", [1])) == {1} and attributes["rounding_type"] in ("floor", "ceil")


def _compared(kind: str, name: str, given: Traced | None, constant: NDArray[Any] | None) -> Traced:
    """False and true as 0 and 1: a function of the root where that is certain, else numbers of their own."""
    numbers = None if constant is None else by_channel(constant)
    if given is not None and numbers is not None:
        compare = _COMPARED[kind]
        followed = given.then(lambda u: np.where(np.isnan(u), np.nan, compare(u, numbers)))
        if followed.two_values() is not None:
            return followed
    return Traced(name, 1.0, 0.0, 1.0)


_COMPARED: Final[dict[str, Callable[[Floats, Floats], NDArray[np.bool_]]]] = {
    "GreaterEqual": np.greater_equal, "Greater": np.greater,
}  # fmt: skip
_OF_ONE: Final[dict[str, Step]] = {"Relu": lambda u: np.maximum(u, 0), "Sign": np.sign}
_OF_TWO: Final[dict[str, Callable[[Floats, Floats], Floats]]] = {
    "Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Minimum": np.minimum, "Maximum": np.maximum,
}  # fmt: skip


def _with_constant(kind: str, given: Traced, constant: NDArray[Any], node: Any) -> Traced | None:
    numbers = by_channel(constant)
    if numbers is None or (kind == "Multiply" and not (numbers > 0).all()):
        return None
    function = _OF_TWO[kind]
    if kind in ("Minimum", "Maximum"):
        return given.then(lambda u: function(u, numbers))
    if not _single_or_double(node.get_output_element_type(0)):
        return None  # integers may wrap around, and halves round
    return given.then(lambda u: _unrounded(function(u, numbers)))


def _unrounded(numbers: Floats) -> Floats:
    """Return numbers that float32 holds; NaN for others, whose rounding depends on how operators are fused."""
    return np.where(numbers.astype(np.float32) == numbers, numbers, np.nan)


def _single_or_double(element: Any) -> bool:
    return element.get_type_name() in ("f32", "f64")


def by_channel(constant: NDArray[Any]) -> Floats | None:
    """Return a constant as float64 [channels or 1, 1] if it has one number for each channel of [N, C, H, W] or one."""
    if constant.size == 1:
        return constant.reshape(1, 1).astype(np.float64)
    if constant.ndim in (3, 4) and constant.size == constant.shape[-3]:
        return constant.reshape(-1, 1).astype(np.float64)
    return None


def _sums(name: str, given: Traced, weights: NDArray[Any]) -> Traced | None:
    numbers = given.enumerated()
    if numbers is None:
        two = given.two_values()
        numbers = None if two is None else np.array(two[0])
    if numbers is None or weights.ndim != 4:
        return None
    whole = weights.astype(np.float64)
    if (numbers != np.rint(numbers)).any() or (whole != np.rint(whole)).any() or not whole.any():
        return None
    bound = float(np.abs(numbers).max() * np.abs(whole.reshape(len(whole), -1)).sum(axis=1).max())
    if not 0 < bound < _EXACT:
        return None
    step = math.gcd(*(int(n) for n in numbers)) * math.gcd(*(int(w) for w in np.unique(whole)))
    # Padding adds zeros, which are on the grid too.
    return Traced(name, float(step), -bound, bound)


def _quantized(node: Any, given: Traced | None, limits: list[NDArray[Any] | None]) -> Traced | None:
    ends = [None if item is None else by_channel(item) for item in limits]
    levels = int(node.get_attributes()["levels"])
    if any(end is None for end in ends) or levels > _FEW:
        return None
    in_low, in_high, out_low, out_high = (end for end in ends if end is not None)
    if (in_low >= in_high).any() or (out_low >= out_high).any():
        return None
    distance = (out_high - out_low) / (levels - 1)
    if given is None:
        if out_low.size != 1 or out_high.size != 1:
            return None
        low, high = float(out_low.item()), float(out_high.item())
        return Traced(node.get_friendly_name(), float(distance.item()), low, high)

    def quantize(u: Floats) -> Floats:
        place = (np.clip(u, in_low, in_high) - in_low) / (in_high - in_low) * (levels - 1)
        tie = np.abs(place - np.floor(place) - 0.5) < _TIE
        return np.where(tie, np.nan, out_low + np.rint(place) * distance)

    return given.then(quantize)


def _converted(given: Traced, element: Any) -> Traced | None:
    if element.is_real():
        return given if _single_or_double(element) else None
    kind = element.to_dtype()
    if kind == np.bool_:
        return None
    low, high = given.ends()
    limits = np.iinfo(kind)
    if not (limits.min <= low and high <= limits.max):
        return None
    return given.then(_whole)


def _whole(u: Floats) -> Floats:
    # Levels of a quantiser are whole up to the rounding of their own computation.
    return np.where(np.abs(u - np.rint(u)) < _TIE, np.rint(u), np.nan)


def _selected(given: Traced, choices: list[NDArray[Any] | None]) -> Traced | None:
    if len(choices) != 2 or choices[0] is None or choices[1] is None:
        return None
    condition = given.two_values()
    if condition is None or condition[0] != (0.0, 1.0):
        return None
    taken, left = by_channel(choices[0]), by_channel(choices[1])
    if taken is None or left is None or not (taken > left).all():
        return None
    return given.then(lambda u: np.where(np.isnan(u), np.nan, np.where(u > 0, taken, left)))
