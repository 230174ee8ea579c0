"""Latency budgets kept by choosing a variant for each request, against a server that always answers with one.

A deployment of three classifiers of digits (random convolutions and a readout fitted by ridge regression; 512, 128
and 16 channels) is served with one compute thread. Requests come by a Poisson process at 80 % of what the most accurate
variant alone can answer. In turns, block by block, they either carry a latency budget and the server chooses, or name
the accurate variant. The budget is a few of its runs, so that alone it misses it now and then.

The load generator is a process of its own, which shares the machine's cores with the server. What counts is the time
from the moment at which a request was meant to be sent to the last byte of its answer; of its budget the client keeps
a tenth for itself and the way. Requests that the server refuses at once (503) were not admitted; those that it gives
up on in line (504) were, and count as missed.

Run: python -m benchmarks.choice
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.figure import Figure, main
from benchmarks.random_digits import SIGNATURE, classifier, held_out_images
from deploykit.bundle_writer import write_bundle
from deploykit.making import make_runtime
from deploykit_serving.launch import running
from deploykit_serving.profiling.closed_loop import feed, record
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.http_call import HttpCall
from deploykit_serving.profiling.open_loop import open_loop
from deploykit_serving.profiling.statistics import percentile
from deploykit_serving.profiling.streams import run_streams
from deploykit_serving.runtimes import REFERENCE, open_session
from deploykit_serving.selection.deployment import Deployed, Deployment, Latency

BLOCKS: Final = 5
SECONDS: Final = 4.0
LOAD: Final = 0.8
RUNS_IN_BUDGET: Final = 6.0
WANTED: Final = 0.99
CHANNELS: Final = {"accurate": 512, "middle": 128, "fast": 16}
_STREAMS: Final = 32
_KEPT: Final = 0.9  # share of its budget that the client hands to the server


@dataclass
class Outcome:
    """What became of the requests of one kind, over all blocks.

    Attributes:
        times: seconds from the intended moment; refused requests are among them.
        answers: how many had a status and a variant.
        late: share of each block's requests that the generator sent more than 1 ms late, which counts against the
            server all the same.
    """

    times: list[float] = field(default_factory=list)
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)

    def status(self, status: int) -> int:
        """Return how many were answered with it."""
        return sum(count for (got, _), count in self.answers.items() if got == status)

    def met(self, budget: float) -> float:
        """Return the share of the admitted requests that met the budget.

        Who was refused or given up on is no success, however soon it was told: taken as within the budget and taken
        off again, which is never too kind.
        """
        refused, expired = self.status(503), self.status(504)
        good = sum(seconds <= budget for seconds in self.times) - refused - expired
        return good / (len(self.times) - refused)

    def shares(self) -> str:
        """Say which variants answered."""
        answered = self.status(200)
        by_variant = Counter({name: count for (status, name), count in self.answers.items() if status == 200})
        return ", ".join(f"{name} {count / answered:.1%}" for name, count in by_variant.most_common())

    def metric(self, metrics: dict[str, float]) -> float:
        """Return the mean metric of what was answered."""
        found = [(metrics[name], count) for (status, name), count in self.answers.items() if status == 200]
        return sum(metric * count for metric, count in found) / sum(count for _, count in found)


def measure() -> list[Figure]:
    """Serve, load in turns, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        file, metrics, seconds = _deployment(Path(folder))
        with running([file], threads=1, unproven=True) as url, _generator() as ask:
            # What the accurate variant answers when somebody always waits: its capacity over HTTP.
            run = 1 / ask(url=url, variant="accurate", budget_ms=None, rate=None, seconds=3.0, seed=0)["throughput"]
            rate, budget = LOAD / run, RUNS_IN_BUDGET * run
            chosen, fixed = Outcome(), Outcome()
            for block in range(-1, BLOCKS):
                for outcome in (chosen, fixed) if block % 2 else (fixed, chosen):
                    given = (
                        {"variant": None, "budget_ms": 1e3 * _KEPT * budget}
                        if outcome is chosen
                        else {"variant": "accurate", "budget_ms": None}
                    )
                    found = ask(url=url, rate=rate, seconds=SECONDS if block >= 0 else 1.0, seed=block + 1, **given)
                    if block >= 0:
                        _add(outcome, found)
    share, alone = chosen.met(budget), fixed.met(budget)
    admitted = len(chosen.times) - chosen.status(503)
    doubt = 1.96 * float(np.sqrt(max(share * (1 - share), 1 / admitted) / admitted))
    beside = (
        f"the accurate variant alone: {alone:.2%}, {fixed.status(503)} refused, p99 {_p99(fixed)}; chosen: p99 "
        f"{_p99(chosen)}, {chosen.status(503)} refused and {chosen.status(504)} given up of {len(chosen.times)}, "
        f"{chosen.shares()}; mean accuracy {chosen.metric(metrics):.4f} against {metrics['accurate']:.4f} (middle "
        f"{metrics['middle']:.4f}, fast {metrics['fast']:.4f}); measured p99 "
        + ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in seconds.items())
        + f"; {rate:.0f} requests a second from a process of its own on the same cores, "
        f"{np.mean(chosen.late + fixed.late):.1%} of them sent more than 1 ms late, which counts"
    )
    return [
        Figure(
            name=f"requests within a latency budget of {1e3 * budget:.1f} ms at {LOAD:.0%} of the accurate variant's "
            "capacity, the server choosing the variant",
            target=f"at least {WANTED:.0%} of the admitted",
            measured=f"{share:.2%}",
            interval=f"{share - doubt:.2%} to {min(1.0, share + doubt):.2%}, {admitted} requests in {BLOCKS} blocks",
            # A fixed variant that meets the budget as well leaves nothing to choose: such a run says nothing.
            met=share >= WANTED if alone < share else None,
            beside=beside,
        )
    ]


def _p99(outcome: Outcome) -> str:
    return f"{1e3 * float(np.quantile(outcome.times, 0.99)):.1f} ms"


def _add(outcome: Outcome, found: dict[str, Any]) -> None:
    outcome.times += found["times"]
    outcome.answers.update({(status, name): count for status, name, count in found["answers"]})
    outcome.late.append(found["behind"])


def _deployment(folder: Path) -> tuple[Path, dict[str, float], dict[str, float]]:
    """Write three classifiers as a bundle and what they measure as a deployment; accuracies and p99 by name."""
    models, metrics = {}, {}
    for name, channels in CHANNELS.items():
        models[name], metrics[name] = classifier(channels)
    manifest = {
        "name": "digits", "created": "2026-01-01T00:00:00Z", "method": "plain.passthrough", "signature": SIGNATURE,
        "variants": [{"name": name, "file": f"models/{name}.onnx"} for name in models],
    }  # fmt: skip
    files = {f"models/{name}.onnx": model for name, model in models.items()}
    bundle = write_bundle(folder / "digits.bundle", manifest, files).path
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    variants, seconds = [], {}
    for name, model in models.items():
        call = feed(open_session(model), [{"image": image[None]} for image in held_out_images()])
        record(call, seconds=0.3, at_most=100)
        found = percentile(record(call, seconds=3.0, at_least=500, at_most=5000), 0.99)
        if found.value is None:
            raise RuntimeError(f"{name}: {found.samples} runs are too few for a p99")
        seconds[name] = found.value / 1e9
        variants.append(
            Deployed(
                name=f"digits/{name}@{REFERENCE}/1", bundle=bundle.name, manifest_sha256=digest, variant=name,
                runtime=REFERENCE, runtime_version=make_runtime(REFERENCE).version(), threads=1, metric=metrics[name],
                latencies=(Latency(batch=1, ms={"p99": 1e3 * seconds[name]}),),
            )
        )  # fmt: skip
    deployment = Deployment(
        name="digits", created="2026-01-01T00:00:00Z", host=fingerprint().id, percentile=0.99,
        budget_ms=RUNS_IN_BUDGET * 1e3 * seconds["accurate"], batch=1, variants=tuple(variants),
    )  # fmt: skip
    file = folder / "deployment.json"
    file.write_text(deployment.model_dump_json())
    return file, metrics, seconds


class _Caller(HttpCall):
    """One connection that takes every answer, also a refusal, and counts by status and variant."""

    def __init__(self, url: str, request: bytes) -> None:
        super().__init__(url, [request])
        self.answers: Counter[tuple[int, str]] = Counter()

    def __call__(self) -> bytes:
        self._socket.sendall(next(self._turns))
        status, body = self._answer()
        variant = ""
        if status == 200:
            variant = json.loads(body)["parameters"]["variant"].partition("/")[2].partition("@")[0]
        self.answers[status, variant] += 1
        return body


def _load(url: str, variant: str | None, budget_ms: float | None, rate: float | None, seconds: float, seed: int) -> Any:
    """Make one block of requests, or without a rate two closed loops; what this process is for."""
    image = held_out_images()[seed]
    parameters = {} if variant is None else {"variant": variant}
    tensor = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": image.ravel().tolist()}
    body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    budget = "" if budget_ms is None else f"Latency-Budget-Ms: {budget_ms:.3f}\r\n"
    head = (
        f"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{budget}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    callers = [_Caller(url, head.encode() + body) for _ in range(_STREAMS)]
    if rate is None:
        return {"throughput": run_streams(callers[:2], seconds=seconds, at_most=10_000).throughput}
    run = open_loop(callers, rate=rate, seconds=seconds, seed=seed)
    answers: Counter[tuple[int, str]] = Counter()
    for caller in callers:
        answers.update(caller.answers)
        caller.close()
    return {
        "times": (run.times / 1e9).tolist(), "behind": run.behind, "lag": run.lag_ns,
        "answers": [[status, name, count] for (status, name), count in answers.items()],
    }  # fmt: skip


@contextmanager
def _generator() -> Iterator[Any]:
    """Yield a function that lets another process make a block of requests and returns what it saw."""
    command = [sys.executable, "-m", "benchmarks.choice", "--generate"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        into, out = process.stdin, process.stdout

        def ask(**given: Any) -> Any:
            into.write(json.dumps(given) + "\n")
            into.flush()
            return json.loads(out.readline())

        yield ask
        into.close()


if __name__ == "__main__":
    if "--generate" in sys.argv:
        for line in sys.stdin:
            print(json.dumps(_load(**json.loads(line))), flush=True)
    else:
        main(measure)
