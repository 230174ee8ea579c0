"""A deployment whose only lane stands still: what the line changes, and what is refused or given up in it."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from deploykit.runtime import Runtime, RuntimeOptions, Session
from deploykit.signature import Arrays
from deploykit.testing import offered
from deploykit_serving.front import Front
from deploykit_serving.loading import load_models
from deploykit_serving.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from tests.serving.conftest import WriteAffine
from tests.serving.deployment_files import (
    MS,
    Reply,
    asked,
    front,
    name_of,
    proven,
    three,
    write_deployment,
)

PATIENCE = 30.0
VARIANTS = [{"name": name, "file": "models/onnx.onnx"} for name in ("slow", "middle", "fast")]


class Gated(Runtime):
    """Runs like the reference, but not while ``hold`` is set."""

    hold: ClassVar[threading.Event] = threading.Event()
    runs: ClassVar[list[int]] = []

    def open_session(self, model: bytes, options: RuntimeOptions) -> Session:
        return _GatedSession(OnnxRuntimeCpu().open_session(model, options))


class _GatedSession:
    def __init__(self, inner: Session) -> None:
        self.inner = inner

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        Gated.runs.append(len(inputs["x"]))
        assert Gated.hold.wait(PATIENCE)
        return self.inner.run(inputs)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, write_affine: WriteAffine) -> Path:
    return proven(write_affine(tmp_path_factory.mktemp("deployed"), variants=VARIANTS), "gated")


@pytest.fixture(scope="module")
def gated(bundle: Path) -> Iterator[Path]:
    Gated.hold.set()
    with offered(runtimes={"gated": Gated}):
        yield write_deployment(bundle.parent, *three(bundle, runtime="gated", runtime_version=""), file="gated.json")


@pytest.fixture
def held(gated: Path) -> Iterator[tuple[Front, CollectorRegistry]]:
    """An application whose only lane stands still until ``Gated.hold`` is set."""
    models = load_models([gated])
    Gated.runs.clear()
    Gated.hold.clear()
    yield front(models, threads=1, queue=8)
    Gated.hold.set()


async def until(condition: Any) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < PATIENCE, "it never happened"
        await asyncio.sleep(0.005)


def test_the_queue_steps_down_then_refuses_and_says_when_to_come_again(held: tuple[Front, CollectorRegistry]) -> None:
    app, registry = held

    async def main() -> list[Reply]:
        first = asyncio.ensure_future(asked(app, variant="slow"))
        await until(lambda: Gated.runs)
        # The one that runs is predicted to end in 400 ms, or if it overran, nobody knows when: only minutes are sure.
        rest = [asyncio.ensure_future(asked(app, latency_budget_ms=60_000)) for _ in range(3)]
        await asyncio.sleep(0)
        late = [await asked(app, latency_budget_ms=budget) for budget in (500, 11)]
        Gated.hold.set()
        return [await first, *[await task for task in rest], *late]

    first, *rest, long, short = asyncio.run(main())
    assert [reply.variant for reply in (first, *rest)] == ["slow"] * 4
    assert (long.status, short.status) == (503, 503)
    # Three slow ones are ahead of it, 400 ms each.
    assert "no variant can answer within 500 ms" in long.error
    waited = re.search(r"after waiting ([\d.e+]+) s", long.error)
    assert waited
    assert float(waited[1]) >= 1.2
    assert int(long.headers["retry-after"]) >= 1
    assert int(short.headers["retry-after"]) >= 2
    assert _choices(app, registry) == {("none", "refused"): 2, (name_of("slow", runtime="gated"), "chosen"): 3,
                                  (name_of("slow", runtime="gated"), "named"): 1}  # fmt: skip


def test_without_a_budget_an_overload_steps_down_before_it_sheds(held: tuple[Front, CollectorRegistry]) -> None:
    app, registry = held

    async def main() -> list[Reply]:
        tasks = []
        for number in range(9):  # one runs and eight wait
            tasks.append(asyncio.ensure_future(asked(app)))
            await until(lambda: Gated.runs)
            await until(lambda number=number: len(_inside(app)) == number + 1)
        full = await asked(app)
        Gated.hold.set()
        return [full, *[await task for task in tasks]]

    full, *answers = asyncio.run(main())
    assert full.status == 503
    assert "too many requests are waiting" in full.error
    assert int(full.headers["retry-after"]) >= 1
    order = [reply.variant for reply in answers]
    assert order[0] == "slow"
    # Within the 500 ms of the deployment a second slow one cannot be done, and soon no middle one either.
    assert "slow" not in order[1:]
    assert order[-1] == "fast"
    counts = _choices(app, registry)
    assert counts.pop(("none", "refused")) == 1
    assert counts.pop((name_of("slow", runtime="gated"), "chosen")) == 1
    assert sum(counts.values()) == 8
    assert {reason for _, reason in counts} == {"stepped_down"}


def test_who_waited_beyond_the_budget_is_not_computed(held: tuple[Front, CollectorRegistry]) -> None:
    app, registry = held

    async def main() -> tuple[Reply, int]:
        first = asyncio.ensure_future(asked(app, rows=3, variant="fast"))
        await until(lambda: Gated.runs)
        second = asyncio.ensure_future(asked(app, rows=2, latency_budget_ms=1_000))
        await until(lambda: len(_inside(app)) == 2 or second.done())
        await asyncio.sleep(1.1)
        Gated.hold.set()
        await first
        return await second, len(Gated.runs)

    reply, runs = asyncio.run(main())
    if reply.status == 503:  # a machine so busy that the first one had overrun already when the second came
        pytest.skip("the machine is too busy: the second request came a second after the first")
    assert reply.status == 504
    assert "beyond the budget of 1 s; nothing was computed" in reply.error
    assert runs == 1
    assert _choices(app, registry)["none", "expired"] == 1


def test_whose_turn_came_late_gets_a_faster_variant(bundle: Path, held: tuple[Front, CollectorRegistry]) -> None:
    # The one that runs is taken for quick, so the next one is given the slow variant; but it hangs for a while.
    ms = {**MS, "slow": 9_000.0}
    file = write_deployment(bundle.parent, *three(bundle, ms, runtime="gated", runtime_version=""), file="late.json")
    Gated.hold.set()
    app, registry = front(load_models([file]), threads=1)
    Gated.runs.clear()
    Gated.hold.clear()

    async def main() -> Reply:
        first = asyncio.ensure_future(asked(app, variant="fast"))
        await until(lambda: Gated.runs)
        second = asyncio.ensure_future(asked(app, latency_budget_ms=10_000))
        await until(lambda: len(_inside(app)) == 2)
        await asyncio.sleep(1.1)
        Gated.hold.set()
        await first
        return await second

    reply = asyncio.run(main())
    assert reply.variant == "middle"
    assert _choices(app, registry)[reply.headers["deploykit-variant"], "stepped_down"] == 1
    assert int(reply.headers["deploykit-queue-us"]) >= 1_000_000


def _inside(app: Front) -> Sequence[Any]:
    opened = app._data_plane._dispatcher._opened
    return [] if opened is None else list(opened[0]._inside)


def _choices(app: Front, registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Return the counts by variant and reason."""
    app._metrics.flush()
    return {
        (sample.labels["variant"], sample.labels["reason"]): sample.value
        for metric in registry.collect() if metric.name == "deploykit_choices"
        for sample in metric.samples if sample.name.endswith("_total")
    }  # fmt: skip
