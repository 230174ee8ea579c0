"""Its card leads to a class that was renamed."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import MethodCard, hookimpl


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.renamed", "its class has another name", f"{__name__}:OldName", tasks=("cloud",))
