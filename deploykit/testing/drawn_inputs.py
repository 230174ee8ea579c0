"""Inputs that nobody chose: test samples put together anew and random ones, in sizes that the signature allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from deploykit.decisions import NEAR_TIE
from deploykit.errors import SignatureError
from deploykit.method import Method
from deploykit.outputs import tensors
from deploykit.random_inputs import legal_sizes
from deploykit.signature import BATCH, Arrays, Signature
from deploykit.task import Task

_SIZES: Final = 3
Draw = Callable[[np.random.Generator, Mapping[str, int]], Arrays]


def free_sizes(signature: Signature) -> tuple[str, ...]:
    """Return the names of the inputs' symbolic dimensions other than the batch."""
    names = {size for spec in signature.inputs for size in spec.shape if isinstance(size, str)}
    return tuple(sorted(names - {BATCH}))


def sizes_of(signature: Signature, arrays: Arrays) -> dict[str, int]:
    """Return the sizes that the symbolic dimensions have in these inputs."""
    pairs = [
        (name, size)
        for spec in signature.inputs
        for name, size in zip(spec.shape, arrays[spec.name].shape, strict=True)
    ]
    return {name: size for name, size in pairs if isinstance(name, str)}


def checked_draw(who: str, task: Task, draw: Draw, sizes: Mapping[str, int], seed: int) -> Arrays:
    """Return what a task draws, which must be legal.

    Raises:
        AssertionError: it is not; the text is for the author of the task.
    """
    try:
        arrays = draw(np.random.default_rng(seed), sizes)
        task.signature.check_inputs(arrays)
    except SignatureError as error:
        raise AssertionError(
            f"{who}: random inputs of sizes {dict(sizes)} are not legal: {error}; override random_inputs in the task"
        ) from error
    return arrays


def for_drawn_inputs(
    who: str, task: Task, draw: Draw, check: Callable[[Arrays], None], *, examples: int, largest_batch: int
) -> None:
    """Call ``check`` for inputs that Hypothesis draws; always the same ones, so that a failure can be repeated.

    Half of them are test samples put together anew, half come from ``draw`` in several legal sizes.
    """
    signature = task.signature
    known = task.samples("test").inputs
    count = len(next(iter(known.values())))
    smallest, *larger = legal_sizes(signature, BATCH, largest_batch)
    batches = [smallest, *(size for size in larger if size <= largest_batch)]
    wanted: dict[str, st.SearchStrategy[int]] = {
        name: st.sampled_from(legal_sizes(signature, name, _SIZES)) for name in free_sizes(signature)
    }

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, report_multiple_bugs=False,
        phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        from_samples=st.booleans(),
        batch=st.sampled_from(batches),
        sizes=st.fixed_dictionaries(wanted),
        seed=st.integers(0, 2**31 - 1),
    )
    def run(from_samples: bool, batch: int, sizes: dict[str, int], seed: int) -> None:
        if from_samples and signature.batched:
            rows = np.random.default_rng(seed).integers(0, count, batch)
            check({name: array[rows] for name, array in known.items()})
        else:
            check(checked_draw(who, task, draw, {**sizes, BATCH: batch}, seed))

    run()


def clear_rows(method: Method[Any], form: nn.Module, inputs: Arrays, signature: Signature) -> NDArray[np.bool_]:
    """Return for each sample whether all its decisions are clear: none lies within ``NEAR_TIE`` of its tie."""
    count = len(next(iter(inputs.values())))
    clear = np.ones(count, np.bool_)
    for decision in method.decisions(form, tensors(inputs, signature)).values():
        if decision.margin is not None and decision.margin.shape[:1] == (count,):
            clear &= (decision.margin.reshape(count, -1) > NEAR_TIE).all(axis=1)
    return clear


def rows_of(arrays: Arrays, rows: NDArray[np.bool_]) -> Arrays:
    """Return those samples of some outputs; what does not count samples stays whole."""
    return {name: array[rows] if array.shape[:1] == rows.shape else array for name, array in arrays.items()}
