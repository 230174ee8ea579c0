"""Its hard form goes on using the soft form's bias: training on changes what was deployed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from deploykit import HardForm, MethodCard, hookimpl
from tests.core.honest_method import Hard, Honest


class Sharing(Honest):
    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        hard = Hard(soft.layer.weight, soft.layer.bias)
        hard.bias = soft.layer.bias.detach()
        return HardForm(hard, self.promise)


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.sharing", "shares a buffer", f"{__name__}:Sharing", tasks=("cloud",))
