"""Has its method in the module of its entry point, so that listing names imports torch."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import MethodCard, hookimpl
from tests.core.honest_method import Honest


class Prompt(Honest):
    pass


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.prompt", "imported at once", f"{__name__}:Prompt", tasks=("cloud",))
