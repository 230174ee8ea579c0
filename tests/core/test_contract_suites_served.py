"""The serving contract passes for an honest method and fails for a server that answers carelessly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from deploykit import Decoder, HardForm, TensorSpec
from deploykit.signature import Arrays
from deploykit.testing import ServingContract, offered
from tests.core import test_gallery_forms
from tests.core.careless_server import careless_server
from tests.core.honest_method import Cloud, Honest

_TESTS = [name for name in vars(ServingContract) if name.startswith("test_")]
_ZEROS = [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}]


class Kind(Decoder):
    """Which output is the largest."""

    outputs = (TensorSpec(name="kind", dtype="int64", shape=("batch",)),)

    def decode(self, outputs: Arrays) -> Arrays:
        return {"kind": outputs["y"].argmax(axis=1)}


class Decoded(Honest):
    """Honest, with a decoder."""

    def harden(self, soft: Any, inputs: Any) -> HardForm:
        return HardForm(self.hard(soft.layer.weight, soft.layer.bias), self.promise, decoder="suites-kind")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    methods = {"served.honest": Honest, "served.decoded": Decoded}
    with offered(methods=methods, tasks={"cloud": Cloud}, decoders={"suites-kind": Kind}):
        yield


def suite(method: str = "served.honest", url: str = "") -> ServingContract:
    made: Any = type("Suite", (ServingContract,), {"name": method})()
    if url:
        made.url = lambda: url
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize("test", _TESTS)
def test_an_honest_method_passes(test: str) -> None:
    getattr(suite(), test)()


CARELESS = {
    "test_it_is_served_without_torch": r"served.honest: the server tells of inputs \['z'\]; wanted \['x'\]",
    "test_http_answers_as_in_process": (
        "served.honest: variant 'onnx' over HTTP in binary is not what it is in process: output 'y' is not equal bit "
        "for bit: 3 of 3 numbers differ"
    ),
    "test_http_refuses_what_does_not_fit": (
        "served.honest: an unknown input is answered as if it were right; wanted a refusal"
    ),
    "test_the_decoder_is_applied_on_request": (
        r"served.honest: has no decoder, and a request to decode is not refused with 4xx: \['y'\]"
    ),
}


@pytest.mark.parametrize("test", CARELESS)
def test_a_server_that_answers_anything_fails(test: str) -> None:
    with careless_server(_ZEROS) as url, pytest.raises(AssertionError, match=CARELESS[test]):
        getattr(suite(url=url), test)()


def test_a_server_that_decodes_otherwise_fails() -> None:
    wrong = [{"name": "kind", "datatype": "INT64", "shape": [1], "data": [7]}]
    words = "decoder 'suites-kind' on request is not what it is in process: output 'kind' is not equal bit for bit"
    with careless_server(wrong) as url, pytest.raises(AssertionError, match=words):
        suite("served.decoded", url).test_the_decoder_is_applied_on_request()
    right = [{"name": "kind", "datatype": "INT64", "shape": [1], "data": [int(self_answer())]}]
    with careless_server(right) as url:
        suite("served.decoded", url).test_the_decoder_is_applied_on_request()


def self_answer() -> Any:
    made = suite("served.decoded").exported().made
    return made.hard.module(made.inputs[0][:1]).argmax(1)[0]


def test_every_contract_test_has_something_that_breaks_it() -> None:
    shown = {test for contract, test, _ in test_gallery_forms.FAILED.values() if contract is ServingContract}
    assert {*CARELESS, *shown} == set(_TESTS)
    assert np.array_equal(Kind().decode({"y": np.eye(3)})["kind"], [0, 1, 2])
