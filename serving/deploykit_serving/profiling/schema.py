"""A profile as it is written to ``profiles/<host id>.json``: every number with what it rests on."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploykit_serving.profiling.significance import SIGNIFICANCE
from deploykit_serving.profiling.statistics import Ratio

PROFILE_VERSION: Final = 2
_SMALL: Final = 0.05
FOLDER: Final = "profiles"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Host(_Part):
    """The machine a profile was taken on, without its name.

    Attributes:
        id: hash of everything here but ``memory_gib``, ``clock_mhz`` and ``load``; profiles are kept by it.
        flags: instruction sets that decide which kernels run.
        cores: logical cores of the machine.
        usable_cores: those this process may run on.
        quota: CPU time the control group grants, in cores; ``None`` without a limit.
        governor: frequency governor of the first core; empty if not readable.
        clock_mhz: clock of the first core at the time.
        load: load average of the last minute when the measurement began.
    """

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    usable_cores: int
    quota: float | None
    governor: str
    system: str
    python: str
    numpy: str
    onnxruntime: str
    memory_gib: float
    clock_mhz: float | None
    load: float | None


class Settings(_Part):
    """How it was measured.

    Attributes:
        overhead_ns: what the loop reads when it calls nothing; contained in every latency.
        inputs: ``held-out samples`` of the bundle, or ``random`` within the signature's ranges.
        canary_floor_ms: the fixed reference network at its best in this run; ``None`` if windows were not gated by it.
    """

    seconds: float
    overhead_ns: float
    inputs: Literal["held-out samples", "random"]
    canary_floor_ms: float | None = None


class Load(_Part):
    """How requests came.

    Attributes:
        kind: ``closed``: each stream waits for its answer; ``open``: Poisson arrivals, whatever the answers do, and
            latency counts from the intended time of sending.
        streams: of a closed loop; in an open one, how many requests may be under way at once.
        rate: intended requests a second of an open loop.
        through: ``process`` calls the session, ``http`` asks a server with binary tensors.
    """

    kind: Literal["closed", "open"] = "closed"
    streams: int = Field(1, ge=1)
    rate: float | None = None
    through: Literal["process", "http"] = "process"


class PercentileEntry(_Part):
    """A percentile in milliseconds; the numbers are ``None`` where fewer than ``needed`` samples were taken."""

    q: float
    samples: int
    needed: int
    value_ms: float | None
    low_ms: float | None
    high_ms: float | None
    bound_ms: float | None


class Point(_Part):
    """One variant at one batch size under one load.

    Attributes:
        stable: whether the warm-up ended with three windows within 10 %; otherwise take the figures with care.
        spread: how far the last three windows lay apart, as a share.
        calls: timed calls that were kept; the median and throughput are theirs, percentiles above it are those of all
            calls, rejected ones too.
        throughput: samples a second.
        histogram: HdrHistogram of all calls in nanoseconds, encoded as its V2 log format does (base64).
        blocks_ms: medians of consecutive blocks of kept calls, in order; what two runs are compared by.
        rejected: share of the calls in windows that the canary rejected as noisy; ``None`` without one.
        invalid: why the figures must not be used (the generator fell behind, the canary never rested); else empty.
    """

    batch: int
    load: Load = Load()
    stable: bool
    spread: float | None
    calls: int
    throughput: float
    percentiles: tuple[PercentileEntry, ...]
    histogram: str = ""
    blocks_ms: tuple[float, ...] = ()
    rejected: float | None = None
    invalid: str = ""

    def percentile(self, q: float) -> PercentileEntry | None:
        """Return the entry of one percentile, ``None`` if it was not asked for."""
        return next((entry for entry in self.percentiles if entry.q == q), None)


class ColdStart(_Part):
    """The first answer of a fresh process: imports of the runtime, load and compilation, first run; milliseconds."""

    import_ms: float
    load_ms: float
    first_ms: float


class Memory(_Part):
    """Resident memory of a process of its own: MiB more after loading, and at the peak of a run, than before.

    Attributes:
        batch: samples of that run.
    """

    loaded_mib: float
    peak_mib: float
    batch: int = Field(1, ge=1)


class Energy(_Part):
    """What a call took from the machine's own counter; ``joules`` is ``None`` where there is none to read.

    Attributes:
        source: the counter, or why there is none.
    """

    joules: float | None
    source: str


class Layer(_Part):
    """One operator as the runtime runs it, after its fusions.

    Attributes:
        share: of the time of all layers.
    """

    name: str
    operator: str
    calls: int
    median_us: float
    share: float


class Layers(_Part):
    """A breakdown from the runtime's own profiler.

    Attributes:
        batch: at which it was taken.
        inflation: median run with the profiler over median run without; figures are that much too large.
        not_run: why there is none; else empty.
    """

    batch: int
    layers: tuple[Layer, ...] = ()
    inflation: float | None = None
    not_run: str = ""


class VariantProfile(_Part):
    """One variant in one runtime with one number of threads, over its batches and loads.

    Attributes:
        sha256: of the file that was measured; a profile of another file is stale.
        runtime_version: of the runtime, see :meth:`deploykit.Runtime.version`; under another one the profile is stale.
        stopped: why the sweep ended.
        failure: how it crashed, hung or was refused, so that it has no or not all points; else empty.
        uncompared: why a hard variant has no or not all comparisons with the float baseline; else empty.
        created: when it was measured; a profile may hold entries of several calls.
    """

    variant: str
    role: Literal["hard", "baseline"]
    sha256: str
    runtime: str
    runtime_version: str
    threads: int
    points: tuple[Point, ...]
    stopped: str
    failure: str = ""
    cold_start: ColdStart | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    layers: Layers | None = None
    uncompared: str = ""
    created: str = ""

    @property
    def name(self) -> str:
        """Variant, runtime and threads in one word, as selection and reports show it: ``qlinear@onnxruntime-cpu/2``."""
        return f"{self.variant}@{self.runtime}/{self.threads}"

    def point(self, batch: int, load: Load | None = None) -> Point | None:
        """Return what was measured at a batch size under a load (by default one stream), or ``None``."""
        wanted = load or Load()
        return next((point for point in self.points if point.batch == batch and point.load == wanted), None)


class Comparison(_Part):
    """A hard variant against the float baseline, measured in turns in one runtime with one number of threads.

    Attributes:
        ratio: baseline's time over variant's time, median of the pairs; above 1 the variant is faster.
        block: calls a block; two blocks make a pair.
        p: chance of a difference at least as large if both were the same, two-sided; ``None`` if it was not tested.
    """

    variant: str
    baseline: str
    runtime: str = "onnxruntime-cpu"
    threads: int = 1
    batch: int
    ratio: float
    low: float
    high: float
    pairs: int
    block: int
    p: float | None = None

    @property
    def verdict(self) -> Literal["faster", "slower", "no difference", "undecided"]:
        """What the interval supports."""
        if self.faster:
            return "faster"
        if self.high < 1.0:
            return "slower"
        return "no difference" if self.low > 1.0 - _SMALL and self.high < 1.0 + _SMALL else "undecided"

    @property
    def faster(self) -> bool:
        """Whether the variant is faster beyond doubt: by the interval and, where one was made, by the test."""
        return self.measured.faster and (self.p is None or self.p < SIGNIFICANCE)

    @property
    def measured(self) -> Ratio:
        """Return it as the statistics' type."""
        return Ratio(ratio=self.ratio, low=self.low, high=self.high, pairs=self.pairs)

    def sentence(self) -> str:
        """Say it plainly."""
        chance = "" if self.p is None else ", p < 0.0001" if self.p < 1e-4 else f", p = {self.p:.2g}"
        usual = (self.runtime, self.threads) == ("onnxruntime-cpu", 1)
        where = "" if usual else f" in {self.runtime} with {self.threads} thread(s)"
        interval = f"95 % interval {self.low:.2f} to {self.high:.2f}, {self.pairs} pairs{chance}"
        said = {
            "faster": f"is {self.ratio:.2f} times as fast as {self.baseline}",
            "slower": f"is slower: {self.ratio:.2f} times the speed of {self.baseline}",
            "no difference": f"and {self.baseline} are equally fast within {_SMALL:.0%}: ratio {self.ratio:.2f}",
            "undecided": f"and {self.baseline} cannot be told apart: ratio {self.ratio:.2f}",
        }
        return f"{self.variant} at batch {self.batch}{where} {said[self.verdict]} ({interval})"


class Profile(_Part):
    """Everything one run of ``profile`` measured on one host."""

    version: int = PROFILE_VERSION
    created: str
    host: Host
    settings: Settings
    variants: tuple[VariantProfile, ...]
    comparisons: tuple[Comparison, ...]

    def of(self, variant: str, runtime: str = "onnxruntime-cpu", threads: int | None = None) -> VariantProfile | None:
        """Return what was measured of a variant in a runtime, by default with the fewest threads; or ``None``."""
        named = [entry for entry in self.variants if (entry.variant, entry.runtime) == (variant, runtime)]
        return min((e for e in named if threads in (None, e.threads)), key=lambda entry: entry.threads, default=None)


def profile_file(host_id: str) -> str:
    """Return where a bundle keeps the profile of a host."""
    return f"{FOLDER}/{host_id}.json"
