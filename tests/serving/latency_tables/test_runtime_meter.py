"""The real thing once: blocks of a real network in ONNX Runtime, written to a file and read back. Nothing is timed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.cell_graphs import INPUTS, cell_space, network, node_block, node_stacks, random_genotype
from deploykit.errors import ServingError
from deploykit.latency_block import LatencyTableError
from deploykit.latency_file import append_table, open_table
from deploykit.latency_space import SearchSpace, Term
from deploykit.latency_table import LatencyTable
from deploykit.runtime import RuntimeOptions
from deploykit_serving.latency_tables import Pace, RuntimeMeter, measure_blocks, measure_networks, measure_skeleton
from deploykit_serving.profiling.canary import Canary

PACE = Pace(accepted=3, rounds=6, seconds=5.0)
CHEAP, DEAR = node_block("max_3", "skip"), node_block("conv_3", "sep_5")
SPACE = SearchSpace(
    "one node", {"node": ("cheap", "dear")}, (Term(CHEAP, {"node": ("cheap",)}), Term(DEAR, {"node": ("dear",)}))
)


@pytest.fixture(scope="module")
def meter() -> RuntimeMeter:
    return RuntimeMeter(INPUTS)


@pytest.fixture(scope="module")
def table(meter: RuntimeMeter) -> LatencyTable:
    stacks = {block: stack for block, stack in node_stacks().items() if block in {CHEAP, DEAR}}
    canary = Canary().read
    blocks = measure_blocks(stacks, meter, canary, pace=PACE)
    references = [({"node": "dear"}, stacks[DEAR](1)), ({"node": "cheap"}, stacks[CHEAP](1))]
    return measure_skeleton(blocks, SPACE, references, meter, canary, pace=PACE)


def test_a_real_table_goes_into_a_file_and_back(table: LatencyTable, meter: RuntimeMeter, tmp_path: Path) -> None:
    append_table(tmp_path / "cells.jsonl", table)
    found = open_table(tmp_path / "cells.jsonl", meter.environment)
    assert (found.blocks, found.skeletons) == (table.blocks, table.skeletons)
    assert found.canary_us == table.canary_us
    assert set(found.blocks) == {CHEAP, DEAR}
    assert found.cost(SPACE, {"node": "dear"}).foreign == ""


def test_entries_say_what_they_rest_on(table: LatencyTable) -> None:
    for entry in (*table.blocks.values(), *table.skeletons.values()):
        assert entry.accepted + entry.rejected >= PACE.accepted
        assert entry.at_rest == (entry.accepted >= PACE.accepted)


def test_another_number_of_threads_is_another_environment(table: LatencyTable, tmp_path: Path) -> None:
    append_table(tmp_path / "cells.jsonl", table)
    there = RuntimeMeter(INPUTS, options=RuntimeOptions(threads=2)).environment
    with pytest.raises(LatencyTableError, match="another environment: threads 1, not 2"):
        open_table(tmp_path / "cells.jsonl", there)
    with pytest.raises(LatencyTableError, match="meter measures in another environment than the table's: threads 2"):
        measure_skeleton(
            table,
            SPACE,
            [({"node": "dear"}, b"")],
            RuntimeMeter(INPUTS, options=RuntimeOptions(threads=2)),
            lambda: 1.0,
        )
    with pytest.raises(LatencyTableError, match="on at least one reference network"):
        measure_skeleton(table, SPACE, [], RuntimeMeter(INPUTS), lambda: 1.0)


def test_models_that_do_not_run_are_refused_in_words(meter: RuntimeMeter) -> None:
    with pytest.raises(ServingError, match="onnxruntime-cpu refuses the model"):
        measure_networks([b"no model"], meter, lambda: 1.0)
    model = network(random_genotype(random.Random(0)))
    with pytest.raises(ServingError, match="onnxruntime-cpu cannot run a model that is to be timed"):
        measure_networks([model], RuntimeMeter({"x": (3, 8, 9)}), lambda: 1.0)
    with pytest.raises(ServingError, match="onnxruntime_cpu"):
        RuntimeMeter(INPUTS, runtime="onnxruntime_cpu")


def test_the_benchmarks_space_has_a_stack_for_every_block() -> None:
    space = cell_space()
    assert set(space.blocks) == set(node_stacks())
    for seed in range(20):
        content = space.content(random_genotype(random.Random(seed)))
        assert content.total() == 6  # two cells of three nodes
