"""The contract suites fail for methods that break them: one broken method for each test, and an honest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from deploykit import Decision, Method, agreement
from deploykit.errors import SignatureError
from deploykit.testing import ExportContract, MethodContract, offered
from deploykit.testing.specimen import specimen
from tests.core import test_gallery_forms
from tests.core.broken_files import (
    FILES,
    Clouds,
    Counting5,
    FiveClouds,
    Flipping,
    Hesitating,
    Indexing,
    Middling,
    Narrow,
    Saturating,
    Shadowing,
    Stubborn,
    Wider,
)
from tests.core.broken_methods import (
    METHODS,
    Bursting,
    Busy,
    Counting,
    Deaf,
    Dicing,
    EchoingOracle,
    Excusing,
    Forgetting,
    Gossiping,
    Heavy,
    Mismarking,
    Misnaming,
    NegativeZero,
    OtherFile,
    Reciting,
    Remembering,
    Renaming,
    Reshaping,
    SilentOracle,
    Uncopied,
    Undecided,
    Unnumbered,
    Untaught,
    WrongOracle,
)
from tests.core.honest_method import Cloud, FarCloud, Honest


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    methods = {name_of(method): method for method in (*METHODS, *FILES)}
    tasks = {"cloud": Cloud, "farcloud": FarCloud, "clouds": Clouds, "fiveclouds": FiveClouds}
    with offered(methods=methods, tasks=tasks):
        yield


def name_of(method: type) -> str:
    return f"suites.{method.__name__.lower()}"


def suite(method: type[Method[Any]], **settings: Any) -> Any:
    return type("Suite", (MethodContract, ExportContract), {"name": name_of(method), **settings})()


_SKIPPED = ("test_budgets_are_kept_exactly", "test_every_file_equals_the_hard_form_at_other_sizes")
_TESTS = [name for part in (MethodContract, ExportContract) for name in vars(part) if name.startswith("test_")]


@pytest.mark.parametrize("test", [test for test in _TESTS if test not in _SKIPPED])
def test_an_honest_method_passes(test: str) -> None:
    getattr(suite(Honest), test)()


@pytest.mark.parametrize("test", ["every_file_equals_the_hard_form_at_other_sizes", *(
    "hard_form_equals_its_oracle_on_drawn_inputs", "samples_do_not_influence_each_other"
)])  # fmt: skip
def test_an_honest_method_passes_on_a_task_with_free_sizes(test: str) -> None:
    getattr(suite(Middling, task="clouds"), f"test_{test}")()


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("budgets_are_kept_exactly", "its test names no budget"),
        ("every_file_equals_the_hard_form_at_other_sizes", "only the batch is free in the signature of its task"),
    ],
)
def test_what_does_not_apply_is_skipped_with_a_reason(test: str, words: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=words):
        getattr(suite(Honest), f"test_{test}")()


BROKEN: list[tuple[type[Honest], str, str]] = [
    (Deaf, "gradients_reach_every_parameter", r"no gradient ever reaches \['extra'\]"),
    (Bursting, "gradients_reach_every_parameter", "gradient of 'layer.bias' is not finite"),
    (Dicing, "hardening_twice_gives_the_same_form", "harden is not repeatable"),
    (Counting, "hardening_twice_gives_the_same_form", "harden is not repeatable"),
    (Remembering, "state_survives_a_round_trip", "is not in the state_dict; register it as a buffer"),
    (WrongOracle, "hard_form_equals_its_oracle", "differs from its oracle: output 'y': 12 of 12 numbers"),
    (EchoingOracle, "hard_form_equals_its_oracle", "the oracle calls harden; compute the answer without"),
    (SilentOracle, "hard_form_equals_its_oracle", r"differs from its oracle: outputs \['y'\] instead of \[\]"),
    (NegativeZero, "hard_form_equals_its_oracle", "not equal bit for bit: the signs of zeros"),
    (
        Saturating,
        "hard_form_equals_its_oracle_on_drawn_inputs",
        r"differs from its oracle on drawn inputs {'x': \('float32', \(\d, 4\)\)}: output 'y': \d of \d numbers",
    ),
    (
        Indexing,
        "hard_form_equals_its_oracle_on_drawn_inputs",
        "a form fails on legal inputs .*IndexError: .*; mend it, or override random_inputs in the task if these should",
    ),
    (
        Excusing,
        "hard_form_equals_its_oracle_on_drawn_inputs",
        "every drawn sample has a decision near its tie, so none could be compared",
    ),
    (
        Flipping,
        "both_forms_decide_alike",
        "harden takes [1-9] of 12 decisions 'bit' otherwise than the soft form says, and they do not depend on inputs",
    ),
    (
        Shadowing,
        "no_file_holds_what_only_training_needs",
        "carries 'weights', which is the soft form's 'layer.weight'; the hard form has no such tensor, so only",
    ),
    (
        Stubborn,
        "files_follow_every_sample",
        r"the hard form takes \['best'\] in the same way for every sample that was tried, so nothing shows that its",
    ),
    (Gossiping, "samples_do_not_influence_each_other", "the answer to sample 0 depends on the other samples"),
    (Undecided, "both_forms_know_the_same_decisions", r"decisions\(\) names no decision"),
    (Renaming, "both_forms_know_the_same_decisions", r"the forms name \['Soft.best'.* and \['Hard.best'"),
    (Reshaping, "both_forms_know_the_same_decisions", "'best' differs in shape"),
    (Excusing, "both_forms_know_the_same_decisions", "'bit' calls every choice a tie"),
    (Unnumbered, "both_forms_know_the_same_decisions", "margins of 'bit' must be numbers of at least 0"),
    (Reciting, "decisions_depend_on_weights_or_inputs", "'best' is the same whatever the weights and inputs"),
    (Uncopied, "the_soft_form_can_be_copied", "output 'y' of a copy differs"),
    (Untaught, "training_changes_the_hard_form", "the trained parameters have no effect on the hard form"),
    (OtherFile, "every_file_equals_the_hard_form", "lowering 'other' at batch 1 is not the hard form: output 'y'"),
    (OtherFile, "tensorrt_builds_an_engine", "no lowering serves tensorrt"),
    (Heavy, "files_weigh_and_work_what_was_promised", "bytes; promised were at most 20"),
    (Busy, "files_weigh_and_work_what_was_promised", "executes 12 multiply-accumulates a sample at batch 1"),
    (Mismarking, "marked_decisions_equal_the_hard_forms", "decides 'best' otherwise than the hard form"),
    (Misnaming, "marked_decisions_equal_the_hard_forms", r"marks 'winner', decisions\(\) does not know it"),
    (Forgetting, "marked_decisions_equal_the_hard_forms", r"lost the marks \['best'\]; mark the tensor that"),
]


@pytest.mark.parametrize(("method", "test", "words"), BROKEN)
def test_a_broken_method_fails(method: type[Method[Any]], test: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        getattr(suite(method), f"test_{test}")()


OF_FREE_SIZES: list[tuple[type[Honest], str, str]] = [
    (
        Counting5,
        "clouds",
        r"lowering 'onnx' at sizes {'batch': 1, 'points': 1} is not the hard form: output 'y': .*; is",
    ),
    (
        Middling,
        "fiveclouds",
        "'points' is free in the signature, and random_inputs of task 'fiveclouds' gave only size 5",
    ),
    (
        Hesitating,
        "clouds",
        "lowering 'onnx': every drawn sample has a decision near its tie, so none could be compared",
    ),
]


@pytest.mark.parametrize(("method", "task", "words"), OF_FREE_SIZES)
def test_a_size_that_is_not_free_is_found(method: type[Method[Any]], task: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        suite(method, task=task).test_every_file_equals_the_hard_form_at_other_sizes()


def test_all_suites_draw_one_line_between_ties_and_decisions() -> None:
    made = specimen(name_of(Narrow), "", {})
    with torch.no_grad():
        at, above = (method.decisions(made.hard.module, made.inputs)["best"] for method in (Narrow(), Wider()))
    other = Decision(1 - at.value)
    assert agreement(at, other).different == 0
    assert agreement(above, other).different == len(made.inputs[0])

    suite(Narrow).test_marked_decisions_equal_the_hard_forms()
    with pytest.raises(AssertionError, match="decides 'best' otherwise than the hard form"):
        suite(Wider).test_marked_decisions_equal_the_hard_forms()

    suite(Wider).test_both_forms_know_the_same_decisions()
    with pytest.raises(AssertionError, match="'best' calls every choice a tie"):
        suite(Narrow).test_both_forms_know_the_same_decisions()

    suite(Wider, oracle_examples=2).test_hard_form_equals_its_oracle_on_drawn_inputs()
    with pytest.raises(AssertionError, match="every drawn sample has a decision near its tie"):
        suite(Narrow, oracle_examples=2).test_hard_form_equals_its_oracle_on_drawn_inputs()


def test_a_task_whose_calibration_does_not_fit_fails() -> None:
    with pytest.raises(SignatureError, match=r"input 'x': values from .* wanted -50 to infinity"):
        suite(Honest, task="farcloud").test_calibration_comes_from_the_task()


def test_every_contract_test_has_a_method_that_breaks_it() -> None:
    shown = {f"test_{test}" for _, test, _ in BROKEN} | {test for _, test, _ in test_gallery_forms.FAILED.values()}
    shown |= {"test_calibration_comes_from_the_task", "test_every_file_equals_the_hard_form_at_other_sizes"}
    assert set(_TESTS) <= shown
