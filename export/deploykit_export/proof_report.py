"""What ``verify`` found, as it is written to ``proofs/verify.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["passed", "failed", "marked", "not run"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DecisionCount(_Part):
    """How often a hop decided as the hop it is compared with."""

    total: int
    different: int
    near_ties: int


class HopResult(_Part):
    """One hop of the way from soft form to HTTP, on the same samples as the others.

    Attributes:
        compared_with: the hop that the differences refer to; empty for the first.
        metric: the task's metric, larger is better; ``None`` without a task.
        max_abs: largest absolute difference of any output element.
        max_ulp: the same in units in the last place of the output's float type; ``None`` if outputs are no floats.
        reason: why it was not run.
    """

    name: str
    status: Literal["run", "not run"] = "run"
    reason: str = ""
    compared_with: str = ""
    metric: float | None = None
    max_abs: float | None = None
    max_ulp: int | None = None
    decisions: dict[str, DecisionCount] = {}


class Proof(_Part):
    """One thing proven, or not.

    Attributes:
        status: ``marked`` means true and worth knowing, without failing the bundle (a variant that is no faster).
        figures: the numbers behind it.
    """

    name: str
    status: Status
    detail: str
    figures: dict[str, float | int | str] = {}


class ProofReport(_Part):
    """Everything one run of ``verify`` found.

    Attributes:
        samples: how many held-out samples went through every hop.
        files: sha256 of every file that was proven, and with ``claims``, a hash over what the manifest says of them,
            what the report is about; see :mod:`deploykit.proof_binding`.
        lost_at: the hop at which most of the metric was lost, empty if none was.
        accepted: the reason somebody gave for publishing in spite of failures.
    """

    version: int = 2
    files: dict[str, str]
    claims: str
    samples: int
    metric_name: str
    hops: tuple[HopResult, ...]
    proofs: tuple[Proof, ...]
    lost_at: str = ""
    accepted: str = ""
    seconds: float

    @property
    def failures(self) -> tuple[Proof, ...]:
        """The proofs that failed."""
        return tuple(proof for proof in self.proofs if proof.status == "failed")
