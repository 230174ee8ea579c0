"""Its hard form clips the caller's own tensor."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from deploykit import MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Clipped(Hard):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x.clamp_(-1, 1))


class Clipping(Honest):
    hard = Clipped


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.clipping", "writes into its input", f"{__name__}:Clipping", tasks=("cloud",))
