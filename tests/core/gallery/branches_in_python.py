"""Chooses its route by a Python ``if`` on a tensor, which no graph can hold."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from deploykit import MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Branching(Hard):
    def score(self, x: Tensor) -> Tensor:
        if float(x.mean()) > 100:
            return super().score(-x)
        return super().score(x)


class Brancher(Honest):
    hard = Branching


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.brancher", "branches in Python", f"{__name__}:Brancher", tasks=("cloud",))
