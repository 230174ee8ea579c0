"""What has been found of each unit of a plan so far: put together from records, and turned into a profile's entries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from deploykit_serving.profiling.journal import Record
from deploykit_serving.profiling.plan import Unit
from deploykit_serving.profiling.schema import (
    ColdStart,
    Comparison,
    Energy,
    Layers,
    Memory,
    Point,
    VariantProfile,
)


@dataclass(slots=True)
class Found:
    """What is known of one unit.

    Attributes:
        stopped: why its sweep ended; empty while it has not.
        failure: why it has no or not all figures.
        ended: nothing is left to do.
        records: how many measurements it rests on.
    """

    points: list[Point] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    cold_start: ColdStart | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    layers: Layers | None = None
    stopped: str = ""
    failure: str = ""
    ended: bool = False
    records: int = 0

    def add(self, record: Record) -> None:
        """Take a record in."""
        if record.point is not None:
            self.points.append(record.point)
        if record.comparison is not None:
            self.comparisons.append(record.comparison)
        self.cold_start = record.cold_start or self.cold_start
        self.memory = record.memory or self.memory
        self.energy = record.energy or self.energy
        self.layers = record.layers or self.layers
        self.stopped = record.stopped or self.stopped
        self.failure = record.failure or self.failure
        self.ended = self.ended or record.ended
        parts = (record.point, record.comparison, record.cold_start, record.memory, record.energy, record.layers)
        self.records += sum(part is not None for part in parts) + bool(record.failure)


@dataclass(slots=True)
class Findings:
    """What is known of all units.

    Attributes:
        overhead_ns: what the loop reads when it calls nothing, the smallest that was seen.
        canary_floor_ms: the reference network at its best.
    """

    by_unit: dict[str, Found] = field(default_factory=dict)
    overhead_ns: float | None = None
    canary_floor_ms: float | None = None

    def add(self, record: Record) -> None:
        """Take a record in."""
        self.by_unit.setdefault(record.unit, Found()).add(record)
        self.overhead_ns = _least(self.overhead_ns, record.overhead_ns)
        self.canary_floor_ms = _least(self.canary_floor_ms, record.canary_floor_ms)

    @property
    def count(self) -> int:
        """How many measurements there are."""
        return sum(found.records for found in self.by_unit.values())

    def of(self, unit: Unit) -> Found:
        """Return what is known of a unit; nothing at the beginning."""
        return self.by_unit.setdefault(unit.key, Found())


def variant_entries(units: Iterable[Unit], findings: Findings, created: str) -> tuple[VariantProfile, ...]:
    """Return the entries of a profile, one for each unit that swept."""
    units = tuple(units)
    uncompared = {
        _what(unit): findings.of(unit).failure for unit in units if unit.job.kind == "compare"
    }  # fmt: skip
    entries = []
    for unit in units:
        if unit.job.kind != "sweep":
            continue
        found = findings.of(unit)
        entries.append(
            VariantProfile(
                variant=unit.entry.name,
                role=unit.entry.role,
                sha256=unit.sha256,
                runtime=unit.job.runtime,
                runtime_version=unit.version,
                threads=unit.job.threads,
                points=tuple(found.points),
                stopped=found.stopped,
                failure=found.failure,
                cold_start=found.cold_start,
                memory=found.memory,
                energy=found.energy,
                layers=found.layers,
                uncompared=uncompared.get(_what(unit), ""),
                created=created,
            )
        )
    return tuple(entries)


def comparisons(units: Iterable[Unit], findings: Findings) -> tuple[Comparison, ...]:
    """Return all comparisons with the baseline."""
    return tuple(item for unit in units if unit.job.kind == "compare" for item in findings.of(unit).comparisons)


def _what(unit: Unit) -> tuple[str, str, int]:
    return unit.job.variant, unit.job.runtime, unit.job.threads


def _least(one: float | None, other: float | None) -> float | None:
    given = [value for value in (one, other) if value is not None]
    return min(given, default=None)
