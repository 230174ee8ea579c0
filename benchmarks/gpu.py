"""Everything about CUDA and TensorRT that a machine without a GPU cannot tell, in one go.

For each bundle, variant and GPU runtime: the model loads without a silent fall-back, its answers equal ONNX Runtime's
on the CPU within what the method promised, two runs agree, and latency and speed against the float baseline on the same
runtime are measured.

Run: python -m benchmarks.gpu BUNDLE ...
Exit codes: 0 every check that could run passed · 1 one failed · 2 not run: no GPU found (so that nobody takes it for a
success).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from benchmarks.gpu_sessions import OPENERS, TARGET_OF, Opener
from deploykit.bundle import Bundle, open_bundle
from deploykit.errors import MissingExtraError
from deploykit.hard_form import FLOAT32, Tolerance
from deploykit.manifest import VariantEntry
from deploykit_export.gap import max_absolute, within
from deploykit_serving.profiling.closed_loop import feed, record, settle
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.profiling.sample_inputs import SampleInputs
from deploykit_serving.profiling.statistics import Percentile, percentile
from deploykit_serving.runtimes import Session, open_session

NOT_RUN: Final = 2
_SECONDS: Final = 2.0
_BATCHES: Final = (1, 64)


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU, its driver, and its compute capability as TensorRT writes it (``SM89``)."""

    name: str
    driver: str
    target: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one variant did on one runtime."""

    bundle: str
    variant: str
    runtime: str
    check: str
    status: Literal["passed", "failed", "measured", "not run"]
    detail: str

    def line(self) -> str:
        """Return it as one line."""
        return f"{self.bundle} {self.variant} on {self.runtime}: {self.check}: {self.status}: {self.detail}"


def find_gpu() -> Gpu | None:
    """Ask the driver for the first GPU; ``None`` if there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return None
    return read_gpu(lines[0])


def read_gpu(line: str) -> Gpu | None:
    """Read one line of the driver's answer; ``None`` if it is no such line."""
    words = [word.strip() for word in line.split(",")]
    if len(words) != 3 or not words[2].replace(".", "").isdigit():
        return None
    return Gpu(name=words[0], driver=words[1], target=f"SM{words[2].replace('.', '')}")


def planned(bundle: Bundle, runtimes: Iterable[str] = tuple(OPENERS)) -> list[tuple[VariantEntry, str]]:
    """Return which variants are to be run on which runtimes, the float baseline first."""
    entries = sorted(bundle.manifest.variants, key=lambda entry: entry.role != "baseline")
    return [
        (entry, runtime)
        for runtime in runtimes
        for entry in entries
        if entry.role == "baseline" or TARGET_OF.get(runtime, "onnxruntime") in entry.targets
    ]


def check_bundle(
    bundle: Bundle, openers: Mapping[str, Opener] = OPENERS, *, target: str = "", seconds: float = _SECONDS
) -> list[Outcome]:
    """Run and measure every planned pair; what fails or is missing is an outcome, not an exception."""
    outcomes: list[Outcome] = []
    baselines: dict[str, Session] = {}
    for entry, runtime in planned(bundle, openers):
        say = _Saying(bundle.manifest.name, entry.name, runtime, outcomes)
        try:
            session = openers[runtime](bundle.read(entry.file), bundle.manifest.signature, target)
            _check_answers(bundle, entry, session, say)
            _measure(bundle, entry, session, baselines.get(runtime), say, seconds)
            if entry.role == "baseline":
                baselines[runtime] = session
        except MissingExtraError as error:
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

    def __call__(self, check: str, status: Literal["passed", "failed", "measured", "not run"], detail: str) -> None:
        self.outcomes.append(Outcome(self.bundle, self.variant, self.runtime, check, status, detail))
        print(self.outcomes[-1].line(), flush=True)


def _check_answers(bundle: Bundle, entry: VariantEntry, session: Session, say: _Saying) -> None:
    reference = open_session(bundle.read(entry.file))
    promised = bundle.manifest.promise.tolerance.value()
    # What was promised is the hard form's; the float baseline is held to what float32 allows.
    tolerance: Tolerance = FLOAT32 if entry.role == "baseline" else promised
    for batch in _batches(bundle, entry):
        inputs = SampleInputs(bundle).batches(batch, at_most=1)[0]
        wanted, got, again = reference.run(inputs), session.run(inputs), session.run(inputs)
        largest = max_absolute(got, wanted)
        close = within(got, wanted, tolerance)
        text = f"largest difference {largest:.3g}, wanted {_text(tolerance)}"
        say(f"answers at batch {batch} equal the CPU's", "passed" if close else "failed", text)
        same = all(np.array_equal(got[name], again[name]) for name in got)
        say(f"two runs at batch {batch} agree", "passed" if same else "failed", "equal" if same else "they differ")


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


def _batches(bundle: Bundle, entry: VariantEntry) -> list[int]:
    inputs = SampleInputs(bundle)
    legal = inputs.largest_batch if entry.dynamic_batch else 1
    return sorted({max(inputs.smallest_batch, batch if legal is None else min(batch, legal)) for batch in _BATCHES})


def _words(found: Percentile) -> str:
    name = f"p{found.q * 100:g}"
    return f"{name} refused, needs {found.needed} calls" if found.value is None else f"{name} {found.value:.4g} ms"


def _text(tolerance: Tolerance) -> str:
    return "none" if tolerance.exact else f"{tolerance.absolute:g} + {tolerance.relative:g} x |value|"


def main(paths: Sequence[str]) -> int:
    """Check the bundles, or say what would be checked."""
    if not paths:
        print("wanted at least one bundle: python -m benchmarks.gpu BUNDLE ...", file=sys.stderr)
        return 1
    bundles = [open_bundle(path) for path in paths]
    gpu = find_gpu()
    if gpu is None:
        for bundle in bundles:
            for entry, runtime in planned(bundle):
                print(f"would check: {bundle.manifest.name} {entry.name} on {runtime}: answers, repeatability, latency")
        print("not run: no GPU found")
        return NOT_RUN
    print(f"{gpu.name}, driver {gpu.driver}, {gpu.target}")
    outcomes = [outcome for bundle in bundles for outcome in check_bundle(bundle, target=gpu.target)]
    counts = {status: sum(item.status == status for item in outcomes) for status in ("passed", "failed", "not run")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
