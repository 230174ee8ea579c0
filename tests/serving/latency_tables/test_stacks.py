"""The protocol finds out known times through overhead, noise and bursts (nothing here is timed for real)."""

from __future__ import annotations

import random

import pytest

from deploykit.latency_block import Block, LatencyTableError
from deploykit.latency_space import SearchSpace, Term
from deploykit_serving.latency_tables import (
    Drift,
    Pace,
    Stack,
    detect_fusion,
    measure_blocks,
    measure_networks,
    measure_skeleton,
    sample_in_turns,
    still_valid,
)
from deploykit_serving.latency_tables.stacks import COPIES, MANY_COPIES
from tests.serving.latency_tables.synthetic_engine import CANARY_NS, OVERHEAD_NS, SyntheticEngine, model_of, stack_of

TIMES = {"conv": 12.0, "sep": 8.0, "pool": 4.0, "skip": 1.0, "relu": 2.0, "half": 6.0, "slim": 9.0, "double": 3.5}
PACE = Pace(accepted=20, rounds=1000, seconds=1e9)


def block(operator: str) -> Block:
    return Block(operator=operator, channels_in=16, channels_out=16, height=8, width=8)


STACKS: dict[Block, Stack] = {block(name): stack_of(name, stem=["conv"]) for name in ("conv", "sep", "pool", "skip")}


@pytest.mark.parametrize("seed", range(5))
def test_known_times_are_recovered_to_one_percent_through_bursts(seed: int) -> None:
    engine = SyntheticEngine(TIMES, seed=seed)
    table = measure_blocks(STACKS, engine, engine.canary, pace=PACE)
    assert table.environment == engine.environment
    assert table.canary_us == pytest.approx(CANARY_NS / 1e3, rel=0.01)
    rejected = 0
    for name in ("conv", "sep", "pool", "skip"):
        entry = table.entry(block(name))
        assert entry.median_us == pytest.approx(TIMES[name], rel=0.01)
        assert entry.at_rest
        assert entry.accepted >= PACE.accepted
        rejected += entry.rejected
    assert rejected > 0, "bursts did come, and were seen"


def test_without_the_gate_the_same_bursts_spoil_the_times() -> None:
    engine = SyntheticEngine(TIMES)
    table = measure_blocks(STACKS, engine, lambda: CANARY_NS, pace=PACE)
    errors = [abs(table.entry(block(name)).median_us / TIMES[name] - 1.0) for name in ("conv", "sep", "pool", "skip")]
    assert max(errors) > 0.05


def test_short_blocks_are_stacked_higher() -> None:
    engine = SyntheticEngine(TIMES)
    table = measure_blocks(STACKS, engine, engine.canary, pace=PACE)
    assert table.entry(block("skip")).copies == MANY_COPIES
    assert table.entry(block("conv")).copies == COPIES


def test_a_block_that_changes_the_shape_is_measured_relative_to_another() -> None:
    engine = SyntheticEngine(TIMES)
    stacks = {block("half"): stack_of("half", "double"), block("slim"): stack_of("slim", "double")}
    table = measure_blocks(stacks, engine, engine.canary, relative_to={block("slim"): block("half")}, pace=PACE)
    assert table.entry(block("half")).median_us == 0.0
    assert table.entry(block("slim")).median_us == pytest.approx(TIMES["slim"] - TIMES["half"], abs=0.15)


def test_a_reference_without_a_stack_is_refused() -> None:
    engine = SyntheticEngine(TIMES)
    with pytest.raises(LatencyTableError, match="half 16>16 8x8 is measured relative to another block or is one"):
        measure_blocks(STACKS, engine, engine.canary, relative_to={block("conv"): block("half")})
    with pytest.raises(LatencyTableError, match="no blocks were given"):
        measure_blocks({}, engine, engine.canary)
    assert engine.built == 0


def test_a_machine_that_never_rests_ends_at_the_limit_and_says_so() -> None:
    engine = SyntheticEngine(TIMES)
    readings = iter([CANARY_NS] + [2 * CANARY_NS] * 10_000)  # one calm moment, and never again
    now = iter(range(10_000))
    found = sample_in_turns(
        {"net": engine.build(model_of("conv"))}, lambda: next(readings), Pace(accepted=3, rounds=50, seconds=10.0),
        clock=lambda: next(now),
    )  # fmt: skip
    assert not found["net"].at_rest
    assert found["net"].accepted == 0
    assert 3 <= found["net"].rejected < 50
    assert found["net"].median > 0


def test_a_floor_that_is_found_late_judges_what_came_before() -> None:
    readings = iter([100.0, 100.0, 100.0, 50.0, 50.0, 50.0, 50.0, 50.0, 50.0])
    times = iter([20.0, 20.0, 20.0, 10.0, 10.0, 10.0, 10.0, 10.0])
    found = sample_in_turns({"net": lambda: next(times)}, lambda: next(readings), Pace(accepted=3, rounds=8))
    assert found["net"].median == 10.0
    assert found["net"].rejected == 3
    assert found["net"].floor == 50.0


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 <= accepted <= rounds, got 5 and 4"):
        sample_in_turns({}, lambda: 1.0, Pace(accepted=5, rounds=4))


def test_a_fused_pair_is_told_from_one_that_is_not() -> None:
    engine = SyntheticEngine(TIMES)
    fused = detect_fusion(
        stack_of("conv"), stack_of("relu"), stack_of("conv", "relu"), engine, engine.canary, pace=PACE
    )
    apart = detect_fusion(
        stack_of("conv"), stack_of("pool"), stack_of("conv", "pool"), engine, engine.canary, pace=PACE
    )
    assert fused.fused
    assert fused.saved == pytest.approx(TIMES["relu"], abs=0.3)
    assert not apart.fused
    assert apart.saved == pytest.approx(0.0, abs=0.3)


def test_whole_networks_keep_the_overhead() -> None:
    engine = SyntheticEngine(TIMES)
    (entry,) = measure_networks([model_of("conv", "pool")], engine, engine.canary, pace=PACE)
    assert entry.median_us == pytest.approx(OVERHEAD_NS / 1e3 + 16.0, rel=0.01)


def test_networks_are_predicted_from_blocks_and_a_skeleton() -> None:
    """Stem and overhead come from two reference networks; what is predicted is none of them."""
    names = ("conv", "sep", "pool", "skip")
    choices = {f"layer {layer}": names for layer in range(5)}
    space = SearchSpace("chain", choices, tuple(Term(block(n), {c: (n,)}) for c in choices for n in names))

    def network(genotype: dict[str, str]) -> bytes:
        return model_of("double", *genotype.values(), "half")

    engine = SyntheticEngine(TIMES, seed=7)
    blocks = measure_blocks(STACKS, engine, engine.canary, pace=PACE)
    references = [dict.fromkeys(choices, "sep"), dict.fromkeys(choices, "pool")]
    table = measure_skeleton(
        blocks, space, [(each, network(each)) for each in references], engine, engine.canary, pace=PACE
    )
    draw = random.Random(0)
    for _ in range(20):
        genotype = {choice: draw.choice(names) for choice in choices}
        truth = (OVERHEAD_NS / 1e3) + TIMES["double"] + TIMES["half"] + sum(TIMES[name] for name in genotype.values())
        assert table.cost(space, genotype).us == pytest.approx(truth, rel=0.01)


def test_a_table_that_holds_is_told_from_one_that_is_stale() -> None:
    engine = SyntheticEngine(TIMES)
    table = measure_blocks(STACKS, engine, engine.canary, pace=PACE)
    same = still_valid(table, STACKS, engine, engine.canary, pace=PACE)
    assert same.valid
    assert block("skip") not in same.changes, "too short to be judged by"
    assert str(same).startswith("the table holds; largest change")
    slower = SyntheticEngine({name: 1.2 * us for name, us in TIMES.items()})
    changed = still_valid(table, STACKS, slower, slower.canary, pace=PACE)
    assert not changed.valid
    assert str(changed).startswith("the table is stale: measure it anew")


@pytest.mark.parametrize(
    ("changes", "canary", "valid"),
    [
        ([0.01, -0.02, 0.14], 0.0, True),
        ([0.01, -0.02, 0.16], 0.0, False),
        ([0.01, -0.02, -0.16], None, False),
        ([0.06, 0.06, 0.0], None, False),
        ([0.0], 0.06, False),
    ],
)
def test_a_table_is_stale_by_its_median_its_canary_or_one_block_alone(
    changes: list[float], canary: float | None, valid: bool
) -> None:
    found = Drift({block(f"op{place}"): change for place, change in enumerate(changes)}, canary, True, 0.05)
    assert found.valid == valid
    assert str(found).startswith("the table holds" if valid else "the table is stale")


def test_another_environment_is_refused_before_anything_is_measured() -> None:
    engine = SyntheticEngine(TIMES)
    table = measure_blocks(STACKS, engine, engine.canary, pace=PACE)
    other = SyntheticEngine(TIMES)
    other.environment = other.environment.model_copy(update={"threads": 2})
    with pytest.raises(LatencyTableError, match="another environment: threads 2, not 1"):
        still_valid(table, STACKS, other, other.canary)
    with pytest.raises(LatencyTableError, match="none of the table's blocks of at least 3 us has a stack"):
        still_valid(table, {block("skip"): STACKS[block("skip")]}, engine, engine.canary)
