"""For each promise of the task contract a task that breaks it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deploykit import Dim, Samples, Signature, TensorSpec
from deploykit.errors import UnknownNameError
from tests.core.broken_files import Clouds
from tests.core.honest_method import SIGNATURE, Cloud


class Sky(Cloud):
    """Honest: knows no network of another name."""

    max_loss = 0.1

    def network(self, name: str = "") -> nn.Module:
        if name:
            raise UnknownNameError(f"task 'sky' has no network {name!r}; leave it out")
        return super().network()


class Outside(Sky):
    """Its test samples are not in its signature's range."""

    def samples(self, split: Any) -> Samples:
        samples = super().samples(split)
        return samples if split != "test" else Samples({"x": samples.inputs["x"] - 100}, samples.targets)


class Empty(Sky):
    def samples(self, split: Any) -> Samples:
        return super().samples(split).take(slice(0, 0 if split == "calibration" else None))


class Unlabelled(Sky):
    def samples(self, split: Any) -> Samples:
        return Samples(super().samples(split).inputs, {})


class Short(Sky):
    def samples(self, split: Any) -> Samples:
        samples = super().samples(split)
        return Samples(samples.inputs, {"kind": samples.targets["kind"][1:]})


class Shuffling(Sky):
    """Draws its samples anew every time."""

    seeds = itertools.count()

    def samples(self, split: Any) -> Samples:
        return super().samples(split).take(np.random.default_rng(next(self.seeds)).permutation(40))


class Leaking(Sky):
    """Calibrates on the last test sample."""

    def samples(self, split: Any) -> Samples:
        samples = super().samples(split)
        if split != "calibration":
            return samples
        x = samples.inputs["x"].copy()
        x[3] = super().samples("test").inputs["x"][-1]
        return Samples({"x": x}, samples.targets)


class LastFirst(Sky):
    def example(self, count: int = 2) -> tuple[Tensor, ...]:
        return (super().example(40)[0].flip(0)[:count],)


class Undrawable(Sky):
    """Takes whole numbers between 0.2 and 0.8, of which there are none."""

    @property
    def signature(self) -> Signature:
        x = TensorSpec(name="x", dtype="int64", shape=("batch", 4), minimum=0.2, maximum=0.8)
        return SIGNATURE.model_copy(update={"inputs": (x,)})


class Restless(Sky):
    def random_inputs(self, random: np.random.Generator, sizes: Mapping[str, int]) -> Any:
        drawn = super().random_inputs(random, sizes)
        return {"x": np.maximum(drawn["x"] - np.float32(np.random.default_rng().random()), np.float32(-50))}


class OneSize(Clouds):
    dims = Dim(max=16)

    def random_inputs(self, random: np.random.Generator, sizes: Mapping[str, int]) -> Any:
        return super().random_inputs(random, {**sizes, "points": 5})


class Narrow(Sky):
    """Its network gives two numbers, its signature tells of three."""

    def network(self, name: str = "") -> nn.Module:
        return nn.Linear(4, 2)


class PerSample(Sky):
    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(outputs["y"], targets["kind"], reduction="none")


class Exploding(Sky):
    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        return super().loss(outputs, targets) / 0


class Flat(Sky):
    """Learns from decisions, which have no gradient."""

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        wrong = (outputs["y"].argmax(1) != targets["kind"]).float().mean()
        return wrong + 0 * outputs["y"].sum()


class Frozen(Sky):
    """Every network starts from the same weights."""

    def network(self, name: str = "") -> nn.Module:
        network = super().network(name)
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.5)
        return network


class Unseeded(Sky):
    def network(self, name: str = "") -> nn.Module:
        network = super().network(name)
        with torch.no_grad():
            network.weight.mul_(np.random.default_rng().random())  # type: ignore[operator]
        return network


class Obliging(Cloud):
    """Has a network of every name."""


class Upside(Sky):
    """Its metric counts faults."""

    def metric(self, outputs: Any, samples: Samples) -> float:
        return 1.0 - super().metric(outputs, samples)


class Undefined(Sky):
    def metric(self, outputs: Any, samples: Samples) -> float:
        return float("nan")


class Lenient(Sky):
    max_loss = 2.0


TASKS = [
    item for item in list(globals().values()) if isinstance(item, type) and issubclass(item, (Sky, Obliging, OneSize))
]
