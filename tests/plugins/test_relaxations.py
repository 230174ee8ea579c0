"""The shared relaxations are complete: every soft form has a hard twin that is its limit, and examples that run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import deploykit_relaxations as relaxations
from deploykit_relaxations import HARD_TWINS, UNPAIRED

FOLDER = Path(relaxations.__file__ or "").parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
COLD = 1e-4  # against margins of at least 0.1


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"deploykit_relaxations.{name}")


def _public(module: ModuleType) -> list[str]:
    """The functions and classes that a module defines for others."""
    return [
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


def _function(name: str) -> Callable[..., Any]:
    room: Any = relaxations
    if "." in name:
        package, name = name.rsplit(".", 1)
        room = importlib.import_module(package)
    found: Callable[..., Any] = getattr(room, name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_is_exported(module: str) -> None:
    assert set(_public(_module(module))) <= set(relaxations.__all__)


def test_every_exported_name_is_half_of_a_pair_or_has_a_reason() -> None:
    functions = {name for name in relaxations.__all__ if not name.isupper()}
    soft, hard = set(HARD_TWINS), {name for name in HARD_TWINS.values() if "." not in name}
    assert soft | hard | set(UNPAIRED) == functions
    assert not soft & hard
    assert not (soft | hard) & set(UNPAIRED)
    assert all(callable(_function(name)) for name in HARD_TWINS.values())


def test_the_table_in_the_docstring_is_the_table() -> None:
    rows = re.findall(r"^\| ``(\w+)`` +\| ``([\w.]+)`` +\|$", relaxations.__doc__ or "", re.MULTILINE)
    assert dict(rows) == dict(HARD_TWINS)
    assert rows == sorted(rows)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module: str) -> None:
    assert doctest.testmod(_module(module)).failed == 0


@pytest.mark.parametrize("name", sorted({*HARD_TWINS, "straight_through", "clipped_straight_through"}))
def test_the_docstring_of_a_soft_form_shows_a_value_and_a_gradient(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(_function(name)) or "")
    shown = [example.source for example in examples if example.want]
    assert any(".grad" in source for source in shown), "no example prints a gradient"
    assert any(".grad" not in source for source in shown), "no example prints a value"


def _apart(rows: int, n: int, gap: float = 0.5) -> Tensor:
    """Rows of n values that lie at least ``0.6 * gap`` apart and that far from 0, in random order."""
    places = torch.rand(rows, n).argsort(-1) - n // 2
    return gap * (places + 0.5 + 0.4 * (torch.rand(rows, n) - 0.5))


def _sinkhorn() -> tuple[Tensor, Tensor]:
    # A planted matching, shuffled: the largest of each row and column by 0.5 or more.
    scores = torch.eye(6).expand(5, 6, 6)[:, torch.randperm(6)] + 0.25 * torch.rand(5, 6, 6)
    plan = relaxations.log_sinkhorn(scores / 0.02, torch.zeros(5, 6), torch.zeros(5, 6), iterations=200).exp()
    match = relaxations.mutual_best(scores, 0.5)
    return plan, torch.nn.functional.one_hot(match, 6).to(plan.dtype)


def _one_hot_leaves(scores: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(relaxations.tree_leaf(scores), scores.shape[1] + 1).to(scores.dtype)


def _quantizer() -> tuple[Tensor, Tensor]:
    w, scale = torch.randn(200), torch.tensor(0.3)
    return relaxations.fake_quantize(w, scale), relaxations.dequantize(relaxations.symmetric_codes(w, scale), scale)


def _network() -> tuple[Tensor, Tensor]:
    x = _apart(40, 6)
    return relaxations.soft_sort(x, steepness=1e6)[0], relaxations.hard_sort(x)[0]


def _ranks() -> tuple[Tensor, Tensor]:
    x = _apart(40, 6)
    _, permutation = relaxations.soft_sort(x, steepness=1e6)
    return relaxations.soft_ranks(permutation), relaxations.hard_ranks(relaxations.hard_sort(x)[1]).float()


def _with_noise(soft: Callable[[Tensor, Tensor], Tensor], hard: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    noise, total = torch.randn(40, 7), _apart(40, 7)  # the margin is that of the sum
    return soft(total - noise, noise), hard(total)


def _on(
    soft: Callable[[Tensor], Tensor], hard: Callable[[Tensor], Tensor], gap: float = 0.5
) -> Callable[[], tuple[Tensor, Tensor]]:
    def both() -> tuple[Tensor, Tensor]:
        x = _apart(40, 7, gap)
        return soft(x), hard(x)

    return both


r = relaxations
LIMITS: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "binarize_periodic": _on(lambda x: r.binarize_periodic(x, 20.0), lambda x: r.periodic_sign(x, 20.0)),
    "binary_code_gate": _on(
        lambda x: r.binary_code_gate(r.tempered_sigmoid(x, COLD)),
        lambda x: torch.nn.functional.one_hot(r.binary_code(r.hard_bit(x)), 128).float(),
    ),
    "capped_simplex_projection": _on(
        lambda x: r.capped_simplex_projection(x / COLD, 3), lambda x: r.hard_top_k_mask(x, 3)
    ),
    "capped_simplex_straight_through": _on(
        lambda x: r.capped_simplex_straight_through(x, 3), lambda x: r.hard_top_k_mask(x, 3)
    ),
    "entmax15": _on(lambda x: r.entmax15(x / COLD), r.hard_one_hot),
    "entmax_bisect": _on(lambda x: r.entmax_bisect(x / COLD, 1.7), r.hard_one_hot),
    "fake_quantize": _quantizer,
    "gumbel_sigmoid": lambda: _with_noise(lambda x, noise: r.gumbel_sigmoid(x, COLD, noise), r.hard_bit),
    "gumbel_sigmoid_straight_through": lambda: _with_noise(
        lambda x, noise: r.gumbel_sigmoid_straight_through(x, 1.0, noise), r.hard_bit
    ),
    "gumbel_softmax": lambda: _with_noise(lambda x, noise: r.gumbel_softmax(x, COLD, noise), r.hard_one_hot),
    "gumbel_softmax_straight_through": lambda: _with_noise(
        lambda x, noise: r.gumbel_softmax_straight_through(x, 1.0, noise), r.hard_one_hot
    ),
    "gumbel_top_k": lambda: _with_noise(
        lambda x, noise: r.gumbel_top_k(x, 3, COLD, noise), lambda x: r.hard_top_k_mask(x, 3)
    ),
    "gumbel_top_k_straight_through": lambda: _with_noise(
        lambda x, noise: r.gumbel_top_k_straight_through(x, 3, 1.0, noise), lambda x: r.hard_top_k_mask(x, 3)
    ),
    # Not a limit: without noise and temperature it is the twin; test_gates tells where the two are exact.
    "hard_concrete": _on(lambda x: r.hard_concrete(x, torch.zeros(()), temperature=1.0), r.hard_concrete_gate),
    "log_sinkhorn": _sinkhorn,
    "path_products": _on(lambda x: r.path_products(torch.sigmoid(x / COLD)), _one_hot_leaves),
    "round_straight_through": _on(r.round_straight_through, torch.round),
    "sigmoid_tree": _on(lambda x: r.sigmoid_tree(x, COLD), _one_hot_leaves),
    "sign_triangle": _on(r.sign_triangle, r.hard_sign),
    "smooth_step": _on(lambda x: r.smooth_step(x, COLD), r.hard_bit),
    "soft_ranks": _ranks,
    "soft_sort": _network,
    "softmax_permutation": _on(lambda x: r.softmax_permutation(x, COLD), r.hard_permutation),
    "sparsemax": _on(lambda x: r.sparsemax(x / COLD), r.hard_one_hot),
    "straight_through_bits": _on(r.straight_through_bits, r.node_bits),
    "swap_probability": _on(lambda x: r.swap_probability(x, steepness=1e6), r.hard_bit),
    "tempered_sigmoid": _on(lambda x: r.tempered_sigmoid(x, COLD), r.hard_bit),
    "tempered_softmax": _on(lambda x: r.tempered_softmax(x, COLD), r.hard_one_hot),
    "trainable_gate": _on(r.trainable_gate, r.step_gate),
}
"""For each soft form, with its temperature low or its steepness high, what it gives and what its hard twin gives."""


@pytest.mark.parametrize("name", sorted(HARD_TWINS))
def test_hardening_by_the_twin_is_the_limit_of_the_soft_form(name: str) -> None:
    soft, hard = LIMITS[name]()
    assert hard.amin() < hard.amax()
    torch.testing.assert_close(soft, hard, rtol=0, atol=1e-4)


def test_the_limits_are_for_soft_forms_only() -> None:
    assert set(LIMITS) == set(HARD_TWINS)
