"""The contracts of targets and runtimes pass for honest ones and fail for one that breaks each promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploykit.testing import RuntimeContract, TargetContract, offered
from tests.core import broken_engines as broken
from tests.core.honest_method import Cloud, Honest

_OF_TARGETS = [name for name in vars(TargetContract) if name.startswith("test_")]
_OF_RUNTIMES = [name for name in vars(RuntimeContract) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    targets = {name_of(item): item for item in broken.TARGETS}
    runtimes = {name_of(item): item for item in broken.RUNTIMES}
    with offered(
        targets=targets, runtimes=runtimes, methods={"engines.honest": Honest}, tasks={"cloud": Cloud}
    ):  # fmt: skip
        yield


def name_of(item: type) -> str:
    return f"suites-{item.__name__.lower()}"


def suite(item: type, **settings: Any) -> Any:
    contract = TargetContract if item in broken.TARGETS else RuntimeContract
    return type("Suite", (contract,), {"name": name_of(item), **settings})()


@pytest.mark.parametrize("test", _OF_TARGETS)
def test_an_honest_target_passes(test: str) -> None:
    getattr(suite(broken.Listing, method="engines.honest"), test)()


@pytest.mark.parametrize("test", _OF_RUNTIMES)
def test_an_honest_runtime_passes(test: str) -> None:
    getattr(suite(broken.Interpreter, method="engines.honest"), test)()


BROKEN: list[tuple[type, str, str]] = [
    (broken.Wordless, "it_says_what_it_misses", r"missing\(\) returned None; wanted text, empty if nothing is missing"),
    (broken.Wavering, "it_says_what_it_misses", r"missing\(\) says 'no licence' and then 'no network'"),
    (broken.Hollow, "it_writes_files_into_a_bundle", "model 'affine': 'affine/operators.txt' is empty"),
    (broken.Fileless, "it_writes_files_into_a_bundle", "model 'affine': target .*: write returned no file; raise Expo"),
    (broken.Climbing, "it_writes_files_into_a_bundle", "model 'affine': target .*: a file's name is relative, of lett"),
    (broken.Stamping, "the_same_model_gives_the_same_files", "'affine/operators.txt' of model 'affine' has other byte"),
    (broken.Renaming, "the_same_model_gives_the_same_files", r"model 'affine' gives \['affine/operators-\d.txt'\], th"),
    (broken.Swallowing, "it_refuses_what_is_no_model", "takes nothing for a model, or refuses it without a word; rais"),
    (broken.Crashing, "it_refuses_what_is_no_model", "nothing in place of a model leads to RuntimeError: segment 3 is"),
    (broken.Mute, "it_says_what_it_misses", r"missing\(\) returned 0; wanted text, empty if nothing is missing"),
    (
        broken.Rounding, "it_answers_as_onnxruntime_does",
        r"model 'affine' at batch 1 is not what ONNX Runtime answers: output 'y': \d of 3 numbers are further off",
    ),
    (broken.Scaling, "its_inputs_stay_as_they_were", "running model 'affine' changed its input 'x'; copy it"),
    (broken.Borrowing, "its_inputs_stay_as_they_were", "fails on inputs of model 'affine' that are read-only: Val"),
    (
        broken.Caching, "its_outputs_are_the_callers_own",
        "writing into 'y' of an answer of model 'affine' changes what the next run gives; return a copy",
    ),
    (broken.Leaking, "it_refuses_what_is_no_model", "nothing in place of a model leads to ValidationError"),
    (broken.Speechless, "it_refuses_what_is_no_model", "loads nothing as if it were a model, or refuses it wi"),
    (broken.Buffering, "its_outputs_are_the_callers_own", "the next run of model 'affine' overwrites 'y' of the last"),
    (broken.Locking, "its_outputs_are_the_callers_own", "'y' is read-only; return a copy"),
    (
        broken.Sharing, "threads_do_not_disturb_each_other",
        "with 4 threads model 'affine' answers otherwise than with one: output 'y' .*; take a lock around what is sha",
    ),
    (broken.Delaying, "it_refuses_what_is_no_model", "loads nothing as if it were a model, or refuses it without a w"),
    (broken.Weighty, "it_needs_no_torch", "imports torch; a server has none"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "test", "words"), BROKEN)
def test_a_broken_one_fails(item: type, test: str, words: str) -> None:
    with pytest.raises(AssertionError, match=f"{name_of(item)}: {words}"):
        getattr(suite(item), f"test_{test}")()


def test_bytes_that_differ_may_be_said() -> None:
    suite(broken.Stamping, deterministic=False).test_the_same_model_gives_the_same_files()


@pytest.mark.parametrize("item", [broken.Nowhere, broken.Absent])
def test_what_cannot_run_here_is_skipped_with_its_reason(item: type) -> None:
    with pytest.raises(pytest.skip.Exception, match=f"'{name_of(item)}': it needs a machine that nobody has"):
        suite(item).test_it_refuses_what_is_no_model()


def test_every_contract_test_has_something_that_breaks_it() -> None:
    for items, tests in ((broken.TARGETS, _OF_TARGETS), (broken.RUNTIMES, _OF_RUNTIMES)):
        assert {f"test_{test}" for item, test, _ in BROKEN if item in items} == set(tests)
