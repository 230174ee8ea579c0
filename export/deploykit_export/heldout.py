"""Held-out samples that travel with a bundle: chosen so that different decisions are taken, with the answers."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploykit.decisions import Decisions
from deploykit.errors import BundleError
from deploykit.signature import Arrays

HELDOUT: Final = "samples/heldout.npz"
CALIBRATION: Final = "samples/calibration.npz"


def choose(decisions: Decisions, count: int, at_most: int) -> NDArray[np.int64]:
    """Return the indices of samples to keep, in order: first one for each different way to decide, then the rest.

    Args:
        decisions: taken on ``count`` samples; those whose first axis is not the samples are the same for all.
        at_most: how many to keep.
    """
    rows = [
        decision.value.reshape(count, -1) for decision in decisions.values() if decision.value.shape[:1] == (count,)
    ]
    if not rows:
        return np.arange(min(count, at_most))
    patterns = np.concatenate(rows, axis=1)
    _, first = np.unique(patterns, axis=0, return_index=True)
    chosen = [*sorted(first)[:at_most]]
    rest = (index for index in range(count) if index not in set(chosen))
    chosen += [index for index, _ in zip(rest, range(at_most - len(chosen)), strict=False)]
    return np.sort(np.asarray(chosen, dtype=np.int64))


def pack(groups: Mapping[str, Arrays]) -> bytes:
    """Return ``group/name`` arrays as the bytes of an npz file, the same bytes for the same arrays."""
    buffer = io.BytesIO()
    flat = {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}
    np.savez(buffer, allow_pickle=False, **flat)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the groups of arrays that :func:`pack` wrote.

    Raises:
        BundleError: the bytes are no npz of plain arrays.
    """
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in read_arrays(data).items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = array
    return groups


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name; objects, which would need pickle, are refused.

    Raises:
        BundleError: the bytes are no npz of plain arrays.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise BundleError(f"samples are not an npz of plain arrays: {error}") from error
