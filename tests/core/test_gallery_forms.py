"""The gallery of broken plugins, part two: what the frame and the contract suites tell the author of a method."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploykit import HardForm, installed
from deploykit.errors import ContractError, DeploykitError, ExportError
from deploykit.testing import DecoderContract, ExportContract, MethodContract, ServingContract, offered
from deploykit.testing.exported import exported
from deploykit.testing.specimen import specimen
from tests.core import test_gallery_discovery
from tests.core.gallery.keeps_one_too_many import KEPT
from tests.core.honest_method import Cloud


@contextmanager
def plugged(name: str) -> Iterator[str]:
    """Have a plugin of the gallery installed for a while; gives the name of what it offers."""
    record = installed().offer(importlib.import_module(f"tests.core.gallery.{name}"), name)
    assert not record.failure
    try:
        with offered(tasks={"cloud": Cloud}):
            yield record.offers[0].split()[1]
    finally:
        installed().withdraw(record)


# What the frame says, whoever hardens or exports.
REFUSED: dict[str, tuple[type[DeploykitError], str]] = {
    "shares_a_buffer": (
        ContractError,
        "gallery.sharing: the hard form's tensor 'bias' shares memory with the soft form's 'layer.bias'; clone it in "
        "harden",
    ),
    "writes_into_its_input": (
        ContractError, "gallery.clipping: the hard form writes into its input; work on a copy"
    ),
    "draws_at_inference": (
        ContractError, "gallery.drawing: output 'y' differs between two runs on the same input"
    ),
    "branches_in_python": (
        ExportError,
        r"lowering 'onnx': torch.export cannot trace Branching with free dimensions \['batch'\]: it decides something "
        r"in Python by a tensor's value \(branches_in_python.py, line \d+: if .*\), which a file cannot; use "
        "torch.where, gathering or torch.cond",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_frame_refuses(name: str) -> None:
    error, words = REFUSED[name]
    make: Callable[..., object] = specimen if error is ContractError else exported
    with plugged(name) as method, pytest.raises(error, match=f"^{words}"):
        make(method, "", {})


class _Budgeted(MethodContract):
    """The author of ``keeps_one_too_many`` has said what is to be kept."""

    def budgets(self, hard: HardForm) -> dict[str, tuple[int, int]]:
        weight = dict(hard.module.named_buffers())["weight"]
        return {"weights": (int(weight.count_nonzero()), KEPT)}


class _Examples(DecoderContract):
    def examples(self) -> Any:
        import numpy as np

        yield {"y": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}


# What a contract suite says, with the test that says it.
FAILED: dict[str, tuple[type, str, str]] = {
    "traces_one_route": (
        ExportContract, "test_files_follow_every_sample",
        "gallery.tracing: lowering 'onnx' takes 'right' in one way for all samples, the hard form does not: one route "
        "was traced; choose with torch.where, gather, index_select or torch.cond, not with a Python if or a value from "
        "harden",
    ),
    "leaves_a_mask": (
        ExportContract, "test_files_weigh_and_work_what_was_promised",
        r"gallery.masking: lowering 'onnx': .*multiplies by the mask 'mask' instead of dropping what it hides",
    ),
    "draws_in_its_file": (
        ExportContract, "test_answers_are_the_same_in_every_session",
        "gallery.unsteady: lowering 'onnx' gives another 'y' for the same samples when it is run or loaded again; take "
        "out what draws random numbers",
    ),
    "trusts_the_accuracy_level": (
        ExportContract, "test_every_file_equals_the_hard_form",
        r"gallery.trusting: lowering 'onnx' at batch 1 is the hard form under our settings of ONNX Runtime and another "
        r"under its own: output 'y': \d of 3 numbers are further off than promised; write what decides \(accuracy "
        r"levels\) into the file",
    ),
    "keeps_one_too_many": (
        _Budgeted, "test_budgets_are_kept_exactly",
        r"gallery.pruning: keeps 7 weights, its settings allow 6; harden is off by \+1",
    ),
    "remembers_earlier_samples": (
        MethodContract, "test_earlier_answers_leave_no_trace",
        "gallery.remembering: output 'y' for the same samples is another one after others were answered; what a hard "
        "form needs to know of its inputs it must learn in harden",
    ),
    "decodes_another_sample": (
        _Examples, "test_it_returns_what_it_declares",
        "gallery-shifted: 'sample' goes from 1 to 3 in a batch of 3; it counts from 0",
    ),
    "answers_infinity": (
        ServingContract, "test_http_answers_as_in_process",
        "gallery.dividing: variant 'onnx' over HTTP as JSON is not what it is in process: output 'y' is not equal bit "
        "for bit: .*; 'y' holds NaN or infinity, which JSON cannot say",
    ),
    "names_no_decoder": (
        ServingContract, "test_it_is_served_without_torch",
        "gallery.undecoded: the server did not come up: .*its decoder cannot be made: no decoder 'text-bokses' among "
        r"\d+. Did you mean 'text-boxes'\?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILED)
def test_a_contract_catches(name: str) -> None:
    contract, test, words = FAILED[name]
    with plugged(name) as offer:
        suite = type("Suite", (contract,), {"name": offer})()
        with pytest.raises(AssertionError) as told:
            getattr(suite, test)()
    assert re.match(words, str(told.value), re.DOTALL), str(told.value)


def test_every_plugin_of_the_gallery_is_caught() -> None:
    gallery = {path.stem for path in (Path(__file__).parent / "gallery").glob("*.py")}
    assert {*test_gallery_discovery.CAUGHT, *REFUSED, *FAILED} == gallery
    assert len(gallery) >= 15
