"""Takes an argument that the hook does not give."""

from __future__ import annotations

from deploykit import MethodCard, hookimpl


@hookimpl
def deploykit_methods(folder: str) -> list[MethodCard]:
    return [MethodCard("gallery.curious", folder, "tests.core.honest_method:Honest")]
