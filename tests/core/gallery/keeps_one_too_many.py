"""Is to keep half of its weights and keeps one more: ``>=`` at the threshold where ``>`` was meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from deploykit import Decision, HardForm, MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest

KEPT = 6


class Pruning(Honest):
    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        hard = Hard(soft.layer.weight, soft.layer.bias)
        hard.weight = torch.where(self.kept(soft.layer.weight).T, hard.weight, 0.0)
        return HardForm(hard)

    def kept(self, weight: Tensor) -> Tensor:
        order = weight.detach().abs().flatten().sort(descending=True).values
        return weight.detach().abs() >= order[KEPT]

    def decisions(self, form: Any, inputs: tuple[Tensor, ...]) -> dict[str, Decision]:
        kept = form.weight.T != 0 if isinstance(form, Hard) else self.kept(form.layer.weight)
        return {"kept": Decision(kept.numpy())}


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.pruning", "keeps one too many", f"{__name__}:Pruning", tasks=("cloud",))
