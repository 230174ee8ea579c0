"""Divides by what is zero for some samples, none of which is in the calibration split."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from deploykit import MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Divided(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x) / (x[:, 3:] < 2).to(x.dtype)


class Dividing(Honest):
    hard = Divided


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.dividing", "answers infinity", f"{__name__}:Dividing", tasks=("cloud",))
