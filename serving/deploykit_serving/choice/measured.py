"""The variants of a deployment as requests choose among them: metric, measured latency, and how that holds here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from deploykit.choice import Candidate
from deploykit_serving.choice.prediction import Correction, LatencyCurve
from deploykit_serving.selection.deployment import Deployment
from deploykit_serving.selection.units import percentile_name


@dataclass(slots=True)
class MeasuredVariant:
    """One of them.

    Attributes:
        threads: that it was measured with and runs with.
        single: whether it takes one sample at a time.
        corrections: for requests without and with the decoder, whose time the measurement does not hold.
    """

    name: str
    metric: float | None
    threads: int
    single: bool
    curve: LatencyCurve
    corrections: tuple[Correction, Correction]


@dataclass(slots=True)
class MeasuredVariants:
    """All of them, in the deployment's order; used on the thread of the event loop alone.

    Attributes:
        foreign: why the latencies may not hold here, if somebody accepted that; else empty.
    """

    deployment: Deployment
    foreign: str
    variants: tuple[MeasuredVariant, ...]
    _by_name: dict[str, MeasuredVariant] = field(init=False)

    def __post_init__(self) -> None:
        self._by_name = {variant.name: variant for variant in self.variants}

    @classmethod
    def of(cls, deployment: Deployment, singles: Sequence[bool], foreign: str = "") -> MeasuredVariants:
        """Return what a deployment file says.

        Args:
            singles: for each variant whether it takes one sample at a time.

        Raises:
            ValueError: a variant's latencies lack the deployment's percentile; names it.
        """
        percentile, share = percentile_name(deployment.percentile), deployment.percentile
        variants: list[MeasuredVariant] = []
        for entry, single in zip(deployment.variants, singles, strict=True):
            try:
                curve = LatencyCurve(entry.latencies, percentile)
            except ValueError as error:
                raise ValueError(f"variant {entry.name!r}: {error}") from None
            corrections = (Correction(share), Correction(share))
            variants.append(MeasuredVariant(entry.name, entry.metric, entry.threads, single, curve, corrections))
        return cls(deployment, foreign, tuple(variants))

    @property
    def widest(self) -> int:
        """The largest number of threads that one of them runs with."""
        return max(variant.threads for variant in self.variants)

    def candidates(self, size: float, batch: int, decode: bool, now: float, only: str = "") -> list[Candidate]:
        """Return who could answer a request, with the predicted seconds.

        Args:
            size: of its inputs, in samples like those that were measured.
            batch: samples in it.
            decode: whether the decoder is applied.
            now: by :func:`time.perf_counter`.
            only: name of the one that shall answer.
        """
        return [
            Candidate(
                variant.name, variant.metric, variant.curve.seconds(size) * variant.corrections[decode].factor(now)
            )
            for variant in ((self._by_name[only],) if only else self.variants)
            if batch == 1 or not variant.single
        ]

    def patience(self, size: float) -> float:
        """Return the seconds within which a request of this size that names no budget should be answered.

        That is the deployment's budget, grown as the first variant's time grows with the number of samples.
        """
        curve = self.variants[0].curve
        return self.deployment.budget_ms / 1e3 * curve.seconds(size) / curve.seconds(self.deployment.batch)

    def observe(self, name: str, size: float, decode: bool, seconds: float, now: float) -> None:
        """Take in how long a variant took for a request."""
        variant = self._by_name[name]
        variant.corrections[decode].observe(seconds / variant.curve.seconds(size), now)

    def facts(self) -> dict[str, str | bool | float]:
        """Return what the model's metadata say of it."""
        facts: dict[str, str | bool | float] = {
            "latency_percentile": percentile_name(self.deployment.percentile),
            "latency_budget_ms": self.deployment.budget_ms,
        }
        if self.foreign:
            facts["foreign_latencies"] = self.foreign
        return facts
