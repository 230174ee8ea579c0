"""The generated trees of ``root-neighbours``."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import deploykit
from deploykit import Samples, Task
from deploykit.errors import UnknownNameError
from deploykit.outputs import tensors
from deploykit.task import Split
from deploykit_tasks import root_neighbours


@pytest.fixture(scope="module")
def task() -> Task:
    return deploykit.make_task("root-neighbours")


def real_edges(samples: Samples, index: int) -> list[tuple[int, int]]:
    return [(source, target) for source, target in samples.inputs["edges"][index].tolist() if source >= 0]


@pytest.mark.parametrize(("split", "fewest", "most"), [("train", 1, 3), ("test", 3, 5)])
def test_the_target_is_the_mean_of_the_roots_neighbours_of_degree_six(
    task: Task, split: Split, fewest: int, most: int
) -> None:
    samples = task.samples(split)
    counts, others = set(), set()
    for index in range(len(samples)):
        edges = real_edges(samples, index)
        degree = Counter(target for _, target in edges)
        near = [source for source, target in edges if target == 0]
        hubs = [node for node in near if degree[node] == 6]
        others |= {degree[node] for node in near if node not in hubs}
        counts.add(len(hubs))
        expected = samples.inputs["features"][index][hubs].astype(np.float64).mean(0)
        np.testing.assert_allclose(samples.targets["root"][index], expected, rtol=1e-5, atol=1e-6)
    assert counts == set(range(fewest, most + 1))
    assert others == {2, 3}


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_graph_is_a_tree_with_edges_in_both_directions(task: Task, split: Split) -> None:
    samples = task.samples(split)
    for index in range(0, len(samples), 25):
        edges = real_edges(samples, index)
        assert len(set(edges)) == len(edges)
        assert {(target, source) for source, target in edges} == set(edges)
        nodes = len(edges) // 2 + 1
        reached = {0}
        for _ in range(2):
            reached |= {target for source, target in edges if source in reached}
        assert reached == set(range(nodes))
        assert samples.inputs["features"][index, :nodes].any(axis=1).all()
        assert not samples.inputs["features"][index, nodes:].any()
        assert (samples.inputs["edges"][index, len(edges) :] == -1).all()


def test_numbers_do_not_tell_hubs(task: Task) -> None:
    samples = task.samples("train")
    places = []
    for index in range(200):
        degree = Counter(target for _, target in real_edges(samples, index))
        places.append(min(node for node in degree if node and degree[node] == 6))
    assert len(set(places)) > 10


def test_splits_are_repeatable_and_apart(task: Task) -> None:
    before = {split: task.samples(split) for split in ("train", "test")}
    root_neighbours._generate.cache_clear()
    for split, samples in before.items():
        again = task.samples(split)  # type: ignore[arg-type]
        for name, array in samples.inputs.items():
            np.testing.assert_array_equal(array, again.inputs[name])
    seen = {row.tobytes() for row in before["train"].inputs["features"][:, 0]}
    assert len(seen) == len(before["train"]) == 1000
    assert not seen & {row.tobytes() for row in before["test"].inputs["features"][:, 0]}
    calibration = task.samples("calibration")
    np.testing.assert_array_equal(calibration.inputs["features"], before["train"].inputs["features"][:64])


@pytest.mark.parametrize("split", ["train", "calibration", "test"])
def test_samples_fit_the_signature(task: Task, split: Split) -> None:
    samples = task.samples(split)
    sizes = task.signature.check_inputs(samples.inputs)
    assert sizes["edges"] == 2 * (sizes["nodes"] - 1)
    assert sizes["batch"] == len(samples) == len(samples.targets["root"])


def test_loss_and_metric_count_the_root_alone(task: Task) -> None:
    samples = task.samples("test").take(slice(0, 9))
    outputs = np.full((9, samples.inputs["features"].shape[1], 5), 7.0, np.float32)
    outputs[:, 0] = samples.targets["root"]
    assert task.metric({"means": outputs}, samples) == 0.0
    outputs[:, 0] += np.array([0.5, -0.5, 0.0, 1.0, 0.0], np.float32)
    assert task.metric({"means": outputs}, samples) == pytest.approx(-0.4, abs=1e-6)
    targets = {name: torch.from_numpy(array) for name, array in samples.targets.items()}
    assert float(task.loss({"means": torch.from_numpy(outputs)}, targets)) == pytest.approx(0.4, abs=1e-6)


def test_predicting_zeros_is_about_half_a_unit_off(task: Task) -> None:
    samples = task.samples("test")
    assert task.metric({"means": np.zeros_like(samples.inputs["features"])}, samples) == pytest.approx(
        -0.473, abs=0.001
    )


@pytest.mark.parametrize("name", ["", "mean", "sum"])
def test_networks_take_graphs_of_any_size(task: Task, name: str) -> None:
    network = task.network(name)
    for nodes, edges in ((1, 1), (5, 3), (64, 128)):
        features = torch.randn(2, nodes, 5)
        assert network(features, torch.randint(0, nodes, (2, edges, 2))).shape == (2, nodes, 5)
    few = task.samples("train").take(slice(0, 4))
    assert network(*tensors(few.inputs, task.signature)).shape == (4, few.inputs["features"].shape[1], 5)


def test_an_unknown_network_is_refused(task: Task) -> None:
    with pytest.raises(UnknownNameError, match="'root-neighbours' has no network 'max'; it has 'mean' and 'sum'"):
        task.network("max")
