"""Everything about CUDA and TensorRT that a machine without a GPU cannot tell, in one go.

First the promises of every GPU runtime, as the tests hold them. Then for each bundle, variant and GPU runtime: the
model loads without a silent fall-back and loads again, its answers equal ONNX Runtime's on the CPU within what the
method promised, two runs agree, so do four threads, a batch beyond the engine's profile is answered in parts, and
latency and speed against the float baseline on the same runtime are measured. All of it is written to a JSON file with
the host it was seen on.

Run: python -m benchmarks.gpu BUNDLE ... [--json FILE]
Exit codes: 0 every check that could run passed · 1 one failed · 2 not run: no GPU found (so that nobody takes it for a
success).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np

from deploykit.bundle import Bundle, open_bundle
from deploykit.hard_form import FLOAT32, Tolerance
from deploykit.making import make_runtime
from deploykit.manifest import VariantEntry
from deploykit_export.gap import max_absolute, within
from deploykit_serving.profiling.closed_loop import feed, record, settle
from deploykit_serving.profiling.host import fingerprint
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.profiling.sample_inputs import SampleInputs
from deploykit_serving.profiling.statistics import Percentile, percentile
from deploykit_serving.runtimes import Session, open_session, open_variant
from deploykit_serving.runtimes.availability import availability
from deploykit_serving.runtimes.nvidia_gpu import Gpu, find_gpu

Opener = Callable[[Bundle, VariantEntry], Session]
Status = Literal["passed", "failed", "measured", "not run"]
NOT_RUN: Final = 2
_SECONDS: Final = 2.0
_BATCHES: Final = (1, 64)
_BEYOND: Final = 100
_CONTRACTS: Final = str(Path(__file__).parent.parent / "tests" / "plugins" / "test_engine_contracts.py")
_TARGET_OF: Final[Mapping[str, str]] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt"}
"""Which of a variant's targets a runtime serves; the float baseline is tried everywhere."""


class _MissingError(Exception):
    """A runtime that is not here; that is no failure."""


def opener(runtime: str) -> Opener:
    """Return what opens variants in a registered runtime."""

    def opens(bundle: Bundle, entry: VariantEntry) -> Session:
        if reason := make_runtime(runtime).missing():
            raise _MissingError(reason)
        return open_variant(bundle, entry, runtime)

    return opens


OPENERS: Final[Mapping[str, Opener]] = {name: opener(name) for name in ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx")}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one variant did on one runtime."""

    bundle: str
    variant: str
    runtime: str
    check: str
    status: Status
    detail: str

    def line(self) -> str:
        """Return it as one line."""
        return f"{self.bundle} {self.variant} on {self.runtime}: {self.check}: {self.status}: {self.detail}"


def planned(bundle: Bundle, runtimes: Iterable[str] = tuple(OPENERS)) -> list[tuple[VariantEntry, str]]:
    """Return which variants are to be run on which runtimes, the float baseline first."""
    entries = sorted(bundle.manifest.variants, key=lambda entry: entry.role != "baseline")
    return [
        (entry, runtime) for runtime in runtimes for entry in entries
        if entry.role == "baseline" or _TARGET_OF.get(runtime, "onnxruntime") in entry.targets
    ]  # fmt: skip


def check_bundle(
    bundle: Bundle, openers: Mapping[str, Opener] = OPENERS, *, seconds: float = _SECONDS
) -> list[Outcome]:
    """Run and measure every planned pair; what fails or is missing is an outcome, not an exception."""
    outcomes: list[Outcome] = []
    baselines: dict[str, Session] = {}
    for entry, runtime in planned(bundle, openers):
        say = _Saying(bundle.manifest.name, entry.name, runtime, outcomes)
        try:
            session = _opened(bundle, entry, openers[runtime], say)
            _check_answers(bundle, entry, session, say)
            _check_sharing(bundle, entry, session, say)
            _measure(bundle, entry, session, baselines.get(runtime), say, seconds)
            if entry.role == "baseline":
                baselines[runtime] = session
        except _MissingError as error:
            say("load", "not run", str(error))
        except Exception as error:  # a native runtime may raise anything; the other pairs go on
            say("run", "failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return outcomes


@dataclass(frozen=True, slots=True)
class _Saying:
    bundle: str
    variant: str
    runtime: str
    outcomes: list[Outcome]

    def __call__(self, check: str, status: Status, detail: str) -> None:
        self.outcomes.append(Outcome(self.bundle, self.variant, self.runtime, check, status, detail))
        print(self.outcomes[-1].line(), flush=True)


def _opened(bundle: Bundle, entry: VariantEntry, opener: Opener, say: _Saying) -> Session:
    """Open twice: the second time an engine should be kept from the first."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        session = opener(bundle, entry)
        seconds.append(time.perf_counter() - started)
    say("opening", "measured", f"{seconds[0]:.2f} s, again {seconds[1]:.2f} s")
    return session


def _check_answers(bundle: Bundle, entry: VariantEntry, session: Session, say: _Saying) -> None:
    reference = open_session(bundle.read(entry.file))
    promised = bundle.manifest.promise.tolerance.value()
    # What was promised is the hard form's; the float baseline is held to what float32 allows.
    tolerance: Tolerance = FLOAT32 if entry.role == "baseline" else promised
    for batch in _batches(bundle, entry, (*_BATCHES, _BEYOND)):
        inputs = SampleInputs(bundle).batches(batch, at_most=1)[0]
        wanted, got, again = reference.run(inputs), session.run(inputs), session.run(inputs)
        largest = max_absolute(got, wanted)
        close = within(got, wanted, tolerance)
        text = f"largest difference {largest:.3g}, wanted {_text(tolerance)}"
        say(f"answers at batch {batch} equal the CPU's", "passed" if close else "failed", text)
        same = all(np.array_equal(got[name], again[name]) for name in got)
        say(f"two runs at batch {batch} agree", "passed" if same else "failed", "equal" if same else "they differ")


def _check_sharing(bundle: Bundle, entry: VariantEntry, session: Session, say: _Saying) -> None:
    inputs = SampleInputs(bundle).batches(max(1, SampleInputs(bundle).smallest_batch), at_most=4)
    alone = [session.run(item) for item in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(session.run, inputs * 8))
    same = all(
        np.array_equal(answer[name], alone[index % len(inputs)][name])
        for index, answer in enumerate(together) for name in answer
    )  # fmt: skip
    say("four threads get what one gets", "passed" if same else "failed", "equal" if same else "they differ")


def _measure(
    bundle: Bundle, entry: VariantEntry, session: Session, baseline: Session | None, say: _Saying, seconds: float
) -> None:
    for batch in _batches(bundle, entry):
        inputs = SampleInputs(bundle).batches(batch)
        call = feed(session, inputs)
        stability = settle(call, seconds=seconds / 2)
        times = record(call, seconds=seconds, at_most=100_000, at_least=7) / 1e6
        numbers = [_words(percentile(times, q)) for q in (0.5, 0.9, 0.99)]
        state = "stable" if stability.stable else "NOT stable"
        say(f"latency at batch {batch}, copies included", "measured", f"{', '.join(numbers)}; {state}")
        if baseline is not None:
            other = feed(baseline, inputs)
            settle(other, seconds=seconds / 2)
            found = interleave(other, call, seconds=seconds).ratio
            text = f"{found.ratio:.2f}x ({found.low:.2f} to {found.high:.2f}, {found.pairs} pairs)"
            say(f"speed against float at batch {batch}", "measured", text)


def _batches(bundle: Bundle, entry: VariantEntry, batches: Sequence[int] = _BATCHES) -> list[int]:
    inputs = SampleInputs(bundle)
    legal = inputs.largest_batch if entry.dynamic_batch else 1
    return sorted({max(inputs.smallest_batch, batch if legal is None else min(batch, legal)) for batch in batches})


def _words(found: Percentile) -> str:
    name = f"p{found.q * 100:g}"
    return f"{name} refused, needs {found.needed} calls" if found.value is None else f"{name} {found.value:.4g} ms"


def _text(tolerance: Tolerance) -> str:
    return "none" if tolerance.exact else f"{tolerance.absolute:g} + {tolerance.relative:g} x |value|"


def check_contracts() -> list[Outcome]:
    """Run the contract suite of every runtime in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", _CONTRACTS, "-k", "runtime"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]])[-1]
    status: Status = "failed" if done.returncode else "passed"
    return [Outcome("", "", "every runtime", "contract suite", status, "; ".join([*found, last]))]


def main(arguments: Sequence[str]) -> int:
    """Check the bundles, or say what would be checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("bundles", nargs="*")
    parser.add_argument("--json", default="gpu-report.json", type=Path, help="where to write what was seen")
    given = parser.parse_args(arguments)
    if not given.bundles:
        print("wanted at least one bundle: python -m benchmarks.gpu BUNDLE ...", file=sys.stderr)
        return 1
    bundles = [open_bundle(path) for path in given.bundles]
    gpu = find_gpu()
    if gpu is None:
        for bundle in bundles:
            for entry, runtime in planned(bundle):
                print(f"would check: {bundle.manifest.name} {entry.name} on {runtime}: answers, repeatability, latency")
        print("not run: no GPU found")
        return NOT_RUN
    print(gpu.text())
    outcomes = [*check_contracts(), *(outcome for bundle in bundles for outcome in check_bundle(bundle))]
    write_report(given.json, gpu, outcomes)
    counts = {status: sum(item.status == status for item in outcomes) for status in ("passed", "failed", "not run")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


def write_report(path: Path, gpu: Gpu, outcomes: Sequence[Outcome]) -> None:
    """Write what was seen, and where, in one step."""
    content = {
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host": fingerprint().model_dump(mode="json"),
        "gpu": asdict(gpu),
        "runtimes": [asdict(item) for item in availability()],
        "outcomes": [asdict(item) for item in outcomes],
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
