"""Verify: the same held-out samples through every hop, and the proofs that travel with the bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import BundleError, ContractError, DeploykitError, RegistryError
from deploykit.hard_form import Tolerance
from deploykit.making import make_task
from deploykit.manifest import VariantEntry
from deploykit.proof_binding import claims_digest, proven_files
from deploykit.signature import Arrays
from deploykit.task import Samples, Task
from deploykit_export import answer_proofs, file_proofs, form_proofs
from deploykit_export.answer_proofs import Runner
from deploykit_export.gap import count_decisions, max_absolute, max_ulp, within
from deploykit_export.heldout import HELDOUT, unpack
from deploykit_export.metric_loss import lost_at, prove_metric
from deploykit_export.proof_report import HopResult, Proof, ProofReport, Status
from deploykit_export.runtime_hops import Asked, OtherRuntime, run_other
from deploykit_export.torch_hops import Forms, forms_from_bundle, joined

__all__ = ["BATCH_SIZE", "OtherRuntime", "Runner", "Speed", "Surroundings", "verify_bundle"]

BATCH_SIZE: Final = 64


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
        further: other runtimes, by name.
    """

    open_session: Callable[[bytes], Runner]
    http: Callable[[Bundle], AbstractContextManager[Callable[[str], Runner]]] | str = "no server was asked for"
    speeds: Callable[[Bundle], Mapping[str, Speed]] | str = "no measurement was asked for"
    further: Mapping[str, OtherRuntime] = field(default_factory=dict)


def verify_bundle(
    bundle: Bundle, surroundings: Surroundings, *, samples: int = 512, max_loss: float | None = None
) -> ProofReport:
    """Send held-out samples through every hop and prove what the method promised.

    Args:
        samples: at most this many of the task's test samples; the bundle's own where it names no task.
        max_loss: how far any hop's metric may fall below the soft form's; what the task says by default.

    Raises:
        BundleError: the bundle cannot be read. Failed proofs do not raise: they are in the report.
    """
    started = time.perf_counter()
    task, data = _heldout(bundle, samples)
    run = _Run(bundle, task, data)
    run.torch_hops()
    for variant in bundle.manifest.hard_variants:
        run.runtime_hop(variant, surroundings.open_session)
        run.proofs += file_proofs.prove_file(bundle, variant, run.batches[0])
    run.further_hops(surroundings.further)
    run.http_hop(surroundings.http)
    run.proofs += file_proofs.prove_speed(bundle, surroundings.speeds)
    if task is not None:
        run.proofs.append(prove_metric(run.hops, task.max_loss if max_loss is None else max_loss))
    return ProofReport(
        files=proven_files(bundle.manifest),
        claims=claims_digest(bundle.manifest),
        samples=len(data) if bundle.manifest.signature.batched else 1,
        metric_name="" if task is None else task.metric_name,
        hops=tuple(run.hops),
        proofs=tuple(run.proofs),
        lost_at=lost_at(run.hops),
        seconds=round(time.perf_counter() - started, 3),
    )


class _Run:
    """One verification under way."""

    def __init__(self, bundle: Bundle, task: Task | None, data: Samples) -> None:
        self.bundle = bundle
        self.task = task
        self.data = data
        self.signature = bundle.manifest.signature
        self.batches = [dict(data.inputs)]
        if self.signature.batched:
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
        promise = self.bundle.manifest.promise
        try:
            self.forms = forms_from_bundle(self.bundle)
        except (DeploykitError, ImportError) as error:
            self.hops += [HopResult(name=name, status="not run", reason=str(error)) for name in ("soft", "hard")]
            if self.task is None:
                self.reference = ("recorded at export", unpack(self.bundle.read(HELDOUT))["output"])
            # Missing parts leave the hops out; a method that breaks its contract is a fault of the bundle.
            broken = isinstance(error, ContractError)
            self.proofs.append(Proof(name="oracle", status="failed" if broken else "not run", detail=str(error)))
        else:
            self._forms(self.forms)
        self.proofs.append(form_proofs.prove_promise(promise, None if self.forms is None else self.forms.hard))
        if self.reference is not None:
            told = answer_proofs.sampled(self.signature)
            self.proofs.append(form_proofs.prove_tolerance(self.reference[1], told, self.tolerance))

    def _forms(self, forms: Forms) -> None:
        try:
            soft = forms.run(forms.soft, self.batches)
            hard = forms.run(forms.hard.module, self.batches)
            soft_decisions = forms.decisions(forms.soft, self.batches)
            hard_decisions = forms.decisions(forms.hard.module, self.batches)
        except Exception as error:  # the author's code; what it raises is a finding, not the end of verify
            self.forms = None
            detail = f"the forms do not run on the held-out samples: {type(error).__name__}: {error}"
            self.proofs.append(Proof(name="oracle", status="failed", detail=detail))
            return
        self.hops.append(HopResult(name="soft", metric=self._metric(soft)))
        self.hops.append(
            HopResult(
                name="hard", compared_with="soft", metric=self._metric(hard),
                max_abs=max_absolute(hard, soft), max_ulp=max_ulp(hard, soft),
                decisions=count_decisions(soft_decisions, hard_decisions),
            )
        )  # fmt: skip
        self.reference = ("hard", hard)
        few = {
            name: array[: answer_proofs.FEW] if self.signature.batched else array
            for name, array in self.batches[0].items()
        }
        self.proofs.append(form_proofs.prove_oracle(forms, few, self.tolerance))
        self.proofs.append(form_proofs.prove_same_decisions(soft_decisions, hard_decisions))

    def runtime_hop(self, variant: VariantEntry, open_session: Callable[[bytes], Runner]) -> None:
        """Run one file in the reference runtime, at the batch size and one by one, twice.

        A file for other runtimes is run all the same, being ONNX; only there a refusal is no failure.
        """
        name = f"onnxruntime-cpu {variant.name}"
        batches = self._batches_for(variant)
        try:
            session = open_session(self.bundle.read(variant.file))
            parts = [session.run(batch) for batch in batches]
            answers = joined(parts, self.signature)
            again = joined([session.run(batch) for batch in batches], self.signature)
            singles = answer_proofs.singles(self.batches[0]) if self.signature.batched and variant.dynamic_batch else []
            ones = joined([session.run(batch) for batch in singles], self.signature) if singles else {}
        except Exception as error:
            self.hops.append(HopResult(name=name, status="not run", reason=str(error)))
            status: Status = "failed" if "onnxruntime" in variant.targets else "not run"
            self.proofs.append(Proof(name=f"parity {variant.name}", status=status, detail=str(error)))
            return
        self.answers[variant.name] = answers
        self._compare(name, f"parity {variant.name}", answers, answer_proofs.signature_fault(parts, self.signature))
        self.proofs.append(answer_proofs.prove_recorded(self.bundle, variant, session))
        self.proofs.append(answer_proofs.prove_determinism(variant.name, answers, again))
        self.proofs.append(answer_proofs.prove_batch(self.bundle, variant, answers, ones))
        if self.forms is not None:
            self.proofs += file_proofs.prove_decisions(self.bundle, variant, self.forms, batches)

    def further_hops(self, runtimes: Mapping[str, OtherRuntime]) -> None:
        """Run the files in other runtimes."""
        asked = Asked(self.bundle, self._batches_for, self.answers, self.reference, self._metric)
        for name, runtime in runtimes.items():
            hops, proofs = run_other(name, runtime, asked)
            self.hops += hops
            self.proofs += proofs

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
                parts = [runner_of(variant.name).run(batch) for batch in self._batches_for(variant)]
                answers = joined(parts, self.signature)
        except Exception as error:  # a connection that breaks is a failed proof, not the end of verify
            self.hops.append(HopResult(name="http", status="not run", reason=str(error)))
            self.proofs.append(Proof(name="http", status="failed", detail=str(error)))
            return
        reference = self.answers[variant.name]
        equal = within(answers, reference, Tolerance())
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

    def _compare(self, hop: str, proof: str, answers: Arrays, wrong: str) -> None:
        found, proven = answer_proofs.compared(
            hop, proof, answers, self.reference, tolerance=self.tolerance, metric=self._metric(answers), wrong=wrong
        )
        self.hops.append(found)
        self.proofs.append(proven)

    def _metric(self, answers: Arrays) -> float | None:
        if self.task is None:
            return None
        try:
            return float(self.task.metric(answers, self.data))
        except RegistryError:
            raise  # a part that the metric needs is not installed, which no proof would say
        except Exception:  # answers of another shape; the proofs say what is wrong with them
            return None

    def _batches_for(self, variant: VariantEntry) -> list[dict[str, NDArray[Any]]]:
        if variant.dynamic_batch or not self.signature.batched:
            return self.batches
        return [single for batch in self.batches for single in answer_proofs.singles(batch, everything=True)]

    @property
    def tolerance(self) -> Tolerance:
        """What the method promised."""
        return self.bundle.manifest.promise.tolerance.value()


def _heldout(bundle: Bundle, samples: int) -> tuple[Task | None, Samples]:
    if bundle.manifest.task:
        try:
            task = make_task(bundle.manifest.task)
            return task, task.samples("test").take(slice(0, samples))
        except (DeploykitError, ImportError):
            pass  # the recorded samples serve as well; the soft hop will say what is missing
    recorded = unpack(bundle.read(HELDOUT))
    if not recorded.get("input") or not recorded.get("output"):
        raise BundleError(f"{bundle.path}: {HELDOUT!r} needs arrays 'input/NAME' and 'output/NAME'")
    return None, Samples(inputs=recorded["input"], targets=recorded.get("target", {}))
