"""Was written for a deploykit that does not exist yet."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import MethodCard, hookimpl

deploykit_contract = 99


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.later", "of a later contract", "tests.core.honest_method:Honest")
