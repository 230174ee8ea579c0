"""One table answers what a mixture costs and what a network costs; it refuses what was not measured here."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.latency_block import Block, Environment, LatencyTableError, nearest
from deploykit.latency_file import append_table, open_table
from deploykit.latency_space import SearchSpace, Term, one_hot
from deploykit.latency_table import Entry, LatencyTable

HERE = Environment(host="0123456789ab", runtime="onnxruntime-cpu", version="onnxruntime 1.32.0")
NAMES = ("none", "sep_3", "max_3")


def block(operator: str, channels: int = 16) -> Block:
    return Block(operator=operator, channels_in=channels, channels_out=channels, height=8, width=8)


TIMES = {"sep_3": 13.7, "max_3": 4.25, "sep_3+max_3": 3.0, "projection": 2.5, "join": 1.125}
TABLE = LatencyTable(
    HERE, {block(name): Entry(median_us=us) for name, us in TIMES.items()}, {"cells": Entry(median_us=50.0)}
)
CHOICES = {"a": NAMES, "b": NAMES, "c": ("sep_3", "max_3")}
LINEAR = SearchSpace(
    "cells",
    CHOICES,
    (
        *(Term(block(name), {choice: (name,)}) for choice in CHOICES for name in ("sep_3", "max_3")),
        Term(block("join"), {}),
    ),
)
JOINT = SearchSpace(
    "cells",
    CHOICES,
    (
        *LINEAR.terms,
        Term(block("sep_3+max_3"), {"a": ("sep_3",), "b": ("max_3",)}),
        Term(block("projection"), {"a": ("sep_3", "max_3"), "b": ("sep_3", "max_3"), "c": ("max_3",)}, "any"),
    ),
)


def genotypes() -> list[dict[str, str]]:
    return [dict(zip(CHOICES, names, strict=True)) for names in itertools.product(*CHOICES.values())]


def by_hand(genotype: dict[str, str]) -> float:
    """Add up the joint space's network without the code under test."""
    total = 50.0 + TIMES["join"] + sum(TIMES.get(name, 0.0) for name in genotype.values())
    if genotype["a"] == "sep_3" and genotype["b"] == "max_3":
        total += TIMES["sep_3+max_3"]
    if genotype["a"] != "none" or genotype["b"] != "none" or genotype["c"] == "max_3":
        total += TIMES["projection"]
    return total


@pytest.mark.parametrize("genotype", genotypes(), ids=lambda genotype: "-".join(genotype.values()))
def test_the_cost_is_the_sum_by_hand_and_expected_at_one_hot(genotype: dict[str, str]) -> None:
    assert TABLE.cost(JOINT, genotype).us == pytest.approx(by_hand(genotype), abs=1e-9)
    assert TABLE.expected(JOINT, one_hot(JOINT, genotype)).us == pytest.approx(by_hand(genotype), abs=1e-9)


def enumerated(weights: dict[str, Any]) -> float:
    total = 0.0
    for genotype in genotypes():
        chance = math.prod(weights[choice][CHOICES[choice].index(name)] for choice, name in genotype.items())
        total += chance * by_hand(genotype)
    return total


def test_the_expectation_at_uniform_weights_is_the_mean_of_all_networks() -> None:
    uniform = {choice: np.full(len(names), 1 / len(names)) for choice, names in CHOICES.items()}
    mean = sum(map(by_hand, genotypes())) / len(genotypes())
    assert TABLE.expected(JOINT, uniform).us == pytest.approx(mean, abs=1e-9)


@st.composite
def simplices(draw: st.DrawFn) -> dict[str, Any]:
    drawn = {}
    for choice, names in CHOICES.items():
        raw = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=len(names), max_size=len(names))))
        drawn[choice] = raw / raw.sum()
    return drawn


@given(simplices())
def test_the_expectation_is_the_enumeration_over_all_networks(weights: dict[str, Any]) -> None:
    assert TABLE.expected(JOINT, weights).us == pytest.approx(enumerated(weights), abs=1e-9)


@given(simplices(), simplices())
def test_coefficients_are_exact_everywhere_if_blocks_depend_on_one_choice(one: Any, other: Any) -> None:
    constant, arrays = TABLE.coefficients(LINEAR)
    around, slopes = TABLE.coefficients(LINEAR, other)
    wanted = TABLE.expected(LINEAR, one).us
    assert constant + sum((one[choice] * array).sum() for choice, array in arrays.items()) == pytest.approx(wanted)
    assert around + sum((one[choice] * array).sum() for choice, array in slopes.items()) == pytest.approx(wanted)


@given(simplices(), simplices(), st.sampled_from(sorted(CHOICES)))
def test_coefficients_around_weights_are_exact_while_one_choice_changes(one: Any, other: Any, moved: str) -> None:
    constant, arrays = TABLE.coefficients(JOINT, one)
    weights = {**one, moved: other[moved]}
    found = constant + sum((weights[choice] * array).sum() for choice, array in arrays.items())
    assert found == pytest.approx(enumerated(weights), abs=1e-9)


def test_coefficients_of_joint_blocks_take_weights() -> None:
    with pytest.raises(LatencyTableError, match=r"sep_3\+max_3 16>16 8x8 depends on a and b together.*use expected"):
        TABLE.coefficients(JOINT)


def test_gradients_flow_through_tensors_and_are_those_of_finite_differences() -> None:
    import torch

    logits = {
        choice: torch.linspace(-1, 1, len(names), dtype=torch.float64, requires_grad=True)
        for choice, names in CHOICES.items()
    }

    def latency(values: dict[str, torch.Tensor]) -> torch.Tensor:
        answer = TABLE.expected(JOINT, {choice: value.softmax(0) for choice, value in values.items()}).us
        assert isinstance(answer, torch.Tensor)
        return answer

    latency(logits).backward()  # type: ignore[no-untyped-call]
    for choice, value in logits.items():
        assert value.grad is not None
        for place in range(len(value)):
            step = torch.zeros_like(value)
            step[place] = 1e-6
            ends = [latency({**logits, choice: (value + sign * step).detach()}) for sign in (1, -1)]
            assert value.grad[place].item() == pytest.approx(float((ends[0] - ends[1]).detach()) / 2e-6, abs=1e-6)


def test_coefficients_around_weights_have_the_value_and_the_gradient_of_the_expectation() -> None:
    import torch

    weights = {
        choice: torch.linspace(1, 2, len(names), dtype=torch.float64).softmax(0).requires_grad_()
        for choice, names in CHOICES.items()
    }
    answer = TABLE.expected(JOINT, weights).us
    answer.backward()
    constant, arrays = TABLE.coefficients(JOINT, {choice: value.tolist() for choice, value in weights.items()})
    there = constant + sum(float(np.dot(value.detach().numpy(), arrays[c])) for c, value in weights.items())
    assert there == pytest.approx(answer.item(), abs=1e-9)
    for choice, value in weights.items():
        assert value.grad is not None
        np.testing.assert_allclose(value.grad.numpy(), arrays[choice], atol=1e-9)


def test_a_network_of_hundreds_of_joint_blocks_is_answered_in_one_pass() -> None:
    """Each share of a choice is added up once, however many terms ask for it."""

    class Counted(list[float]):
        reads = 0

        def __getitem__(self, place: Any) -> Any:
            Counted.reads += 1
            return super().__getitem__(place)

    terms = tuple(Term(block("join"), {"a": (one,), "b": (other,)}) for one in NAMES for other in NAMES) * 50
    space = SearchSpace("cells", {"a": NAMES, "b": NAMES}, terms)
    answer = TABLE.expected(space, {"a": Counted([0.2, 0.3, 0.5]), "b": Counted([0.1, 0.8, 0.1])})
    assert answer.us == pytest.approx(50.0 + 50 * TIMES["join"])
    assert Counted.reads == 6


def test_a_size_that_was_not_measured_is_refused_with_the_nearest_ones() -> None:
    sizes = LatencyTable(HERE, {block("sep_3", c): Entry(median_us=float(c)) for c in (15, 16, 32)}, {})
    with pytest.raises(
        LatencyTableError, match=r"no block sep_3 17>17 8x8; nearest measured: sep_3 16>16 8x8; sep_3 15>"
    ):
        sizes.entry(block("sep_3", 17))
    with pytest.raises(LatencyTableError, match=r"not interpolated.*measure it with deploykit_serving.latency_tables"):
        sizes.entry(block("max_3", 16))
    with pytest.raises(LatencyTableError, match="none at all"):
        LatencyTable(HERE).entry(block("sep_3"))
    with pytest.raises(LatencyTableError, match="no skeleton 'cells', only none at all"):
        LatencyTable(HERE, TABLE.blocks).cost(LINEAR, genotypes()[0])
    assert sizes.missing(LINEAR) == (block("max_3"), block("join"))


def test_the_same_operator_is_nearer_than_the_same_size() -> None:
    found = nearest(block("sep_3", 16), [block("sep_5", 16), block("sep_3", 64), block("sep_3", 24)])
    assert found == [block("sep_3", 24), block("sep_3", 64), block("sep_5", 16)]


def test_genotypes_and_weights_that_do_not_fit_are_refused() -> None:
    good = genotypes()[0]
    for genotype, words in (
        ({**good, "a": "sep_5"}, "takes 'sep_5' at 'a', which offers none, sep_3, max_3"),
        ({"a": "none"}, "nothing given for the choice 'b'"),
        ({**good, "d": "none"}, "there is no choice 'd'; there are a, b, c"),
    ):
        with pytest.raises(LatencyTableError, match=words):
            TABLE.cost(LINEAR, genotype)
    with pytest.raises(LatencyTableError, match=r"'c' has 2 candidates \(sep_3, max_3\), got 3 weights"):
        TABLE.expected(LINEAR, {choice: [0.2, 0.3, 0.5] for choice in CHOICES})
    with pytest.raises(LatencyTableError, match="names the choice 'd'; there are a, b, c"):
        SearchSpace("cells", CHOICES, (Term(block("sep_3"), {"d": ("sep_3",)}),))
    with pytest.raises(LatencyTableError, match="names 'sep_5' at 'a', which offers none"):
        SearchSpace("cells", CHOICES, (Term(block("sep_3"), {"a": ("sep_5",)}),))
    with pytest.raises(LatencyTableError, match="choice 'a': wanted different candidates"):
        SearchSpace("cells", {"a": ("sep_3", "sep_3")}, ())


def test_a_file_gives_back_what_was_written_and_later_lines_replace_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    append_table(path, LatencyTable(HERE, TABLE.blocks, TABLE.skeletons, canary_us=40.5))
    append_table(path, LatencyTable(HERE, {block("sep_3"): Entry(median_us=9.0, copies=(2, 6))}, canary_us=41.0))
    other = HERE.model_copy(update={"threads": 2})
    append_table(path, LatencyTable(other, {block("sep_3"): Entry(median_us=5.0)}))
    found = open_table(path, HERE)
    assert found.blocks == {**TABLE.blocks, block("sep_3"): Entry(median_us=9.0, copies=(2, 6))}
    assert found.skeletons == TABLE.skeletons
    assert found.canary_us == 40.5
    assert open_table(path, other).blocks == {block("sep_3"): Entry(median_us=5.0)}
    assert [item.name for item in tmp_path.iterdir()] == ["table.jsonl"]


def test_two_files_are_merged_by_writing_one_behind_the_other(tmp_path: Path) -> None:
    one, two, both = (tmp_path / name for name in ("one", "two", "both"))
    append_table(one, LatencyTable(HERE, {block("sep_3"): Entry(median_us=1.0)}))
    append_table(two, LatencyTable(HERE, {block("max_3"): Entry(median_us=2.0)}))
    both.write_text(one.read_text() + two.read_text())
    assert open_table(both, HERE).blocks == open_table(one, HERE).merged(open_table(two, HERE)).blocks


@pytest.mark.parametrize(
    ("field", "value"), [("host", "ba9876543210"), ("version", "onnxruntime 1.33.0"), ("threads", 4), ("batch", 8)]
)
def test_a_table_of_another_environment_is_an_error_or_labelled(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "table.jsonl"
    append_table(path, TABLE)
    there = HERE.model_copy(update={field: value})
    with pytest.raises(LatencyTableError, match=rf"another environment: {field} .*, not {value}.*allow_foreign"):
        open_table(path, there)
    table = open_table(path, there, allow_foreign=True)
    genotype = genotypes()[0]
    for answer in (table.cost(LINEAR, genotype), table.expected(LINEAR, one_hot(LINEAR, genotype))):
        assert re.fullmatch(rf"measured in another environment: {field} .*, not {value}", answer.foreign)
    assert open_table(path, HERE, allow_foreign=True).cost(LINEAR, genotype).foreign == ""
    with pytest.raises(LatencyTableError, match="cannot be merged"):
        TABLE.merged(LatencyTable(there))
    with pytest.raises(LatencyTableError, match="is not written again"):
        append_table(path, table)


def test_broken_files_say_where(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    with pytest.raises(LatencyTableError, match="cannot be written: No such file"):
        append_table(tmp_path / "nowhere" / "table.jsonl", TABLE)
    with pytest.raises(LatencyTableError, match="cannot be read"):
        open_table(path, HERE)
    path.write_text("")
    with pytest.raises(LatencyTableError, match="holds no measurements"):
        open_table(path, HERE)
    append_table(path, TABLE)
    whole = path.read_text()
    path.write_text(whole[:-20])
    with pytest.raises(LatencyTableError, match=f"line {len(whole.splitlines())}: this is no latency table"):
        open_table(path, HERE)
    with pytest.raises(LatencyTableError, match="this is no latency table"):
        append_table(path, TABLE)
    assert path.read_text() == whole[:-20], "what is broken is left for its owner to look at"
    path.write_bytes(whole.encode() + b"\xff\n")
    for use in (lambda: open_table(path, HERE), lambda: append_table(path, TABLE)):
        with pytest.raises(LatencyTableError, match=f"no latency table: byte {len(whole)} is not UTF-8; give a file"):
            use()
    for use in (lambda: open_table(tmp_path, HERE), lambda: append_table(tmp_path, TABLE)):
        with pytest.raises(LatencyTableError, match="cannot be read: Is a directory"):
            use()
    path.write_text(whole.splitlines()[1])
    with pytest.raises(LatencyTableError, match="a block stands before its environment"):
        open_table(path, HERE)
