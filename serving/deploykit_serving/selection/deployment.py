"""A deployment file: what ``select`` chose, its alternatives, and the measurements the choice rests on."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEPLOYMENT_VERSION: Final = 1
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(_Part):
    """Bounds in milliseconds for one call at a batch size, one stream: percentiles by name, ``p50`` or ``p99.9``.

    They are what ``select`` judges by: with 99 % confidence the true percentile is not above them. Only percentiles
    that the sample supports are here.
    """

    batch: int = Field(ge=1)
    ms: dict[str, Milliseconds]


class Deployed(_Part):
    """One variant that a deployment may answer with.

    Attributes:
        name: unique in the file: ``BUNDLE/VARIANT@RUNTIME/THREADS``, BUNDLE being the bundle's own name.
        bundle: path of the bundle, relative to the deployment file, with forward slashes.
        manifest_sha256: hash of the bundle's ``manifest.json``, which holds the hashes of all its files.
        metric: as ``verify`` found it for this file in this runtime, larger is better; ``None`` if unknown.
        bound_ms: what was held against the budget: the bound of its percentile at its batch size and load.
        latencies: by batch size, ascending, each once.
    """

    name: str
    bundle: str
    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    variant: str
    runtime: str
    runtime_version: str
    threads: int = Field(ge=1)
    metric: Finite | None
    bound_ms: Milliseconds | None = None
    latencies: tuple[Latency, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _batches_ascend(self) -> Deployed:
        batches = [latency.batch for latency in self.latencies]
        if batches != sorted(set(batches)):
            raise ValueError(f"variant {self.name!r}: batches must ascend, each once, got {batches}")
        return self


class Deployment(_Part):
    """What ``select`` answers with; ``serve`` takes it in place of a bundle.

    Attributes:
        name: the model's name at the server.
        host: id of the host that everything was measured on; see :class:`deploykit_serving.profiling.schema.Host`.
        percentile: the one the budget was about, as a share: 0.99.
        budget_ms: what ``select`` was asked for.
        floors: least metric by name that was asked for.
        batch: batch size that the budget was about.
        load: how requests came that the budget was about, as ``select --load`` takes it.
        variants: the chosen one first, then the alternatives on the Pareto front, the best metric first.
    """

    version: int = DEPLOYMENT_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    created: str
    host: str
    percentile: float = Field(gt=0, lt=1)
    budget_ms: Milliseconds
    floors: dict[str, Finite] = Field(default_factory=dict)
    batch: int = Field(ge=1)
    load: str = "closed:1"
    variants: tuple[Deployed, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Deployment:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"variant names must be unique, got {names}")
        return self
