"""What a bundle is measured on: its own held-out samples, or random ones within its signature."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import SignatureError
from deploykit.random_inputs import random_inputs as draw
from deploykit.signature import BATCH, Arrays, Signature
from deploykit_export.heldout import HELDOUT, unpack

Source = Literal["held-out samples", "random"]
_RANDOM_SAMPLES: Final = 16


class SampleInputs:
    """Inputs of any batch size for one bundle.

    Attributes:
        source: where they come from.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._signature = bundle.manifest.signature
        self._arrays, self.source = _arrays(bundle)
        first = self._signature.inputs[0].name
        self.count = len(self._arrays[first]) if self._signature.batched else 1

    @property
    def largest_batch(self) -> int | None:
        """The signature's limit; 1 where samples cannot be batched, ``None`` without a limit."""
        return self._signature.dim(BATCH).max if self._signature.batched else 1

    @property
    def smallest_batch(self) -> int:
        """The signature's lower limit."""
        return self._signature.dim(BATCH).min if self._signature.batched else 1

    def batches(self, batch: int, at_most: int = 16) -> list[dict[str, NDArray[Any]]]:
        """Return different inputs of one batch size, tiled where there are too few samples.

        Args:
            at_most: how many; fewer where the samples do not give as many different ones.
        """
        if not self._signature.batched:
            return [dict(self._arrays)]
        different = max(1, min(at_most, self.count // batch))
        return [self._tiled(start * batch, batch) for start in range(different)]

    def _tiled(self, start: int, batch: int) -> dict[str, NDArray[Any]]:
        index = (start + np.arange(batch)) % self.count
        return {name: np.ascontiguousarray(array[index]) for name, array in self._arrays.items()}


def _arrays(bundle: Bundle) -> tuple[Arrays, Source]:
    if HELDOUT in bundle.manifest.files:
        recorded = unpack(bundle.read(HELDOUT)).get("input", {})
        if recorded:
            _check(bundle.manifest.signature, recorded)
            return recorded, "held-out samples"
    return random_inputs(bundle.manifest.signature, _RANDOM_SAMPLES), "random"


def random_inputs(signature: Signature, count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Draw ``count`` samples within the signature's ranges; see :func:`deploykit.random_inputs.random_inputs`.

    Symbolic dimensions other than the batch take their smallest legal size.

    Raises:
        SignatureError: what was drawn is not legal, because a range is empty.
    """
    limits = signature.dim(BATCH)
    count = max(count if limits.max is None else min(count, limits.max), limits.min)
    try:
        return draw(signature, np.random.default_rng(seed), {BATCH: count})
    except SignatureError as error:
        raise SignatureError(f"{error}; put samples into the bundle at {HELDOUT}") from error


def _check(signature: Signature, recorded: Arrays) -> None:
    """Check samples in batches of the smallest legal size: there may be more of them than one batch may hold."""
    if not signature.batched:
        signature.check_inputs(recorded)
        return
    size = signature.dim(BATCH).min
    count = len(next(iter(recorded.values())))
    for start in range(0, count, size):
        index = (start + np.arange(size)) % count
        signature.check_inputs({name: array[index] for name, array in recorded.items()})
