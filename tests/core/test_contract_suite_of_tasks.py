"""The task contract passes for an honest task and fails for one that breaks each promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploykit.testing import TaskContract, offered
from tests.core import broken_tasks as broken

_TESTS = [name for name in vars(TaskContract) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with offered(tasks={item.__name__.lower(): item for item in broken.TASKS}):
        yield


def suite(task: type) -> Any:
    return type("Suite", (TaskContract,), {"name": task.__name__.lower()})()


@pytest.mark.parametrize("test", _TESTS)
def test_an_honest_task_passes(test: str) -> None:
    getattr(suite(broken.Sky), test)()


BROKEN: list[tuple[type, str, str]] = [
    (broken.Outside, "every_split_fits_the_signature", "split 'test' does not fit the signature: input 'x': values fr"),
    (broken.Empty, "every_split_fits_the_signature", "split 'calibration' is empty"),
    (broken.Unlabelled, "every_split_fits_the_signature", "split 'train' has no targets to learn or to judge by"),
    (broken.Short, "every_split_fits_the_signature", "'train' has 40 samples and 39 rows of 'kind'"),
    (broken.Shuffling, "splits_are_the_same_every_time", "split 'train' is another one the second time; draw it from"),
    (broken.Leaking, "no_test_sample_is_trained_on", "1 of 40 test samples are in split 'calibration' too; whoever tr"),
    (broken.LastFirst, "the_example_is_the_first_of_training", r"example\(\) gives another 'x' than the first two tra"),
    (
        broken.Undrawable, "random_inputs_are_legal_in_every_size",
        "random inputs of sizes {'batch': 2} are not legal: .*; override random_inputs in the task",
    ),
    (broken.Restless, "random_inputs_are_legal_in_every_size", "random_inputs draws from elsewhere, too"),
    (
        broken.OneSize, "random_inputs_are_legal_in_every_size",
        "'points' is free in the signature and random_inputs always gives size 5",
    ),
    (broken.Narrow, "its_network_fits_and_learns", "its network does not fit the signature: output 'y': wanted float3"),
    (broken.PerSample, "its_network_fits_and_learns", r"the loss has shape \[16\]; wanted one number for the batch"),
    (broken.Exploding, "its_network_fits_and_learns", "the loss of a fresh network is inf"),
    (broken.Flat, "its_network_fits_and_learns", "the loss has no gradient for any parameter of the network; it canno"),
    (broken.Frozen, "networks_come_from_the_seed", "every seed gives the same network; draw its weights anew"),
    (broken.Unseeded, "networks_come_from_the_seed", "the same seed gives two networks; draw from torch alone"),
    (broken.Obliging, "networks_come_from_the_seed", r"network\(\) knows 'nobody-has-this'; raise UnknownNameError"),
    (
        broken.Upside, "a_smaller_loss_is_a_larger_metric",
        "outputs of the smallest loss have accuracy 0, noise has 0.[0-9]+; larger must be better: turn the metric's",
    ),
    (broken.Undefined, "a_smaller_loss_is_a_larger_metric", "the metric is nan"),
    (
        broken.Lenient, "a_smaller_loss_is_a_larger_metric",
        "max_loss 2 lets a hard form lose all there is: accuracy goes from 0.[0-9]+ for noise to 1 at best",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("task", "test", "words"), BROKEN)
def test_a_broken_task_fails(task: type, test: str, words: str) -> None:
    with pytest.raises(AssertionError, match=f"{task.__name__.lower()}: {words}"):
        getattr(suite(task), f"test_{test}")()


def test_every_contract_test_has_a_task_that_breaks_it() -> None:
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(_TESTS)
