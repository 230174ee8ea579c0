"""Offers its methods to a hook that there is not."""

from __future__ import annotations

from deploykit import MethodCard, hookimpl


@hookimpl
def deploykit_method() -> list[MethodCard]:
    return [MethodCard("gallery.misspelt", "never seen", "tests.core.honest_method:Honest")]
