"""Scales by the largest number it has ever seen: an answer depends on who asked before."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from deploykit import MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Peaking(Hard):
    peak = 0.1

    def score(self, x: Tensor) -> Tensor:
        self.peak = max(self.peak, float(x.abs().max()))
        return super().score(x / self.peak)


class Remembering(Honest):
    hard = Peaking


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard(
        "gallery.remembering", "depends on the order of calls", f"{__name__}:Remembering", tasks=("cloud",)
    )
