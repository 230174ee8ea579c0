"""What is drawn as one line or one kind of point: a variant in a runtime with a number of threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deploykit_serving.profiling.schema import PercentileEntry, Point, VariantProfile
from deploykit_serving.report.subject import Subject


@dataclass(frozen=True, slots=True)
class Series:
    """A variant in a runtime with a number of threads, as measured.

    Attributes:
        index: counts through the whole report; decides colour and marker, so that both are the same in every chart.
        name: unique in the report: ``BUNDLE/VARIANT@RUNTIME/THREADS``.
        label: the shortest part of the name that is still unique.
    """

    index: int
    name: str
    label: str
    subject: Subject
    measured: VariantProfile

    @property
    def metric(self) -> float | None:
        """The task's metric, larger is better, as ``verify`` found it for this file in this runtime."""
        return self.subject.metric_in(self.measured.runtime, self.measured.variant)

    @property
    def group(self) -> tuple[str, str]:
        """Task and metric's name: only within one of them are metrics comparable."""
        proofs = self.subject.proofs
        return self.subject.manifest.task, "" if proofs is None else proofs.metric_name

    @property
    def single(self) -> Point | None:
        """The point of one stream in the process at the smallest batch."""
        return min(self.sweep, key=lambda point: point.batch, default=None)

    @property
    def sweep(self) -> list[Point]:
        """The points of one stream in the process, by batch."""
        points = [point for point in self.measured.points if plain(point)]
        return sorted(points, key=lambda point: point.batch)

    @property
    def loaded(self) -> list[Point]:
        """The other points: several streams, arrivals that do not wait, or through HTTP."""
        return [point for point in self.measured.points if not plain(point)]

    def latency(self, q: float) -> PercentileEntry | None:
        """Return a percentile of the single point; ``None`` if it was not asked for, refused, or may not be used."""
        point = self.single
        entry = None if point is None or point.invalid else point.percentile(q)
        return None if entry is None or entry.value_ms is None else entry


def plain(point: Point) -> bool:
    """Whether a point is of one closed-loop stream in the process."""
    return (point.load.kind, point.load.streams, point.load.through) == ("closed", 1, "process")


def line_up(subjects: Sequence[Subject]) -> list[Series]:
    """Return every measured series of some bundles, named."""
    names = Counter(subject.manifest.name for subject in subjects)
    entries = []
    for subject in subjects:
        # Two bundles may have one name; then the path tells them apart.
        one = subject.manifest.name if names[subject.manifest.name] == 1 else str(subject.bundle.path)
        entries += [(one, subject, item) for item in (subject.profile.variants if subject.profile else ())]
    several = len({one for one, _, _ in entries}) > 1
    setups = {(item.runtime, item.threads) for _, _, item in entries}
    series = []
    for index, (one, subject, item) in enumerate(entries):
        label = item.name if len(setups) > 1 else item.variant
        series.append(Series(index, f"{one}/{item.name}", f"{one}/{label}" if several else label, subject, item))
    return series
