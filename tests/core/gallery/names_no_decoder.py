"""Its hard form names a decoder that no plugin offers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from deploykit import HardForm, MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Undecoded(Honest):
    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(Hard(soft.layer.weight, soft.layer.bias), decoder="text-bokses")


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.undecoded", "names no decoder that is there", f"{__name__}:Undecoded", tasks=("cloud",))
