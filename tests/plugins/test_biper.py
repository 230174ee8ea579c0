"""BiPer: the hard form is exact integer arithmetic and equals a slow reference, ties and zeros included."""

from __future__ import annotations

import doctest
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deploykit
from deploykit import HardForm, Signature, TensorSpec, agreement, make_method, make_task
from deploykit.lifecycle import binding_of, build
from deploykit_binarized import biper_thresholds
from deploykit_binarized.biper_layers import BinaryLayer, InputLayer, OutputLayer, binary_layers, twin_layers
from deploykit_binarized.biper_thresholds import fold_to_threshold, integer_weight_of
from deploykit_binarized.integer_layers import IntegerLayer


def signature_of(example: Tensor, outputs: int, minimum: float | None, maximum: float | None) -> Signature:
    shape = ("batch", *example.shape[1:])
    image = TensorSpec(name="image", shape=shape, minimum=minimum, maximum=maximum)
    return Signature(inputs=(image,), outputs=(TensorSpec(name="logits", shape=("batch", outputs)),))


def settle(soft: nn.Module, progress: float = 1.0) -> nn.Module:
    """Random normalisations with all signs of gamma, dyadic so that activations are often exactly 0; second stage."""
    deploykit.on_step(soft, progress)
    with torch.no_grad():
        for layer in twin_layers(soft):
            layer.weight.view(-1)[::5] = 0.0
            if isinstance(layer, BinaryLayer):
                layer.alpha.copy_(torch.tensor([0.5, -0.25, 1.0, 0.0])[torch.randint(0, 4, layer.alpha.shape)])
        for norm in soft.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norm.eps = 0.0
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_var.fill_(4.0)
                norm.running_mean.copy_(torch.randint(-3, 4, norm.running_mean.shape) * 0.5)
                norm.weight.copy_(torch.randint(-2, 3, norm.weight.shape).float())
                norm.bias.copy_(torch.randint(-1, 2, norm.bias.shape).float() * (norm.weight == 0))
    return soft.eval()


def oracle_and_hard(soft: nn.Module, x: Tensor) -> tuple[np.ndarray[Any, Any], HardForm]:
    hard = deploykit.harden(soft, x)
    return np.asarray(binding_of(soft).method.oracle(soft, (x,))["logits"]), hard


@st.composite
def nets(draw: st.DrawFn) -> tuple[nn.Module, Tensor, tuple[float, float]]:
    """Draw a convolutional chain, an input with zeros and the input's range."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    size = draw(st.integers(11, 12))
    channels = [draw(st.integers(1, 3)), *(2 * draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 2))))]
    layers: list[nn.Module] = []
    for source, target in pairwise(channels):
        shrinks = not layers  # only the first block may shrink the image a lot, so that every draw is a valid net
        kernel, padding = draw(st.sampled_from([(1, 0), (3, 1), (2, 1), *[(3, 0)] * shrinks]))
        groups = 2 if source % 2 == 0 and draw(st.booleans()) else 1
        stride, dilation = draw(st.sampled_from([(1, 1), (2, 1), *[(1, 2)] * shrinks]))
        layers.append(nn.Conv2d(source, target, kernel, stride, padding, dilation, groups, bias=draw(st.booleans())))
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(target))
        layers.append(draw(st.sampled_from([nn.ReLU, nn.GELU, nn.Tanh, nn.Identity]))())
        if draw(st.booleans()):
            layers.append(
                nn.MaxPool2d(2, stride=draw(st.sampled_from([1, 2])), padding=1 - shrinks * draw(st.integers(0, 1)))
            )
    minimum, maximum = draw(st.sampled_from([(0.0, 16.0), (-1.0, 1.0), (-3.0, 0.5), (2.0, 5.0)]))
    x = torch.rand(3, channels[0], size, size) * (maximum - minimum) + minimum
    x[:, :, 0] = 0.0
    body = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        features = body.eval()(x).shape[1]
    net = nn.Sequential(body, nn.Linear(features, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 4))
    return net, x, (minimum, maximum)


@settings(max_examples=40, deadline=None)
@given(drawn=nets())
def test_hard_form_equals_the_oracle_bit_for_bit(drawn: tuple[nn.Module, Tensor, tuple[float, float]]) -> None:
    net, x, extent = drawn
    soft = settle(deploykit.prepare(net, "binarized.biper", x, signature=signature_of(x, 4, *extent)))
    wanted, hard = oracle_and_hard(soft, x)
    assert hard.promise.tolerance.exact, hard.facts
    with torch.no_grad():
        assert np.array_equal(hard.module(x).numpy(), wanted)
        qdq = hard.lowerings["qdq"].module
        assert qdq is not None
        assert np.array_equal(qdq(x).numpy(), wanted)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**16), size=st.integers(1, 12), largest=st.sampled_from([1, 128]))
def test_thresholds_hold_for_every_reachable_sum(seed: int, size: int, largest: int) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.choice([-1, 1], (16, size))
    scale = (generator.standard_normal(16) * 10.0 ** generator.integers(-6, 3, 16)).astype(np.float32)
    scale[generator.random(16) < 0.2] = 0.0
    reach = size * largest
    # Half of the thresholds are placed exactly on a reachable sum.
    ties = -scale * generator.integers(-reach, reach + 1, 16).astype(np.float32)
    shift = np.where(generator.random(16) < 0.5, ties, generator.standard_normal(16)).astype(np.float32)
    folded, bias = fold_to_threshold(
        torch.from_numpy(weight), torch.from_numpy(scale), torch.from_numpy(shift), largest
    )
    for channel in range(16):
        flipped = bool((folded[channel].numpy() != weight[channel]).any())
        for total in range(-reach, reach + 1):
            bit = (-total if flipped else total) + int(bias[channel]) >= 0
            assert bit == (np.float32(total) * scale[channel] + shift[channel] >= 0)


def test_example_in_the_docstring_of_folding() -> None:
    failed, attempted = doctest.testmod(biper_thresholds)
    assert attempted == 2
    assert failed == 0


def test_weights_are_plus_and_minus_one_and_keep_the_phase() -> None:
    task = make_task("digits")
    soft = build(make_method("binarized.biper", {}), task)
    with torch.no_grad():
        for layer in binary_layers(soft):
            layer.weight.normal_()
            layer.weight.view(-1)[0] = 0.0
            clear = torch.sin(20.0 * layer.weight.double()).abs() > 1e-3
            signs = integer_weight_of(layer)
            assert set(signs.flatten().tolist()) == {-1, 1}
            assert signs.view(-1)[0] == 1
            layer.weight.add_(2 * math.pi / layer.frequency)
            assert torch.equal(integer_weight_of(layer)[clear], signs[clear])
            layer.weight.add_(math.pi / layer.frequency)
            assert torch.equal(integer_weight_of(layer)[clear], -signs[clear])
    hard = deploykit.harden(soft).module
    stored = [module.weight for module in hard.modules() if isinstance(module, IntegerLayer)]
    assert [weight.dtype for weight in stored] == [torch.int8] * 4
    assert [int(weight.abs().max()) for weight in stored] == [127, 1, 1, 127]


def test_roles_and_rectifiers() -> None:
    soft = build(make_method("binarized.biper", {}), make_task("digits"))
    assert [type(layer) for layer in twin_layers(soft)] == [InputLayer, BinaryLayer, BinaryLayer, OutputLayer]
    assert not any(isinstance(module, nn.ReLU) for module in soft.modules())
    assert all(bool((layer.alpha > 0.01).all()) for layer in binary_layers(soft))


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_gradients_reach_every_parameter_in_both_stages(progress: float) -> None:
    task = make_task("digits")
    method = make_method("binarized.biper", {"regulariser": 0.01})
    soft = build(method, task).train()
    deploykit.on_step(soft, progress)
    batch = task.samples("train").take(slice(0, 32))
    targets = {"label": torch.from_numpy(batch.targets["label"])}
    torch.autograd.backward(method.loss(soft, (torch.from_numpy(batch.inputs["image"]),), targets, task))
    dead = [name for name, weight in soft.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert dead == []


def test_second_stage_starts_on_time_and_keeps_the_first_stages_signs() -> None:
    soft = build(make_method("binarized.biper", {"second_stage": 0.5}), make_task("digits"))
    deploykit.on_step(soft, 0.49)
    assert not any(bool(layer.binary) for layer in binary_layers(soft))
    first = deploykit.harden(soft).module.state_dict()
    deploykit.on_step(soft, 0.5)
    assert all(bool(layer.binary) for layer in binary_layers(soft))
    second = deploykit.harden(soft).module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_regulariser_is_the_mean_squared_sine() -> None:
    method = make_method("binarized.biper", {"regulariser": 2.0})
    soft = build(method, make_task("digits"))
    weights = [layer.weight.detach().double().numpy() for layer in binary_layers(soft)]
    wanted = 2.0 * sum(float(np.mean(np.sin(20.0 * weight) ** 2)) for weight in weights)
    assert float(method.penalty(soft).detach()) == pytest.approx(wanted, rel=1e-5)


def test_binary_stage_decides_as_the_hard_form() -> None:
    task = make_task("digits")
    method = make_method("binarized.biper", {})
    soft = build(method, task)
    x = torch.from_numpy(task.samples("test").inputs["image"][:64].copy())
    deploykit.on_step(soft, 1.0)
    soft.train()(x)  # gives the normalisations statistics of their own
    soft.eval()
    hard = deploykit.harden(soft, x).module
    left, right = method.decisions(soft, (x,)), method.decisions(hard, (x,))
    assert list(left) == list(right) == ["bits/3", "bits/7", "bits/12"]
    for name, decision in left.items():
        compared = agreement(decision, right[name], band=1e-4)
        assert compared.different == 0
        assert compared.total == right[name].value.size > 0
        assert 0.05 < right[name].value.mean() < 0.95
    # In the first stage the soft form's real weights decide otherwise: the comparison can fail.
    deploykit.on_step(soft, 0.0)
    assert agreement(method.decisions(soft, (x,))["bits/7"], right["bits/7"]).different > 0


def test_training_on_digits_loses_nothing_on_the_way() -> None:
    task = make_task("digits")
    method = make_method("binarized.biper", {"epochs": 10})
    soft = build(method, task)
    plan, train = method.plan(soft, task), task.samples("train")
    images, labels = torch.from_numpy(train.inputs["image"]), torch.from_numpy(train.targets["label"])
    batches = -(-len(train) // plan.batch_size)
    soft.train()
    for step in range(plan.epochs * batches):
        if step % batches == 0:
            order = torch.randperm(len(train))
        chosen = order[(step % batches) * plan.batch_size :][: plan.batch_size]
        deploykit.on_step(soft, step / (plan.epochs * batches - 1))
        plan.optimizer.zero_grad()
        torch.autograd.backward(method.loss(soft, (images[chosen],), {"label": labels[chosen]}, task))
        plan.optimizer.step()
        assert plan.scheduler is not None
        plan.scheduler.step()
    soft.eval()
    test = task.samples("test")
    x = torch.from_numpy(test.inputs["image"])
    with torch.no_grad():
        soft_score = task.metric({"logits": soft(x).numpy()}, test)
        hard_score = task.metric({"logits": deploykit.harden(soft).module(x).numpy()}, test)
    assert hard_score >= 0.96
    assert abs(soft_score - hard_score) <= 0.005
