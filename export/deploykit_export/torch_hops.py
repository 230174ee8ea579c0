"""The two hops that need torch: the soft form and the hard form, made anew from a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deploykit.bundle import Bundle
from deploykit.decisions import Decision, Decisions
from deploykit.hard_form import HardForm
from deploykit.lifecycle import binding_of, harden
from deploykit.outputs import run_module, tensors
from deploykit.signature import BATCH, Arrays, Signature
from deploykit_export.soft_weights import calibration_from_bundle, soft_from_bundle


@dataclass(frozen=True, slots=True)
class Forms:
    """A bundle's soft form and the hard form made from it again."""

    soft: nn.Module
    hard: HardForm
    signature: Signature

    def run(self, form: nn.Module, batches: list[dict[str, NDArray[Any]]]) -> Arrays:
        """Return a form's outputs for all batches."""
        return joined([run_module(form, batch, self.signature) for batch in batches], self.signature)

    def decisions(self, form: nn.Module, batches: list[dict[str, NDArray[Any]]]) -> Decisions:
        """Return what a form decides on all batches; choices that do not depend on samples are kept once."""
        method = binding_of(self.soft).method
        with torch.no_grad():
            parts = [method.decisions(form, tensors(batch, self.signature)) for batch in batches]
        return {
            name: joined_decision([part[name] for part in parts], sizes_of(batches, self.signature))
            for name in parts[0]
        }

    def oracle(self, inputs: Arrays) -> Arrays:
        """Return the method's slow reference answer."""
        with torch.no_grad():
            return binding_of(self.soft).method.oracle(self.soft, tensors(inputs, self.signature))


def forms_from_bundle(bundle: Bundle) -> Forms:
    """Make both forms again from what the bundle holds.

    Raises:
        BundleError: the bundle does not say enough, or its weights do not fit.
        ContractError: hardening breaks the contract.
    """
    soft = soft_from_bundle(bundle)
    return Forms(soft, harden(soft, calibration_from_bundle(bundle)), bundle.manifest.signature)


def joined(parts: list[dict[str, NDArray[Any]]], signature: Signature) -> dict[str, NDArray[Any]]:
    """Put the outputs of several batches together: along the sample axis, or stacked where an output has none."""
    samples = {spec.name for spec in signature.outputs if spec.shape[:1] == (BATCH,)} if signature.batched else set()
    if len(parts) == 1:
        return dict(parts[0])
    return {
        name: np.concatenate([part[name] for part in parts]) if name in samples
        else np.stack([part[name] for part in parts])
        for name in parts[0]
    }  # fmt: skip


def sizes_of(batches: list[dict[str, NDArray[Any]]], signature: Signature) -> list[int]:
    """Return how many samples each batch has; one each where the signature does not count samples."""
    return [len(next(iter(batch.values()))) if signature.batched else 1 for batch in batches]


def joined_decision(parts: list[Decision], sizes: list[int]) -> Decision:
    """Put one decision of several batches together; one that is the same for all samples is kept once."""
    if len(parts) == 1:
        return parts[0]
    margins = [part.margin for part in parts if part.margin is not None]
    known = len(margins) == len(parts)
    if all(part.value.shape[:1] == (size,) for part, size in zip(parts, sizes, strict=True)):
        return Decision(
            np.concatenate([part.value for part in parts]), np.concatenate(margins) if known else None
        )  # fmt: skip
    if all(np.array_equal(part.value, parts[0].value) for part in parts):
        return parts[0]
    # Taken for each batch, yet not along its first axis (all bits in one row): every one counts.
    return Decision(
        np.concatenate([part.value.ravel() for part in parts]),
        np.concatenate([margin.ravel() for margin in margins]) if known else None,
    )
