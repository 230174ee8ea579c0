"""The variant that ``select`` answers with against everything measured anew, over a catalogue of six methods.

Six methods are trained briefly on ``digits``, exported, proven in every runtime and profiled in two of them with one
and two threads. From this first run of the profiler ``select`` answers many random budgets, impossible ones among them.
Then everything is measured again, and only that second run, which no choice has seen, says what truly was the best.

Budgets are about variants whatever the float model takes, so the slow-down guard is off: most networks here are so
small that the call itself is what takes the time.

Run: python -m benchmarks.selection
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from benchmarks.figure import Figure, main
from deploykit.bundle import open_bundle
from deploykit.cli.verify import publish, run_proofs
from deploykit.lifecycle import harden
from deploykit.making import make_runtime
from deploykit.outputs import tensors
from deploykit_export.bundle_export import export_bundle
from deploykit_export.proof_report import HopResult, ProofReport
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.profile import ProfileOptions, profile_bundle
from deploykit_serving.profiling.recorded import read_profile
from deploykit_serving.profiling.schema import PercentileEntry, Point
from deploykit_serving.selection.installed import Installed, installed_runtimes
from deploykit_serving.selection.request import Budget, Request
from deploykit_serving.selection.selection import select
from deploykit_training.training import new_record, soft_from_run, train

TASK: Final = "digits"
METRIC: Final = "accuracy"
METHODS: Final[Mapping[str, tuple[str, int]]] = {
    "plain.passthrough": ("mlp", 6),
    "quantized.ani": ("mlp", 20),
    "routed.fff": ("mlp", 6),
    "binarized.biper": ("conv", 4),
    "pruned.gate": ("conv", 4),
    "searched.darts": ("", 8),
}
RUNTIMES: Final = ("onnxruntime-cpu", "openvino-cpu")
THREADS: Final = (1, 2)
CANDIDATES: Final = 24
BUDGETS: Final = 200
WITHIN: Final = 0.03
_SECONDS: Final = 10.0
_PERCENTILES: Final = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Truth:
    """What the second run says of one candidate, and what the first said it could count on."""

    metric: float
    again: Mapping[float, float]
    bounds: Mapping[float, float]


@dataclass(slots=True)
class Tally:
    """What came of the budgets of one percentile."""

    asked: int = 0
    chosen: int = 0
    refused: int = 0
    best: int = 0
    within: int = 0
    over_bound: int = 0
    over_again: int = 0
    worst: float = 0.0


def measure() -> list[Figure]:
    """Make the catalogue, profile it, choose, and measure everything again."""
    torch.set_num_threads(1)
    runtimes = tuple(name for name in RUNTIMES if not make_runtime(name).missing())
    options = ProfileOptions(seconds=_SECONDS, threads=THREADS, largest_batch=1, runtimes=runtimes, brief=True)
    with tempfile.TemporaryDirectory() as folder:
        catalogue, second = Path(folder) / "catalogue", Path(folder) / "again"
        for method in METHODS:
            _make(method, catalogue, Path(folder) / "runs", runtimes)
        shutil.copytree(catalogue, second)
        for bundles in (catalogue, second):
            for path in sorted(bundles.iterdir()):
                profile_bundle(path, options)
        truths = _truths(catalogue, second)
        tallies = _ask(catalogue, truths)
    return _figures(truths, tallies)


def _make(method: str, catalogue: Path, runs: Path, runtimes: Sequence[str]) -> None:
    network, epochs = METHODS[method]
    train(new_record(method, {}, TASK, network=network, epochs=epochs), runs / method)
    _, soft, task = soft_from_run(runs / method)
    calibration = tensors(task.samples("calibration").inputs, task.signature)
    path = catalogue / f"{method.partition('.')[2]}.bundle"
    bundle = export_bundle(
        soft, harden(soft, calibration), path, task=TASK, network=network, calibration=calibration,
        heldout=task.samples("test"), timeout=600,
    )  # fmt: skip
    report = run_proofs(bundle, http=False, speed=False, runtimes=[name for name in runtimes if name != RUNTIMES[0]])
    # What a short training or a runtime's own rounding costs is no matter here; what it costs is in the metric.
    publish(bundle, report.model_copy(update={"accepted": "a benchmark of selection"}))


def _truths(catalogue: Path, second: Path) -> dict[str, Truth]:
    """Read both runs and the proofs without the selection's own code."""
    host, found = fingerprint().id, {}
    for path in sorted(catalogue.iterdir()):
        first, again = open_bundle(path), open_bundle(second / path.name)
        profile = read_profile(first, host)
        hops = {hop.name: hop.metric for hop in _report(path)}
        for entry in read_profile(again, host).variants:
            metric = hops.get(f"{entry.runtime} {entry.variant}")
            earlier = profile.of(entry.variant, entry.runtime, entry.threads)
            if entry.role != "hard" or metric is None or earlier is None or entry.failure or earlier.failure:
                continue
            found[f"{first.manifest.name}/{entry.name}"] = Truth(
                metric, _values(entry.point(1), "value_ms"), _values(earlier.point(1), "bound_ms")
            )
    return found


def _report(path: Path) -> tuple[HopResult, ...]:
    return ProofReport.model_validate_json(open_bundle(path).read("proofs/verify.json")).hops


def _values(point: Point | None, which: str) -> dict[float, float]:
    entries: tuple[PercentileEntry, ...] = () if point is None else point.percentiles
    found = {entry.q: getattr(entry, which) for entry in entries}
    return {share: value for share, value in found.items() if value is not None}


def _ask(catalogue: Path, truths: Mapping[str, Truth]) -> dict[float, Tally]:
    """Answer random budgets from the first run and hold the answers against both."""
    chance = random.Random(0)
    installed = installed_runtimes({name.rpartition("@")[2].partition("/")[0] for name in truths})

    def known(names: object) -> dict[str, Installed]:
        return installed

    tallies = {share: Tally() for share in _PERCENTILES}
    for _ in range(BUDGETS):
        share = chance.choice(_PERCENTILES)
        times = [truth.again[share] for truth in truths.values() if share in truth.again]
        # From what nothing meets to what everything does, evenly in the logarithm.
        ms = math.exp(chance.uniform(math.log(0.6 * min(times)), math.log(1.5 * max(times))))
        floor = chance.choice([0.0, *sorted({truth.metric for truth in truths.values()}), 1.01])
        request = Request(Budget(share, ms), floors={METRIC: floor}, allow_slower=True)
        chosen = select(catalogue, request, installed=known).chosen
        name = "" if chosen is None else chosen.candidate.name
        _count(tallies[share], truths, name, share=share, ms=ms, floor=floor)
    return tallies


def _count(tally: Tally, truths: Mapping[str, Truth], name: str, *, share: float, ms: float, floor: float) -> None:
    def meeting(budget: float) -> dict[str, Truth]:
        return {
            key: truth for key, truth in truths.items()
            if truth.metric >= floor and truth.again.get(share, math.inf) <= budget
        }  # fmt: skip

    def order(key: str) -> tuple[float, float]:
        return -truths[key].metric, truths[key].again[share]

    tally.asked += 1
    exact, tighter = (min(meeting(budget), key=order, default="") for budget in (ms, ms * (1 - WITHIN)))
    if not name:
        tally.refused += 1
        tally.best += not exact
        tally.within += not tighter
        return
    chosen = truths[name]
    tally.chosen += 1
    tally.over_bound += not (chosen.bounds[share] <= ms and chosen.metric >= floor)
    over = chosen.again.get(share, math.inf) / ms - 1.0
    tally.over_again += over > 0
    tally.worst = max(tally.worst, over)
    tally.best += name == exact
    best = truths.get(tighter)
    tally.within += (
        best is None
        or chosen.metric > best.metric
        or (chosen.metric == best.metric and chosen.again[share] <= best.again[share] * (1 + WITHIN))
    )


def _figures(truths: Mapping[str, Truth], tallies: Mapping[float, Tally]) -> list[Figure]:
    median, everything = tallies[0.5], list(tallies.values())
    asked, refused = sum(item.asked for item in everything), sum(item.refused for item in everything)
    violated = sum(item.over_bound for item in everything)
    drift = sorted(
        truth.again[0.5] / truth.bounds[0.5] - 1.0
        for truth in truths.values() if 0.5 in truth.again and 0.5 in truth.bounds
    )  # fmt: skip
    others = "; ".join(
        f"p{share * 100:g}: {item.within} of {item.asked} within {WITHIN:.0%}, {item.best} the very best"
        for share, item in tallies.items()
    )
    again = "; ".join(
        f"p{share * 100:g}: {item.over_again} of {item.chosen} answers over their budget in the second run, the worst "
        f"by {item.worst:.1%}" for share, item in tallies.items()
    )  # fmt: skip
    methods = len({name.partition("/")[0] for name in truths})
    return [
        Figure(
            name="selection, candidates that were measured twice",
            target=f"at least {CANDIDATES}",
            measured=f"{len(truths)}",
            interval=f"{methods} methods, runtimes and threads included",
            met=len(truths) >= CANDIDATES,
            beside=f"the second median lies {drift[0]:+.1%} to {drift[-1]:+.1%} from the bound of the first",
        ),
        Figure(
            name="selection, budgets violated by the answer",
            target="0",
            measured=f"{violated} of {asked}",
            interval=f"counted; {refused} budgets were refused as impossible",
            met=violated == 0 and refused > 0,
            beside=f"held against the measurements it rests on. {again}",
        ),
        Figure(
            name=f"selection, answers at p50 that are the true best or within {WITHIN:.0%}",
            target="all",
            measured=f"{median.within} of {median.asked}",
            interval="counted, by the second run",
            met=median.within == median.asked,
            beside=f"of equal metric the fastest is the best, budgets {WITHIN:.0%} tighter than asked for. {others}",
        ),
    ]


if __name__ == "__main__":
    main(measure)
