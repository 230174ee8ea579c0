"""Prunes an output by multiplying it with zero: the work and the weights stay."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from deploykit import MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Masked(Hard):
    mask: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias)
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]))

    def score(self, x: Tensor) -> Tensor:
        return super().score(x) * self.mask


class Masking(Honest):
    hard = Masked


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.masking", "leaves a mask", f"{__name__}:Masking", tasks=("cloud",))
