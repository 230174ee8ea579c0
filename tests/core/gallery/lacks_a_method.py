"""Forgot to write what every method writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from deploykit import HardForm, Method, MethodCard, Signature, hookimpl


class Half(Method[Any]):
    def prepare(self, model: nn.Module, signature: Signature, example: tuple[Tensor, ...]) -> nn.Module:
        return model

    def harden(self, soft: Any, inputs: tuple[Tensor, ...]) -> HardForm:
        return HardForm(soft)


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.half", "has no oracle", f"{__name__}:Half", tasks=("cloud",))
