"""Verify: the same held-out samples through every hop, and the proofs that travel with the bundle."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import DeploykitError
from deploykit.making import make_task
from deploykit.manifest import VariantEntry
from deploykit.signature import Arrays
from deploykit.task import Samples, Task
from deploykit_export import file_proofs
from deploykit_export.gap import count_decisions, max_absolute, max_ulp, within
from deploykit_export.heldout import HELDOUT, unpack
from deploykit_export.proof_report import HopResult, Proof, ProofReport
from deploykit_export.torch_hops import Forms, forms_from_bundle, joined

BATCH_SIZE: Final = 64
_ORACLE_SAMPLES: Final = 8


class Runner(Protocol):
    """Something that answers batches: a runtime's session, or a server behind HTTP."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        ...


@dataclass(frozen=True, slots=True)
class Speed:
    """How much faster than the float baseline a variant was measured to be, with the bounds of the interval."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the caller provides beyond files: engines, a server, a stopwatch. A text says why one is missing.

    Attributes:
        open_session: loads a file's bytes into the reference runtime.
        http: opens a server for the bundle; gives, by variant name, what asks it.
        speeds: measures each hard variant against the baseline, by variant name.
    """

    open_session: Callable[[bytes], Runner]
    http: Callable[[Bundle], AbstractContextManager[Callable[[str], Runner]]] | str = "no server was asked for"
    speeds: Callable[[Bundle], Mapping[str, Speed]] | str = "no measurement was asked for"


def verify_bundle(bundle: Bundle, surroundings: Surroundings, *, samples: int = 512) -> ProofReport:
    """Send held-out samples through every hop and prove what the method promised.

    Args:
        samples: at most this many of the task's test samples; the bundle's own where it names no task.

    Raises:
        BundleError: the bundle cannot be read. Failed proofs do not raise: they are in the report.
    """
    started = time.perf_counter()
    task, data = _heldout(bundle, samples)
    run = _Run(bundle, task, data)
    run.torch_hops()
    for variant in bundle.manifest.hard_variants:
        if "onnxruntime" in variant.targets:
            run.runtime_hop(variant, surroundings.open_session)
        run.proofs += file_proofs.prove_file(bundle, variant, run.batches[0])
    run.http_hop(surroundings.http)
    run.proofs += file_proofs.prove_speed(bundle, surroundings.speeds)
    return ProofReport(
        samples=len(data),
        metric_name="" if task is None else task.metric_name,
        hops=tuple(run.hops),
        proofs=tuple(run.proofs),
        lost_at=_lost_at(run.hops),
        seconds=round(time.perf_counter() - started, 3),
    )


class _Run:
    """One verification under way."""

    def __init__(self, bundle: Bundle, task: Task | None, data: Samples) -> None:
        self.bundle = bundle
        self.task = task
        self.data = data
        self.batches = [
            dict(data.take(slice(start, start + BATCH_SIZE)).inputs) for start in range(0, len(data), BATCH_SIZE)
        ]
        self.hops: list[HopResult] = []
        self.proofs: list[Proof] = []
        self.forms: Forms | None = None
        self.reference: tuple[str, Arrays] | None = None
        self.answers: dict[str, Arrays] = {}

    def torch_hops(self) -> None:
        """Run soft and hard form; without them the answers recorded at export are the reference."""
        try:
            self.forms = forms_from_bundle(self.bundle)
        except (DeploykitError, ImportError) as error:
            self.hops += [HopResult(name=name, status="not run", reason=str(error)) for name in ("soft", "hard")]
            recorded = unpack(self.bundle.read(HELDOUT))
            if self.task is None:
                self.reference = ("recorded at export", recorded["output"])
            self.proofs.append(Proof(name="oracle", status="not run", detail=str(error)))
            return
        forms = self.forms
        soft = forms.run(forms.soft, self.batches)
        hard = forms.run(forms.hard.module, self.batches)
        soft_decisions = forms.decisions(forms.soft, self.batches)
        hard_decisions = forms.decisions(forms.hard.module, self.batches)
        self.hops.append(HopResult(name="soft", metric=self._metric(soft)))
        self.hops.append(
            HopResult(
                name="hard", compared_with="soft", metric=self._metric(hard),
                max_abs=max_absolute(hard, soft), max_ulp=max_ulp(hard, soft),
                decisions=count_decisions(soft_decisions, hard_decisions),
            )
        )  # fmt: skip
        self.reference = ("hard", hard)
        self.proofs.append(self._oracle(forms))

    def runtime_hop(self, variant: VariantEntry, open_session: Callable[[bytes], Runner]) -> None:
        """Run one file in the reference runtime, at the batch size and one by one, twice."""
        name = f"onnxruntime-cpu {variant.name}"
        try:
            session = open_session(self.bundle.read(variant.file))
            answers = joined([session.run(batch) for batch in self._batches_for(variant)])
            again = joined([session.run(batch) for batch in self._batches_for(variant)])
            ones = joined([session.run(batch) for batch in _singles(self.batches[0])])
        except Exception as error:
            self.hops.append(HopResult(name=name, status="not run", reason=str(error)))
            self.proofs.append(Proof(name=f"parity {variant.name}", status="failed", detail=str(error)))
            return
        self.answers[variant.name] = answers
        self._compare(name, f"parity {variant.name}", answers)
        exact = within(answers, again, self._exact)
        self.proofs.append(
            Proof(
                name=f"determinism {variant.name}", status="passed" if exact else "failed",
                detail="two runs give the same bits" if exact else "two runs on the same samples differ",
            )
        )  # fmt: skip
        head = {key: value[: len(ones[key])] for key, value in answers.items()}
        alone = within(ones, head, self.tolerance)
        self.proofs.append(
            Proof(
                name=f"batch {variant.name}", status="passed" if alone else "failed",
                detail="samples alone and in a batch get the same answer"
                if alone else f"a sample alone and in a batch differ by {max_absolute(ones, head):.3g}",
                figures={"max_abs": max_absolute(ones, head)},
            )
        )  # fmt: skip
        if self.forms is not None:
            self.proofs += file_proofs.prove_decisions(self.bundle, variant, self.forms, self.batches)

    def http_hop(self, http: Callable[[Bundle], AbstractContextManager[Callable[[str], Runner]]] | str) -> None:
        """Ask a real server and compare with the same file in process."""
        if isinstance(http, str):
            self.hops.append(HopResult(name="http", status="not run", reason=http))
            self.proofs.append(Proof(name="http", status="not run", detail=http))
            return
        variant = next((item for item in self.bundle.manifest.hard_variants if item.name in self.answers), None)
        if variant is None:
            return
        try:
            with http(self.bundle) as runner_of:
                answers = joined([runner_of(variant.name).run(batch) for batch in self._batches_for(variant)])
        except Exception as error:  # a connection that breaks is a failed proof, not the end of verify
            self.hops.append(HopResult(name="http", status="not run", reason=str(error)))
            self.proofs.append(Proof(name="http", status="failed", detail=str(error)))
            return
        reference = self.answers[variant.name]
        equal = within(answers, reference, self._exact)
        self.hops.append(
            HopResult(
                name=f"http {variant.name}", compared_with=f"onnxruntime-cpu {variant.name}",
                metric=self._metric(answers), max_abs=max_absolute(answers, reference),
                max_ulp=max_ulp(answers, reference),
            )
        )  # fmt: skip
        detail = "the server answers with the same bits as the file in process"
        if not equal:
            detail = f"the server's answers differ by up to {max_absolute(answers, reference):.3g}"
        self.proofs.append(Proof(name="http", status="passed" if equal else "failed", detail=detail))

    def _compare(self, hop: str, proof: str, answers: Arrays) -> None:
        if self.reference is None:
            self.hops.append(HopResult(name=hop, metric=self._metric(answers)))
            self.proofs.append(Proof(name=proof, status="not run", detail="there is no hard form to compare with"))
            return
        name, reference = self.reference
        distance, ulp = max_absolute(answers, reference), max_ulp(answers, reference)
        self.hops.append(
            HopResult(
                name=hop, compared_with=name, metric=self._metric(answers), max_abs=distance, max_ulp=ulp
            )
        )  # fmt: skip
        close = within(answers, reference, self.tolerance)
        self.proofs.append(
            Proof(
                name=proof, status="passed" if close else "failed",
                detail=f"largest difference from {name}: {distance:.3g}; promised: {_text(self.tolerance)}",
                figures={"max_abs": distance} | ({} if ulp is None else {"max_ulp": ulp}),
            )
        )  # fmt: skip

    def _oracle(self, forms: Forms) -> Proof:
        few = {name: array[:_ORACLE_SAMPLES] for name, array in self.batches[0].items()}
        try:
            wanted = forms.oracle(few)
        except Exception as error:
            return Proof(name="oracle", status="failed", detail=f"the oracle failed: {error}")
        got = forms.run(forms.hard.module, [few])
        close = within(got, wanted, self.tolerance)
        return Proof(
            name="oracle", status="passed" if close else "failed",
            detail=f"hard form against its slow reference on {len(next(iter(few.values())))} samples: largest "
            f"difference {max_absolute(got, wanted):.3g}; promised: {_text(self.tolerance)}",
            figures={"max_abs": max_absolute(got, wanted)},
        )  # fmt: skip

    def _metric(self, answers: Arrays) -> float | None:
        return None if self.task is None else self.task.metric(answers, self.data)

    def _batches_for(self, variant: VariantEntry) -> list[dict[str, NDArray[Any]]]:
        if variant.dynamic_batch:
            return self.batches
        return [single for batch in self.batches for single in _singles(batch, everything=True)]

    @property
    def tolerance(self) -> Any:
        """What the method promised."""
        return self.bundle.manifest.promise.tolerance.value()

    @property
    def _exact(self) -> Any:
        return type(self.tolerance)()


def _heldout(bundle: Bundle, samples: int) -> tuple[Task | None, Samples]:
    if bundle.manifest.task:
        try:
            task = make_task(bundle.manifest.task)
            return task, task.samples("test").take(slice(0, samples))
        except (DeploykitError, ImportError):
            pass  # the recorded samples serve as well; the soft hop will say what is missing
    recorded = unpack(bundle.read(HELDOUT))
    return None, Samples(inputs=recorded["input"], targets=recorded.get("target", {}))


def _singles(batch: Arrays, *, everything: bool = False) -> list[dict[str, NDArray[Any]]]:
    count = len(next(iter(batch.values())))
    return [
        {name: array[index : index + 1] for name, array in batch.items()}
        for index in range(count if everything else min(count, _ORACLE_SAMPLES))
    ]


def _lost_at(hops: list[HopResult]) -> str:
    ran = [hop for hop in hops if hop.metric is not None]
    losses = [
        (before.metric - after.metric, after.name)
        for before, after in itertools.pairwise(ran)
        if before.metric is not None and after.metric is not None
    ]
    worst = max(losses, default=(0.0, ""))
    return worst[1] if worst[0] > 0 else ""


def _text(tolerance: Any) -> str:
    if tolerance.exact:
        return "equal bit for bit"
    return f"within {tolerance.absolute:g} + {tolerance.relative:g} x |value|"
