"""Offers a task under a name that another plugin has."""

from __future__ import annotations

from collections.abc import Iterable

from deploykit import TaskCard, hookimpl


@hookimpl
def deploykit_tasks() -> Iterable[TaskCard]:
    yield TaskCard("digits", "other digits", "tests.core.honest_method:Cloud")
