"""The promises of a task, as tests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit.errors import SignatureError, UnknownNameError
from deploykit.hardening import state_digest
from deploykit.making import make_task
from deploykit.outputs import named_outputs, tensors
from deploykit.random_inputs import legal_sizes
from deploykit.signature import BATCH, Arrays, TensorSpec
from deploykit.task import Samples, Split, Task
from deploykit.testing.drawn_inputs import checked_draw, free_sizes, sizes_of

_FEW: Final = 16
_STEPS: Final = 300


class TaskContract:
    """Subclass it in a test file and set ``name``.

    Attributes:
        name: the task's registered name.
        network: which of its networks is tried; its default if empty.
    """

    name: ClassVar[str]
    network: ClassVar[str] = ""

    def made(self) -> Task:
        """Return the task, made anew."""
        return make_task(self.name)

    def few(self, task: Task, split: Split = "train") -> Samples:
        """Return the first samples of a split, no more than a batch may hold."""
        return task.samples(split).take(slice(0, min(_FEW, task.signature.dim(BATCH).max or _FEW)))

    def test_every_split_fits_the_signature(self) -> None:
        """Inputs are legal, targets are there, and both count the same samples."""
        task = self.made()
        for split in get_args(Split):
            samples = task.samples(split)
            assert len(samples), f"{self.name}: split {split!r} is empty"
            assert samples.targets, f"{self.name}: split {split!r} has no targets to learn or to judge by"
            for name, array in (*samples.inputs.items(), *samples.targets.items()):
                assert len(array) == len(samples), (
                    f"{self.name}: {split!r} has {len(samples)} samples and {len(array)} rows of {name!r}"
                )
            step = task.signature.dim(BATCH).max or len(samples)
            for start in range(0, len(samples), step):
                try:
                    task.signature.check_inputs(samples.take(slice(start, start + step)).inputs)
                except SignatureError as error:
                    raise AssertionError(f"{self.name}: split {split!r} does not fit the signature: {error}") from error

    def test_splits_are_the_same_every_time(self) -> None:
        """Whoever asks gets the same samples in the same order, also from a task made anew."""
        one, other = self.made(), self.made()
        for split in get_args(Split):
            first = _digest(one.samples(split))
            np.random.random(3)
            torch.rand(3)
            assert first == _digest(one.samples(split)) == _digest(other.samples(split)), (
                f"{self.name}: split {split!r} is another one the second time; draw it from a seed of its own"
            )

    def test_no_test_sample_is_trained_on(self) -> None:
        """The test split shares no sample with the training and calibration splits, by their inputs."""
        task = self.made()
        tested = set(_rows(task.samples("test")))
        others: tuple[Split, ...] = ("train", "calibration")
        for split in others:
            shared = tested & set(_rows(task.samples(split)))
            assert not shared, (
                f"{self.name}: {len(shared)} of {len(tested)} test samples are in split {split!r} too; whoever trains "
                "on it would be judged on what it has seen"
            )

    def test_the_example_is_the_first_of_training(self) -> None:
        """Two samples by default, as tensors in the signature's order."""
        task = self.made()
        wanted = task.samples("train").take(slice(0, 2)).inputs
        got = task.example()
        assert len(got) == len(task.signature.inputs), f"{self.name}: example() gives {len(got)} tensors"
        for spec, tensor in zip(task.signature.inputs, got, strict=True):
            assert np.array_equal(tensor.numpy(), wanted[spec.name]), (
                f"{self.name}: example() gives another {spec.name!r} than the first two training samples"
            )

    def test_random_inputs_are_legal_in_every_size(self) -> None:
        """What the contracts of methods try is legal, repeatable, and of the sizes that are asked for."""
        task = self.made()
        free = free_sizes(task.signature)
        seen: dict[str, set[int]] = {name: set() for name in free}
        for step in range(3):
            sizes = {name: (few := legal_sizes(task.signature, name, 3))[step % len(few)] for name in free}
            sizes[BATCH] = legal_sizes(task.signature, BATCH, 2)[-1]
            one, two = (checked_draw(self.name, task, task.random_inputs, sizes, seed=step) for _ in range(2))
            for name, array in one.items():
                assert array.tobytes() == two[name].tobytes(), f"{self.name}: random_inputs draws from elsewhere, too"
            for name, size in sizes_of(task.signature, one).items():
                seen.get(name, set()).add(size)
        for name, got in seen.items():
            assert len(got) > 1 or len(legal_sizes(task.signature, name, 3)) == 1, (
                f"{self.name}: {name!r} is free in the signature and random_inputs always gives size {min(got)}"
            )

    def test_its_network_fits_and_learns(self) -> None:
        """The network gives the signature's outputs; the loss is a finite number whose gradient reaches it."""
        task = self.made()
        samples = self.few(task)
        torch.manual_seed(0)
        network = task.network(self.network)
        outputs = named_outputs(network(*tensors(samples.inputs, task.signature)), task.signature)
        try:
            task.signature.check_outputs({name: tensor.detach().numpy() for name, tensor in outputs.items()})
        except SignatureError as error:
            raise AssertionError(f"{self.name}: its network does not fit the signature: {error}") from error
        loss = task.loss(outputs, _targets(samples))
        assert loss.shape == (), f"{self.name}: the loss has shape {list(loss.shape)}; wanted one number for the batch"
        assert torch.isfinite(loss), f"{self.name}: the loss of a fresh network is {loss.item()}"
        loss.backward()  # type: ignore[no-untyped-call]
        reached = [item for item in network.parameters() if item.grad is not None and item.grad.abs().max() > 0]
        assert reached, f"{self.name}: the loss has no gradient for any parameter of the network; it cannot be learnt"

    def test_networks_come_from_the_seed(self) -> None:
        """The same seed gives the same network, another one another; a name that is none is refused."""
        task = self.made()
        digests = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            digests.append(state_digest(task.network(self.network)))
        assert digests[0] == digests[1], f"{self.name}: the same seed gives two networks; draw from torch alone"
        assert digests[0] != digests[2], f"{self.name}: every seed gives the same network; draw its weights anew"
        try:
            task.network("nobody-has-this")
        except UnknownNameError:
            return
        raise AssertionError(f"{self.name}: network() knows 'nobody-has-this'; raise UnknownNameError")

    def test_a_smaller_loss_is_a_larger_metric(self) -> None:
        """Outputs that minimise the loss are better by the metric than noise, by more than ``max_loss``.

        The outputs themselves are moved by gradient steps, so no network has to learn for this.
        """
        task = self.made()
        samples = self.few(task)
        torch.manual_seed(0)
        with torch.no_grad():
            returned = task.network(self.network)(*tensors(samples.inputs, task.signature))
        start = named_outputs(returned, task.signature)
        noise = {spec.name: _noise(spec, start[spec.name]) for spec in task.signature.outputs}
        best = _minimised(task, noise, samples)
        before, after = (task.metric(_arrays(outputs), samples) for outputs in (noise, best))
        for value in (before, after):
            assert isinstance(value, float), f"{self.name}: the metric is a {type(value).__name__}; wanted a float"
            assert math.isfinite(value), f"{self.name}: the metric is {value}"
        assert after > before, (
            f"{self.name}: outputs of the smallest loss have {task.metric_name} {after:.4g}, noise has {before:.4g}; "
            "larger must be better: turn the metric's sign"
        )
        assert 0 <= task.max_loss < after - before, (
            f"{self.name}: max_loss {task.max_loss:g} lets a hard form lose all there is: {task.metric_name} goes from "
            f"{before:.4g} for noise to {after:.4g} at best"
        )


def _minimised(task: Task, start: dict[str, Tensor], samples: Samples) -> dict[str, Tensor]:
    targets = _targets(samples)
    free = {name: tensor.clone().requires_grad_() for name, tensor in start.items() if tensor.is_floating_point()}
    optimizer = torch.optim.Adam(free.values(), lr=0.05)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        task.loss({**start, **free}, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for spec in task.signature.outputs:
                if spec.name in free and (spec.minimum is not None or spec.maximum is not None):
                    free[spec.name].clamp_(spec.minimum, spec.maximum)
    return {**start, **{name: tensor.detach() for name, tensor in free.items()}}


def _noise(spec: TensorSpec, like: Tensor) -> Tensor:
    if not like.is_floating_point():
        return like.clone()
    if spec.minimum is None or spec.maximum is None:
        return torch.randn(like.shape, dtype=like.dtype)
    return spec.minimum + (spec.maximum - spec.minimum) * torch.rand(like.shape, dtype=like.dtype)


def _targets(samples: Samples) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in samples.targets.items()}


def _arrays(outputs: dict[str, Tensor]) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in outputs.items()}


def _digest(samples: Samples) -> str:
    digest = hashlib.sha256()
    for name, array in (*sorted(samples.inputs.items()), *sorted(samples.targets.items())):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _rows(samples: Samples) -> Iterator[bytes]:
    arrays: list[NDArray[Any]] = list(samples.inputs.values())
    for index in range(len(samples)):
        yield hashlib.sha256(b"|".join(np.ascontiguousarray(array[index]).tobytes() for array in arrays)).digest()
