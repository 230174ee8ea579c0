"""Returns a card where cards are wanted."""

from __future__ import annotations

from deploykit import MethodCard, hookimpl


@hookimpl
def deploykit_methods() -> MethodCard:
    return MethodCard("gallery.single", "one card", "tests.core.honest_method:Honest")
