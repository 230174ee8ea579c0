"""The verb ``deploykit weights``, as a plugin."""

from __future__ import annotations

from collections.abc import Callable

from deploykit import hookimpl

deploykit_contract = 1


@hookimpl
def deploykit_cli() -> list[tuple[str, Callable[..., None]]]:
    """Offer the verb."""
    from weights_command.weights import weights

    return [("weights", weights)]
