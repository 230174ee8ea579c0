"""The contract suites fail for methods that break them: one broken method for each test, and an honest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploykit import Method
from deploykit.errors import SignatureError
from deploykit.testing import ExportContract, MethodContract, offered
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
    methods = {name_of(method): method for method in METHODS}
    with offered(methods=methods, tasks={"cloud": Cloud, "farcloud": FarCloud}):
        yield


def name_of(method: type) -> str:
    return f"suites.{method.__name__.lower()}"


def suite(method: type[Method[Any]], **settings: Any) -> Any:
    return type("Suite", (MethodContract, ExportContract), {"name": name_of(method), **settings})()


_TESTS = [name for part in (MethodContract, ExportContract) for name in vars(part) if name.startswith("test_")]


@pytest.mark.parametrize("test", _TESTS)
def test_an_honest_method_passes(test: str) -> None:
    getattr(suite(Honest), test)()


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


def test_a_task_whose_calibration_does_not_fit_fails() -> None:
    with pytest.raises(SignatureError, match=r"input 'x': values from .* wanted -50 to infinity"):
        suite(Honest, task="farcloud").test_calibration_comes_from_the_task()


def test_every_contract_test_has_a_method_that_breaks_it() -> None:
    shown = {f"test_{test}" for _, test, _ in BROKEN} | {"test_calibration_comes_from_the_task"}
    assert shown == set(_TESTS)
