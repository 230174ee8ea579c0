"""Which of several variants answers a request: what the hook ``deploykit_choose_variant`` is asked with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant that could answer.

    Attributes:
        name: unique among the candidates.
        metric: the task's metric as ``verify`` found it, larger is better; ``None`` if it is not known.
        seconds: how long it is predicted to compute for a request of this size, at the percentile of the deployment's
            budget; measured on this host.
    """

    name: str
    metric: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request when it is its turn to be given a variant.

    Attributes:
        batch: samples in it.
        budget: seconds from its arrival until its answer must be ready; ``None`` if it named none.
        elapsed: seconds since its arrival.
        wait: seconds until the requests before it are predicted to be done.
        queued: how many those are.
    """

    batch: int
    budget: float | None
    elapsed: float
    wait: float
    queued: int

    def meets(self, candidate: Candidate) -> bool:
        """Whether a candidate is predicted to answer within the budget; true without one."""
        return self.budget is None or self.elapsed + self.wait + candidate.seconds <= self.budget
