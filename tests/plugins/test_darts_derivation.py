"""From a supernet to what was found: decisions, genotypes, inherited and fresh networks, batch statistics."""

from __future__ import annotations

import decimal
import itertools
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deploykit
from deploykit.errors import ContractError
from deploykit_searched import (
    Choice,
    Genotype,
    Nothing,
    SearchCell,
    derive,
    genotype_of,
    reestimate_statistics,
    settle,
)
from deploykit_searched.cells import FixedCell
from deploykit_searched.darts_oracle import favourite
from deploykit_searched.layer_exchange import layers
from tests.plugins.darts_networks import ALL, answers, cell_supernet, cells, choices, images, method_of

# -- decisions ----------------------------------------------------------------------------------------------------


def test_both_forms_take_the_same_decisions() -> None:
    soft = cell_supernet(5)
    hard, x = deploykit.harden(soft), images()
    of_soft, of_hard = (method_of(soft).decisions(form, (x,)) for form in (soft, hard.module))
    assert of_soft.keys() == of_hard.keys()
    assert all(deploykit.agreement(of_soft[name], of_hard[name]).rate == 1.0 for name in of_soft)
    genotype = genotype_of(soft)
    for path in ("cells.0", "cells.1"):
        pairs = [(node, source) for node in range(3) for source in range(2 + node)]
        bits = [source in genotype.edges[path][node] for node, source in pairs]
        assert of_hard[f"edge/{path}"].value.tolist() == bits
        names = [genotype.operators.get(f"{path}.edges.{number}") for number in range(9)]
        assert of_hard[f"operator/{path}"].value.tolist() == [-1 if name is None else ALL.index(name) for name in names]


def test_a_hard_form_that_holds_another_operator_than_decided_is_caught() -> None:
    soft = cell_supernet(5)
    hard = deploykit.harden(soft)
    cell = layers(hard.module, FixedCell)["cells.0"]
    one, two = itertools.islice(cell.edges, 2)
    cell.edges[one] = nn.Identity()
    with pytest.raises(ContractError, match=r"the hard form holds the operators .* decided were"):
        method_of(soft).decisions(hard.module, (images(),))
    with pytest.raises(ContractError, match=r"wanted one of its own soft or hard forms, got Linear"):
        method_of(soft).decisions(nn.Linear(1, 1), ())
    assert two in cell.edges


# -- edges at low temperatures ------------------------------------------------------------------------------------


def led_by(rows: list[list[float]], temperature: float, operators: tuple[str, ...]) -> tuple[nn.Module, SearchCell]:
    """A supernet of one cell and two nodes; the rows are the alphas of the second node's three edges."""
    soft = cell_supernet(cells=1, nodes=2, operators=operators)
    for number, choice in enumerate(choices(soft).values()):
        choice.temperature.fill_(temperature)
        if number >= 2:
            choice.alpha.data = torch.tensor(rows[number - 2])
    return soft, cells(soft)["cells.0"]


def test_the_strongest_edge_is_kept_where_all_weights_round_to_one() -> None:
    soft, cell = led_by([[0.0, 0.4], [0.0, 0.42], [0.0, 0.9]], 0.01, ("skip", "sep_3"))
    found = [cell.choice(1, source) for source in range(3)]
    assert [choice.weights().max().item() for choice in found] == [1.0, 1.0, 1.0]
    assert [favourite(choice)[1] for choice in found] == pytest.approx([40.0, 42.0, 90.0], rel=1e-5)
    assert cell.kept() == ((0, 1), (1, 2))
    assert cell.margins()[1] == pytest.approx([2.0, 2.0, 50.0], rel=1e-4)
    edges, operators = (
        method_of(soft).decisions(soft, (images(),))[f"{kind}/cells.0"] for kind in ("edge", "operator")
    )
    assert edges.margin is not None
    assert operators.margin is not None
    assert edges.margin.tolist() == [math.inf, math.inf, *cell.margins()[1]]
    assert operators.margin[2:].tolist() == pytest.approx([2.0, 2.0, 50.0], rel=1e-4)
    with torch.no_grad():
        expected = method_of(soft).oracle(soft, (images(2),))["output"]
    np.testing.assert_allclose(answers(deploykit.harden(soft).module, images(2)), expected, rtol=1e-4, atol=1e-5)


_ROW = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3)


@given(rows=st.lists(_ROW, min_size=3, max_size=3), temperature=st.sampled_from([1.0, 0.1, 0.01, 0.001]))
@settings(max_examples=40, deadline=None)
def test_edges_are_ranked_as_by_odds_that_cannot_saturate(rows: list[list[float]], temperature: float) -> None:
    _, cell = led_by(rows, temperature, ("none", "skip", "sep_3"))
    with decimal.localcontext(prec=50):
        against = []  # a weight is 1 / (1 + this), which is as small as exp(-8 / 0.001) = 1e-3475
        for source, row in enumerate(rows):
            powers = [(Decimal(x) / Decimal(float(cell.choice(1, source).temperature))).exp() for x in row]
            best = max(range(1, 3), key=powers.__getitem__)
            against.append(sum(powers[:best] + powers[best + 1 :]) / powers[best])
        assume(all(abs(a / b - 1) > Decimal("1e-9") or a == b for a, b in itertools.combinations(against, 2)))
        wanted = sorted(sorted(range(3), key=lambda source: (against[source], source))[:2])
        assert cell.kept()[1] == tuple(wanted)
        by_oracle = [favourite(cell.choice(1, source))[1] for source in range(3)]
        assert sorted(sorted(range(3), key=lambda source: (-by_oracle[source], source))[:2]) == wanted


def test_edges_of_a_single_candidate_all_tie() -> None:
    soft, cell = led_by([[0.3], [0.1], [0.9]], 1.0, ("sep_3",))
    assert cell.kept() == ((0, 1), (0, 1))
    assert cell.margins() == [[math.inf, math.inf], [0.0, 0.0, 0.0]]
    assert cell.choice(1, 0).preference().margin == math.inf
    with torch.no_grad():
        expected = method_of(soft).oracle(soft, (images(2),))["output"]
    np.testing.assert_allclose(answers(deploykit.harden(soft).module, images(2)), expected, rtol=1e-4, atol=1e-5)


# -- genotypes ----------------------------------------------------------------------------------------------------


def test_a_network_is_made_again_from_json_and_weights() -> None:
    soft = cell_supernet(1)
    found = derive(soft).eval()
    text = genotype_of(soft).to_json()
    again = Genotype.from_json(text)
    assert again == genotype_of(soft)
    assert again.to_json() == text
    rebuilt = derive(cell_supernet(99), "fresh", genotype=again).eval()
    assert np.abs(answers(rebuilt, images()) - answers(found, images())).max() > 0.01
    rebuilt.load_state_dict(found.state_dict())
    np.testing.assert_array_equal(answers(rebuilt, images()), answers(found, images()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"this is no genotype: the text: Invalid JSON"),
        ('{"edges": {}}', r"this is no genotype: operators: Field required; wanted what to_json\(\) wrote"),
        ('{"version": 2, "operators": {}}', r"no genotype: version: Input should be 1"),
    ],
)
def test_text_that_is_no_genotype_is_told(text: str, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        Genotype.from_json(text)


def test_a_genotype_of_another_supernet_is_told() -> None:
    soft = cell_supernet()
    found = genotype_of(soft)
    first = next(iter(found.operators))

    def changed(**parts: Any) -> Genotype:
        return found.model_copy(update=parts)

    for genotype, words in (
        (
            changed(operators={**found.operators, first: "conv_9"}),
            r"chooses 'conv_9' at 'cells\.0\.edges\.0'; .* offers",
        ),
        (changed(operators={**found.operators, first: "none"}), r"cannot choose 'none', which computes nothing"),
        (changed(operators={**found.operators, "other": "skip"}), r"has an operator for 'other', .* does not keep"),
        (changed(operators={k: v for k, v in found.operators.items() if k != first}), r"lacks an operator for 'cells"),
        (changed(edges={}), r"the genotype has cells \[\], the supernet \['cells\.0', 'cells\.1'\]"),
        (
            changed(edges={**found.edges, "cells.0": ((0, 1), (0, 3), (0, 1))}),
            r"the genotype's edges of cell 'cells\.0'",
        ),
    ):
        with pytest.raises(ContractError, match=words):
            derive(soft, genotype=genotype)
    with pytest.raises(ContractError, match=r"Linear holds no Choice, so nothing was searched; make a supernet"):
        genotype_of(nn.Linear(1, 1))


# -- fresh networks -----------------------------------------------------------------------------------------------


def test_a_fresh_network_is_drawn_by_its_seed_alone() -> None:
    soft = cell_supernet(1)
    inherited = derive(soft).state_dict()
    state = torch.get_rng_state()
    one, two, other = (derive(soft, "fresh", seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.keys() == inherited.keys()
    drawn = [name for name, tensor in one.items() if name.endswith("weight") and tensor.ndim > 1]
    assert drawn
    for name in drawn:
        assert torch.equal(one[name], two[name])
        assert not torch.equal(one[name], other[name])
        assert not torch.equal(one[name], inherited[name])
    assert all(not tensor.any() for name, tensor in one.items() if name.endswith("running_mean"))


def test_a_fresh_network_trains_through_another_method_and_is_no_supernet_any_more() -> None:
    soft = cell_supernet(1)
    network = derive(soft, "fresh")
    with pytest.raises(ContractError, match="is no soft form"):
        deploykit.harden(network)
    plain = deploykit.prepare(network, "plain.passthrough", images())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    x, target = images(16), torch.arange(16) % 4
    losses = []
    for _ in range(60):
        loss: Any = nn.functional.cross_entropy(plain(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert deploykit.harden(plain.eval(), images()).module is not network


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_a_layer_that_cannot_be_drawn_anew_is_named() -> None:
    model = nn.Sequential(Choice({"scale": Scale(), "same": nn.Identity()}), Scale())
    soft = deploykit.prepare(model, "searched.darts", torch.randn(2, 3))
    choices(soft)["0"].alpha.data = torch.tensor([0.0, 1.0])
    with pytest.raises(
        ContractError, match=r"Scale at '1' holds parameters and has no reset_parameters\(\); give it one"
    ):
        derive(soft, "fresh")


# -- batch statistics ---------------------------------------------------------------------------------------------


def test_statistics_are_those_of_what_is_left() -> None:
    soft = cell_supernet(2)
    network = derive(soft).eval()
    x = images(300, seed=1)
    seen: dict[str, list[Tensor]] = {}
    for path, norm in layers(network, nn.BatchNorm2d).items():
        norm.register_forward_pre_hook(lambda _, given, path=path: seen.setdefault(path, []).append(given[0]))
    reestimate_statistics(network, (x,), batch=100)
    assert not network.training
    for path, norm in layers(network, nn.BatchNorm2d).items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum == 0.1
        assert len(seen[path]) == 3
        means, variances = zip(*((part.mean((0, 2, 3)), part.var((0, 2, 3))) for part in seen[path]), strict=True)
        torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5)


def test_settling_by_hand_gives_the_hard_form_with_new_statistics() -> None:
    soft = cell_supernet(2)
    before = deploykit.harden(soft)
    idle = choices(soft)["cells.0.edges.0"]
    unused = next(item for name, item in idle.candidates.items() if name not in (idle.chosen(), "none", "skip"))
    kept = {name: buffer.clone() for name, buffer in unused.named_buffers()}
    settle(soft, (images(64, seed=3),))
    after = deploykit.harden(soft)
    assert np.abs(answers(after.module, images()) - answers(before.module, images())).max() > 0.01
    np.testing.assert_allclose(answers(after.module, images()), answers(soft, images()), rtol=1e-4, atol=1e-5)
    assert "search" in before.facts
    assert "search" not in after.facts
    assert all(torch.equal(buffer, kept[name]) for name, buffer in unused.named_buffers())  # what does not run
    assert not layers(after.module, Nothing)
