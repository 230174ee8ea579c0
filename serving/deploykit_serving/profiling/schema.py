"""A profile as it is written to ``profiles/<host id>.json``: every number with what it rests on."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploykit_serving.profiling.statistics import Ratio

PROFILE_VERSION: Final = 1
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
    """

    runtime: str
    threads: int
    seconds: float
    overhead_ns: float
    inputs: Literal["held-out samples", "random"]


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
    """One variant at one batch size, one stream.

    Attributes:
        stable: whether the warm-up ended with three windows within 10 %; otherwise take the figures with care.
        spread: how far the last three windows lay apart, as a share.
        calls: timed calls.
        throughput: samples a second.
    """

    batch: int
    stable: bool
    spread: float | None
    calls: int
    throughput: float
    percentiles: tuple[PercentileEntry, ...]

    def percentile(self, q: float) -> PercentileEntry | None:
        """Return the entry of one percentile, ``None`` if it was not asked for."""
        return next((entry for entry in self.percentiles if entry.q == q), None)


class VariantProfile(_Part):
    """One variant, over its batch sweep.

    Attributes:
        sha256: of the file that was measured; a profile of another file is stale.
        stopped: why the sweep ended.
    """

    variant: str
    role: Literal["hard", "baseline"]
    sha256: str
    points: tuple[Point, ...]
    stopped: str


class Comparison(_Part):
    """A hard variant against the float baseline, measured in turns.

    Attributes:
        ratio: baseline's time over variant's time, median of the pairs; above 1 the variant is faster.
        block: calls a block; two blocks make a pair.
    """

    variant: str
    baseline: str
    batch: int
    ratio: float
    low: float
    high: float
    pairs: int
    block: int

    @property
    def verdict(self) -> Literal["faster", "slower", "no difference"]:
        """What the interval supports."""
        if self.measured.faster:
            return "faster"
        return "slower" if self.high < 1.0 else "no difference"

    @property
    def measured(self) -> Ratio:
        """Return it as the statistics' type."""
        return Ratio(ratio=self.ratio, low=self.low, high=self.high, pairs=self.pairs)

    def sentence(self) -> str:
        """Say it plainly."""
        interval = f"95 % interval {self.low:.2f} to {self.high:.2f}, {self.pairs} pairs"
        who = f"{self.variant} at batch {self.batch}"
        match self.verdict:
            case "faster":
                return f"{who} is {self.ratio:.2f} times as fast as {self.baseline} ({interval})"
            case "slower":
                return f"{who} is slower: {self.ratio:.2f} times the speed of {self.baseline} ({interval})"
        return f"{who} and {self.baseline} cannot be told apart: ratio {self.ratio:.2f} ({interval})"


class Profile(_Part):
    """Everything one run of ``profile`` measured on one host."""

    version: int = PROFILE_VERSION
    created: str
    host: Host
    settings: Settings
    variants: tuple[VariantProfile, ...]
    comparisons: tuple[Comparison, ...]

    def variant(self, name: str) -> VariantProfile | None:
        """Return what was measured of a variant, or ``None``."""
        return next((entry for entry in self.variants if entry.variant == name), None)


def profile_file(host_id: str) -> str:
    """Return where a bundle keeps the profile of a host."""
    return f"{FOLDER}/{host_id}.json"
