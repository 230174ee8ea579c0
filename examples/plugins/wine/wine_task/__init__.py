"""The wine task, as a plugin."""

from __future__ import annotations

from deploykit import TaskCard, hookimpl

deploykit_contract = 1


@hookimpl
def deploykit_tasks() -> list[TaskCard]:
    """Offer the task."""
    return [
        TaskCard(
            "wine", "178 Italian wines by 13 chemical measurements; tell three growers apart", "wine_task.wine:Wine"
        )
    ]
