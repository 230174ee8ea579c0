"""The decoder contract passes for an honest decoder and fails for one that breaks each promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from deploykit.testing import DecoderContract, offered
from tests.core import broken_decoders as broken
from tests.core import test_gallery_forms

_TESTS = [name for name in vars(DecoderContract) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with offered(decoders={name_of(item): item for item in broken.DECODERS}):
        yield


def name_of(decoder: type) -> str:
    return f"suites-{decoder.__name__.lower()}"


def suite(decoder: type, **settings: Any) -> Any:
    def examples(self: DecoderContract) -> Any:
        random = np.random.default_rng(0)
        yield {"y": random.standard_normal((4, 6)).astype(np.float32)}
        yield {"y": random.standard_normal((2, 3)).astype(np.float32)}

    return type("Suite", (DecoderContract,), {"name": name_of(decoder), "examples": examples, **settings})()


@pytest.mark.parametrize("test", _TESTS)
def test_an_honest_decoder_passes(test: str) -> None:
    getattr(suite(broken.Peaks), test)()


BROKEN: list[tuple[type, str, str]] = [
    (broken.Tall, "it_needs_no_torch", "imports torch; a server has none: decode in numpy"),
    (
        broken.Undeclared,
        "it_returns_what_it_declares",
        r"decode returned \['place', 'sample', 'score', 'value'\]; decl",
    ),
    (broken.Halved, "it_returns_what_it_declares", r"declared was value float32\[found\], got float16\[5\]"),
    (broken.Uneven, "it_returns_what_it_declares", "declared was value float32.*; 'found' is 5 elsewhere"),
    (broken.Negative, "it_returns_what_it_declares", "'value' goes down to -.*; declared was a minimum of 0"),
    (broken.Backwards, "it_returns_what_it_declares", "'sample' jumps back; append the rows of the samples in their o"),
    (broken.Blind, "it_returns_what_it_declares", "nothing was found in any example; give examples with something in"),
    (broken.Sorting, "its_input_stays_as_it_was", "writes into 'y', which the server still sends; work on a copy"),
    (broken.Viewing, "its_input_stays_as_it_was", "'first' is a view of the model's 'y'; return a copy"),
    (broken.Tiring, "it_decodes_the_same_twice", "decodes the same outputs otherwise the second time"),
    (broken.Relative, "samples_are_decoded_apart", "'place' of a batch is not what its samples give one by one"),
    (broken.Labelling, "samples_are_decoded_apart", "'label' of a batch is not what its samples give one by one"),
    (broken.Miscounted, "samples_are_decoded_apart", "'owner' of a batch is not what its samples give one by one"),
    (broken.Sure, "nothing_to_find_is_no_fault", "zeros leads to ValueError: zero-size array .*; return nothing found"),
    (
        broken.Trusting,
        "what_is_no_number_is_refused_or_left_out",
        "outputs that are all nan: 'value' holds NaN or infi",
    ),
    (
        broken.Careless,
        "missing_outputs_are_refused_in_words",
        "fails with KeyError: 'y' where an output is missing; ra",
    ),
    (broken.Silent, "missing_outputs_are_refused_in_words", r"does not name the output that it misses \(y\), it said"),
    (broken.Unbounded, "settings_are_checked", "setting 'threshold' = .* is accepted and: 'value' holds NaN"),
    (broken.Undescribed, "settings_are_checked", r"setting 'threshold' has no description; Field\(description"),
    (broken.Illegal, "settings_are_checked", "its own default is out of range: suites-illegal: setting 'threshold'"),
    (broken.Foreign, "settings_are_checked", "Config must be a deploykit.DecoderConfig"),
]


@pytest.mark.parametrize(("decoder", "test", "words"), BROKEN)
def test_a_broken_decoder_fails(decoder: type, test: str, words: str) -> None:
    with pytest.raises(AssertionError, match=f"{name_of(decoder)}: {words}"):
        getattr(suite(decoder), f"test_{test}")()


def test_numbers_of_rows_may_go_on_from_sample_to_sample() -> None:
    suite(broken.Counted).test_samples_are_decoded_apart()


@pytest.mark.parametrize(
    ("decoder", "words"), [(broken.Lonely, "LookupError: nobody is here"), (broken.Vanishing, "it ended with status 3")]
)
def test_a_failure_in_a_process_of_its_own_is_told_in_one_line(decoder: type, words: str) -> None:
    with pytest.raises(AssertionError) as told:
        suite(decoder).test_it_needs_no_torch()
    assert str(told.value) == (
        f"{decoder.__module__}.{decoder.__name__} cannot be used in a process of its own: {words}"
    )


def test_a_test_without_examples_says_what_to_write() -> None:
    bare = type("Suite", (DecoderContract,), {"name": name_of(broken.Peaks)})()
    with pytest.raises(AssertionError, match=r"must say what it decodes: write examples\(\), outputs by name"):
        bare.test_it_returns_what_it_declares()


def test_every_contract_test_has_a_decoder_that_breaks_it() -> None:
    shown = {f"test_{test}" for _, test, _ in BROKEN} | {test for _, test, _ in test_gallery_forms.FAILED.values()}
    assert set(_TESTS) <= shown
