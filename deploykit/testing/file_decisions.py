"""Decisions as a running hard form marks them and as its file takes them, and whether samples take different ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.decision_marks import OPERATOR
from deploykit.outputs import tensors
from deploykit.random_inputs import legal_sizes
from deploykit.signature import BATCH, Arrays
from deploykit.testing.drawn_inputs import sizes_of
from deploykit.testing.specimen import Specimen

_LOOKED_AT = 96


class _Marks(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is OPERATOR:
            self.names.add(args[1])
        return func(*args, **(kwargs or {}))


def marks_of(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> set[str]:
    """Return the names under which a module marks decisions while it runs."""
    marks = _Marks()
    with torch.no_grad(), marks:
        module(*inputs)
    return marks.names


def ways(value: NDArray[Any]) -> int:
    """Return in how many different ways a decision was taken over its samples, which are its first axis."""
    return len(np.unique(value.reshape(len(value), -1), axis=0))


def samples_of_different_ways(made: Specimen, name: str) -> Arrays | None:
    """Return some inputs over whose samples the hard form takes a decision in more than one way.

    Looked for among the specimen's samples, then among further test samples, then among random inputs.

    Returns:
        ``None`` if there were none among these.
    """
    signature = made.task.signature
    test = made.task.samples("test").take(slice(0, _LOOKED_AT)).inputs
    step = len(made.inputs[0])
    sizes = {**sizes_of(signature, test), BATCH: legal_sizes(signature, BATCH, 8)[-1]}
    candidates: list[Arrays] = [
        {key: array[start : start + step] for key, array in test.items()}
        for start in range(0, len(next(iter(test.values()))), step)
    ]
    candidates += [made.task.random_inputs(np.random.default_rng(seed), sizes) for seed in range(4)]
    for arrays in candidates:
        with torch.no_grad():
            taken = made.method.decisions(made.hard.module, tensors(arrays, signature))[name].value
        if taken.shape[:1] == (len(next(iter(arrays.values()))),) and ways(taken) > 1:
            return arrays
    return None
