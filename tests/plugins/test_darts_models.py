"""``searched.darts`` on models that people bring, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deploykit
from deploykit.errors import ConfigError, ContractError
from deploykit_searched import Choice, Nothing, SearchCell, derive, genotype_of
from tests.plugins.darts_networks import NAME, ResidualNet, answers, choices, make_one_hot, method_of, stirred


def example() -> Tensor:
    return torch.randn(3, 2, 8, 8)


def test_convolutions_become_choices_of_what_fits_their_shape() -> None:
    soft = deploykit.prepare(ResidualNet(), NAME, example())
    offered = {path: choice.names for path, choice in choices(soft).items()}
    convolutions, all_of_them = ("conv_3", "sep_3", "sep_5", "dil_3"), ("skip", "max_3", "avg_3")
    assert offered == {
        "stem.0": convolutions,  # 2 channels in, 4 out
        "first": all_of_them + convolutions,
        "second": all_of_them + convolutions,
        "narrow": convolutions,
    }
    assert isinstance(soft.get_submodule("strided"), nn.Conv2d)


def test_with_all_weight_on_its_own_convolutions_the_model_is_as_it_was() -> None:
    model = ResidualNet().eval()
    soft = deploykit.prepare(model, NAME, example()).eval()
    for choice in choices(soft).values():
        choice.alpha.data = torch.where(torch.tensor([name == "conv_3" for name in choice.names]), 1e4, -1e4)
    x = example()
    np.testing.assert_array_equal(answers(soft, x), answers(model, x))
    hard = deploykit.harden(soft)
    np.testing.assert_array_equal(answers(hard.module, x), answers(model, x))
    assert [*hard.module.state_dict()] == [*model.state_dict()]  # layers keep their names


@pytest.mark.parametrize("seed", range(6))
def test_what_is_chosen_equals_the_one_hot_supernet_and_the_oracle(seed: int) -> None:
    torch.manual_seed(seed)
    soft = stirred(deploykit.prepare(ResidualNet(), NAME, example()))
    x = example()
    hard = deploykit.harden(soft)
    of_soft, of_hard = (method_of(soft).decisions(form, (x,)) for form in (soft, hard.module))
    assert of_soft.keys() == of_hard.keys() == {f"operator/{path}" for path in choices(soft)}
    assert all(np.array_equal(of_soft[name].value, of_hard[name].value) for name in of_soft)
    with torch.no_grad():
        expected = method_of(soft).oracle(soft, (x,))["output"]
    np.testing.assert_allclose(answers(hard.module, x), expected, rtol=1e-4, atol=1e-5)
    derived = derive(soft)
    make_one_hot(soft)
    np.testing.assert_array_equal(answers(derived, x), answers(soft, x))


def test_the_baseline_is_the_users_own_network_unless_it_is_to_be_the_supernet() -> None:
    model = ResidualNet().eval()
    x = example()
    soft = deploykit.prepare(model, NAME, x).eval()
    np.testing.assert_array_equal(answers(method_of(soft).baseline(soft), x), answers(model, x))
    soft = deploykit.prepare(model, NAME, x, baseline="undecided").eval()
    np.testing.assert_allclose(answers(method_of(soft).baseline(soft), x), answers(soft, x), rtol=1e-4, atol=1e-5)


def test_one_convolution_is_a_model_too() -> None:
    soft = stirred(deploykit.prepare(nn.Conv2d(2, 2, 3, padding=1), NAME, example()))
    hard = deploykit.harden(soft)
    assert method_of(soft).decisions(hard.module, ()).keys() == {"operator/model"}
    with torch.no_grad():
        expected = method_of(soft).oracle(soft, (example()[:2],))["output"]
    assert expected.shape == (2, 2, 8, 8)


class Marked(nn.Module):
    """Choices of one's own, not only of convolutions, used twice, beside a convolution that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 3, padding=1)
        self.mixer = Choice(
            {
                "none": Nothing(),
                "wide": nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)),
                "plain": nn.Linear(8, 8),
            }
        )
        self.cell = SearchCell((2, 2), 3, 2, ("none", "skip", "sep_3"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        x = x + self.mixer(self.mixer(x))
        answer: Tensor = self.cell(x, x)
        return answer


@pytest.mark.parametrize("seed", range(4))
def test_marked_layers_are_searched_and_nothing_else(seed: int) -> None:
    torch.manual_seed(seed)
    soft = stirred(deploykit.prepare(Marked(), NAME, example()))
    assert set(choices(soft)) == {"mixer", *(f"cell.edges.{number}" for number in range(5))}
    x = example()
    hard = deploykit.harden(soft)
    decisions = method_of(soft).decisions(hard.module, (x,))
    assert decisions.keys() == {"operator/mixer", "operator/cell", "edge/cell"}
    with torch.no_grad():
        expected = method_of(soft).oracle(soft, (x,))["output"]
    np.testing.assert_allclose(answers(hard.module, x), expected, rtol=1e-4, atol=1e-5)
    names = {name.split(".")[1] for name in hard.module.state_dict() if name.startswith("mixer")}
    assert names == ({"weight", "bias"} if genotype_of(soft).operators["mixer"] == "plain" else {"0", "2"})


def test_alphas_are_promised_absent_unless_the_network_has_its_own() -> None:
    class Mine(nn.Sequential):
        alpha: Tensor

    choice = Choice({"narrow": nn.Conv2d(2, 3, 1), "wide": nn.Conv2d(2, 3, 3, padding=1)})
    network = Mine(choice)
    soft = deploykit.prepare(network, NAME, example())
    assert deploykit.harden(soft.eval()).promise.absent == ("alpha",)
    network.register_buffer("alpha", torch.ones(3))
    soft = deploykit.prepare(network, NAME, example())
    assert deploykit.harden(soft.eval()).promise.absent == ()


def test_a_convolution_used_in_two_places_stays_one_choice() -> None:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    soft = stirred(deploykit.prepare(nn.Sequential(shared, nn.ReLU(), shared), NAME, example()))
    assert list(choices(soft)) == ["0"]
    assert soft.get_submodule("0") is soft.get_submodule("2")
    hard, x = deploykit.harden(soft), example()
    assert hard.module.get_submodule("0") is hard.module.get_submodule("2")
    with torch.no_grad():
        np.testing.assert_allclose(
            answers(hard.module, x), method_of(soft).oracle(soft, (x,))["output"], rtol=1e-4, atol=1e-5
        )


def test_the_example_does_not_change_the_model_and_modes_stay() -> None:
    model = ResidualNet().train()
    before = copy.deepcopy(model.state_dict())
    soft = deploykit.prepare(model, NAME, example())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert soft.training
    assert not choices(model)


# -- what is refused ----------------------------------------------------------------------------------------------


def test_a_model_without_anything_to_search_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3, stride=2), nn.Conv2d(2, 2, 3, groups=2), nn.Flatten(), nn.LazyLinear(2))
    model(example())
    with pytest.raises(
        ContractError, match=r"Sequential has nothing to search: looked for .*Choice layers, and for Conv2d.*found only"
    ):
        deploykit.prepare(model, NAME, example())
    with pytest.raises(ContractError, match=r"at least two of skip could stand for"):
        deploykit.prepare(ResidualNet(), NAME, example(), operators="skip")


def test_a_model_that_reads_its_layers_weights_is_refused() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.layer.weight, padding=1)

    with pytest.raises(ContractError, match=r"Reads does not run with choices .* AttributeError: .*weight.*Mark what"):
        deploykit.prepare(Reads(), NAME, example())


def test_choices_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ContractError, match=r"a Choice needs a candidate that computes something, got \['none'\]"):
        Choice({"none": Nothing()})
    with pytest.raises(ContractError, match=r"candidate 'outer' of a Choice holds a Choice itself; offer its parts"):
        Choice({"outer": nn.Sequential(Choice({"inner": nn.Identity()}))})
    uneven = Choice({"one": nn.Linear(3, 1), "three": nn.Linear(3, 3)})
    with pytest.raises(
        ContractError, match=r"candidate 'three' of a Choice answers \[2, 3\], those before it \[2, 1\]"
    ):
        uneven(torch.randn(2, 3))
    with pytest.raises(RuntimeError, match="computes nothing and must not be run"):
        Nothing()(torch.ones(1))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"operators": "skip,conv_7"}, r"setting 'operators'.*no operator 'conv_7'; there are none, skip, max_3"),
        ({"operators": "skip,skip"}, r"setting 'operators'.*wanted different operators"),
        ({"operators": "none"}, r"wanted different operators and one besides 'none'"),
        ({"settle_at": 0}, r"setting 'settle_at'.*greater than 0"),
        ({"baseline": "float"}, r"setting 'baseline'"),
        ({"operator": "skip"}, r"no setting 'operator'. Did you mean 'operators'"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        deploykit.make_method(NAME, config)


def test_a_task_that_cells_cannot_serve_is_refused() -> None:
    method, task = deploykit.make_method(NAME, {}), deploykit.make_task("pages")
    with pytest.raises(
        ConfigError, match=r"builds networks for one image .* the task has .*Name a network of your own"
    ):
        method.build(task)


def test_no_network_of_the_users_to_compare_with_is_told() -> None:
    soft = deploykit.prepare(Marked(), NAME, example(), baseline="network")
    with pytest.raises(ContractError, match=r"no network without choices to compare with; set baseline to 'undecided'"):
        method_of(soft).baseline(soft)
