"""Was written for a deploykit of long ago."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import MethodCard, hookimpl

deploykit_contract = 0


@hookimpl
def deploykit_methods() -> Iterable[MethodCard]:
    yield MethodCard("gallery.earlier", "of an earlier contract", "tests.core.honest_method:Honest")
