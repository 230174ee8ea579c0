"""The two forms of ``matched.sinkhorn``, its decoder, and what always holds of a matching."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import deploykit
from deploykit import make_decoder
from deploykit.lifecycle import build
from deploykit.outputs import tensors
from deploykit_matched.keypoint_network import KeypointNetwork, mirrored
from deploykit_matched.matchers import matching_loss
from deploykit_matched.sinkhorn_oracle import mutual_pairs
from tests.plugins.matched_networks import (
    NAME,
    Inputs,
    answer,
    drawn_inputs,
    hard_of,
    keypoint_matcher,
    method_of,
)

COUNTS = st.integers(1, 7)
SEEDS = st.integers(0, 10_000)


def matches(form: nn.Module, soft: nn.Module, inputs: Inputs) -> np.ndarray[Any, Any]:
    value: np.ndarray[Any, Any] = method_of(soft).decisions(form, inputs)["match"].value
    return value


def clear(soft: nn.Module, inputs: Inputs) -> bool:
    """Whether no choice lies so near its tie that rounding may turn it."""
    margin = method_of(soft).decisions(hard_of(soft), inputs)["match"].margin
    assert margin is not None
    return bool((margin > 1e-5).all())


# -- the hard form ------------------------------------------------------------------------------------------------


@given(points_a=COUNTS, points_b=COUNTS, seed=SEEDS, layers=st.integers(0, 2), iterations=st.sampled_from([1, 4, 30]))
@settings(max_examples=20, deadline=None)
def test_the_hard_form_equals_its_oracle(points_a: int, points_b: int, seed: int, layers: int, iterations: int) -> None:
    soft = keypoint_matcher(seed, layers=layers, serving_iterations=iterations)
    inputs = drawn_inputs(2, points_a, points_b, seed)
    if clear(soft, inputs):
        wanted = method_of(soft).oracle(soft, inputs)["assignment"]
        np.testing.assert_allclose(answer(hard_of(soft), inputs), wanted, rtol=1e-4, atol=1e-4)


def test_the_drawn_networks_do_find_matches_and_refuse_some() -> None:
    found = [matches(hard_of(soft), soft, drawn_inputs(4, 6, 7)) for soft in (keypoint_matcher(s) for s in range(4))]
    share = np.mean([match >= 0 for match in found])
    assert 0.1 < share < 0.9


@given(points_a=COUNTS, points_b=COUNTS, seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_matching_is_injective_both_ways_and_of_points_that_are_there(
    points_a: int, points_b: int, seed: int
) -> None:
    soft = keypoint_matcher(seed)
    inputs = drawn_inputs(3, points_a, points_b, seed)
    matching = answer(hard_of(soft), inputs)
    assert ((matching > 0).sum(1) <= 1).all()
    assert ((matching > 0).sum(2) <= 1).all()
    there = inputs[2].numpy()[:, :, None] & inputs[5].numpy()[:, None]
    assert not matching[~there].any()
    match_a = matches(hard_of(soft), soft, inputs)
    for sample, partners in enumerate(match_a):
        match_b = {j: i for i, j in enumerate(partners) if j >= 0}
        assert all(partners[i] == j for j, i in match_b.items())
        assert len(match_b) == (partners >= 0).sum() == (matching[sample] > 0).sum()
    np.testing.assert_array_equal(np.where((matching > 0).any(2), matching.argmax(2), -1), match_a)


@given(seed=SEEDS, batch=st.integers(1, 3), points_a=COUNTS, points_b=COUNTS)
@settings(max_examples=20, deadline=None)
def test_decoder_decisions_and_looking_at_every_pair_agree(seed: int, batch: int, points_a: int, points_b: int) -> None:
    soft = keypoint_matcher(seed)
    hard, inputs = deploykit.harden(soft), drawn_inputs(batch, points_a, points_b, seed)
    decoder = make_decoder(hard.decoder, dict(hard.decoder_config))
    for form in (soft, hard.module):
        plan = answer(form, inputs)
        found = decoder.decode({"assignment": plan})
        rows = list(zip(*(found[name].tolist() for name in ("sample", "index_a", "index_b")), strict=True))
        match = matches(form, soft, inputs)
        assert rows == [(s, i, j) for s, row in enumerate(match.tolist()) for i, j in enumerate(row) if j >= 0]
        threshold = float(np.float32(0.2))
        assert rows == [(s, *pair) for s, table in enumerate(plan) for pair in mutual_pairs(table, threshold)]
        assert found["confidence"].tolist() == [plan[row] for row in rows]


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_another_order_of_points_gives_the_same_matching_in_that_order(seed: int) -> None:
    soft = keypoint_matcher(seed)
    inputs = drawn_inputs(2, 6, 5, seed)
    order_a = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    order_b = torch.randperm(5, generator=torch.Generator().manual_seed(seed + 1))
    other = tuple(x[:, order_a] if place < 3 else x[:, order_b] for place, x in enumerate(inputs))
    forms = (soft, hard_of(soft)) if clear(soft, inputs) else (soft,)
    for form in forms:
        np.testing.assert_allclose(answer(form, other), answer(form, inputs)[:, order_a][:, :, order_b], atol=1e-5)


@given(seed=SEEDS, more_a=st.integers(0, 4), more_b=st.integers(0, 4))
@settings(max_examples=15, deadline=None)
def test_empty_slots_change_nothing_whatever_they_hold(seed: int, more_a: int, more_b: int) -> None:
    soft = keypoint_matcher(seed)
    inputs = drawn_inputs(2, 5, 6, seed)
    torch.manual_seed(seed)
    padded = []
    for place, x in enumerate(inputs):
        more = more_a if place < 3 else more_b
        junk = torch.zeros(2, more) > 1 if x.dtype == torch.bool else 9 * torch.randn(2, more, *x.shape[2:])
        padded.append(torch.cat([x, junk.to(x.dtype)], 1))
    forms = (soft, hard_of(soft)) if clear(soft, inputs) else (soft,)
    for form in forms:
        longer = answer(form, tuple(padded))
        np.testing.assert_allclose(longer[:, :5, :6], answer(form, inputs), atol=1e-5)
        assert not longer[:, 5:].any()
        assert not longer[:, :, 6:].any()


@pytest.mark.parametrize("gone", [(2,), (5,), (2, 5)])
def test_an_image_without_points_has_no_match(gone: tuple[int, ...]) -> None:
    soft = keypoint_matcher()
    inputs = tuple(x & False if place in gone else x for place, x in enumerate(drawn_inputs(2, 4, 5)))
    for form in (soft, hard_of(soft)):
        assert not answer(form, inputs).any()
        assert (matches(form, soft, inputs) == -1).all()
    assert not method_of(soft).oracle(soft, inputs)["assignment"].any()
    # What stands in empty slots must not come through as a message either.
    scorer = soft.scorer
    other = tuple(
        x + 1.0 if x.is_floating_point() and place // 3 * 3 + 2 in gone else x for place, x in enumerate(inputs)
    )
    np.testing.assert_array_equal(answer(soft, inputs), answer(soft, other))
    assert isinstance(scorer, KeypointNetwork)


def test_the_masses_of_points_are_one_when_sinkhorn_has_converged() -> None:
    soft = keypoint_matcher(spread=1.0)
    inputs = drawn_inputs(3, 6, 7)
    with torch.no_grad():
        plan = soft.log_plan(*inputs, iterations=200).exp()
    torch.testing.assert_close(plan[:, :-1].sum(2), inputs[2].float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(plan[:, :, :-1].sum(1), inputs[5].float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(plan[:, -1].sum(1), inputs[5].sum(1).float(), atol=1e-3, rtol=0)


def test_fewer_iterations_change_the_plan_and_the_facts_say_how_far_off_it_is() -> None:
    soft = keypoint_matcher(spread=30.0, serving_iterations=1, iterations=60)
    hard = deploykit.harden(soft)
    off = [float(part.split("%")[0]) for part in hard.facts["masses off"].split(", ")]
    assert off[1] > off[0]
    inputs = drawn_inputs(8, 6, 7)
    with torch.no_grad():
        distance = (soft(*inputs) - hard_of(soft).plan(*inputs)).abs().max()
    assert distance > 0.01
    alike = hard_of(keypoint_matcher(spread=30.0, serving_iterations=60))
    with torch.no_grad():
        assert (soft(*inputs) - alike.plan(*inputs)).abs().max() < 1e-6


# -- training -----------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_true_pairs_and_points_without_partner() -> None:
    log_plan = torch.log(torch.tensor([[[0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [0.4, 0.7, 1.0]]]))
    loss = matching_loss(log_plan, torch.tensor([[0, -1]]), torch.tensor([[0, -1]]))
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(0.7)) / 3)
    unclear = matching_loss(log_plan, torch.tensor([[-2, -1]]), torch.tensor([[-2, -2]]))
    assert unclear.item() == pytest.approx(-math.log(0.8))
    assert matching_loss(log_plan, torch.tensor([[-2, -2]]), torch.tensor([[-2, -2]])).item() == 0.0


def test_images_of_a_pair_are_mirrored_alike_and_only_in_training() -> None:
    a, b = torch.rand(64, 4, 2), torch.rand(64, 5, 2)
    other_a, other_b = mirrored(a, b)
    kinds = set()
    for sample in range(64):
        # The linear map of a's points must be a signed permutation, and b's the same.
        turn = torch.linalg.lstsq(a[sample], other_a[sample]).solution
        torch.testing.assert_close(b[sample] @ turn, other_b[sample], atol=1e-4, rtol=0)
        kinds.add(tuple(turn.round().int().flatten().tolist()))
    assert len(kinds) == 8
    soft = keypoint_matcher(dropout=0.3)
    inputs = drawn_inputs(4, 5, 6)
    assert np.array_equal(answer(soft, inputs), answer(soft, inputs))
    soft.train()
    assert not np.array_equal(answer(soft, inputs), answer(soft, inputs))


def test_training_beats_nearest_neighbours_on_photographs_never_seen() -> None:
    torch.manual_seed(0)
    task = deploykit.make_task("point-pairs")
    quick = {"epochs": 6, "width": 48, "layers": 1, "rate": 4e-3, "dropout": 0.1, "iterations": 10}
    method = deploykit.make_method(NAME, quick)
    soft = build(method, task)
    plan, samples = method.plan(soft, task), task.samples("train")
    inputs = tensors(samples.inputs, task.signature)
    targets = {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()}
    soft.train()
    for _ in range(plan.epochs):
        for index in torch.split(torch.randperm(len(samples)), plan.batch_size):
            loss: Any = method.loss(
                soft, tuple(x[index] for x in inputs), {name: t[index] for name, t in targets.items()}, task
            )
            plan.optimizer.zero_grad()
            loss.backward()
            plan.optimizer.step()
            assert plan.scheduler is not None
            plan.scheduler.step()
    soft.eval()
    test = task.samples("test")
    hard = deploykit.harden(soft, tuple(x[:64] for x in inputs))
    held_out = tensors(test.inputs, task.signature)
    scores = [task.metric({"assignment": answer(form, held_out)}, test) for form in (soft, hard.module)]
    alike = np.einsum("bid,bjd->bij", test.inputs["descriptors_a"], test.inputs["descriptors_b"]) / 128 + 0.5
    both = test.inputs["valid_a"][:, :, None] & test.inputs["valid_b"][:, None]
    nearest = {"assignment": np.where(both, alike, 0).astype(np.float32)}
    assert task.metric(nearest, test) == pytest.approx(0.609, abs=0.01)
    assert min(scores) > task.metric(nearest, test) + 0.02  # 0.74 after the default training
    assert abs(scores[0] - scores[1]) < 0.02
