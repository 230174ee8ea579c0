"""Which version of the plugin contract this deploykit speaks, and what a plugin of another version is told.

The number grows by one whenever a correct plugin could stop working: a hook or an abstract method is taken away, gets
another meaning, or becomes obligatory. Adding a hook, an argument or a method with a default leaves it as it is.
"""

from __future__ import annotations

from typing import Final

CONTRACT_VERSION: Final = 1
"""What plugins written today say."""

OLDEST_CONTRACT: Final = 1
"""The oldest contract whose plugins still work unchanged."""

ATTRIBUTE: Final = "deploykit_contract"
"""Where a plugin's module says it; a plugin that says nothing is taken for one of today's."""


def version_fault(plugin: object) -> str:
    """Return what is wrong with the version a plugin says it was written for, as text, or nothing."""
    said = getattr(plugin, ATTRIBUTE, CONTRACT_VERSION)
    if not isinstance(said, int) or isinstance(said, bool):
        return f"{ATTRIBUTE} must be a whole number such as {CONTRACT_VERSION}, got {said!r}"
    if said > CONTRACT_VERSION:
        return (
            f"was written for plugin contract {said}, this deploykit speaks {CONTRACT_VERSION}; upgrade deploykit, or "
            "install an older version of the plugin"
        )
    if said < OLDEST_CONTRACT:
        speaks = (
            str(OLDEST_CONTRACT) if OLDEST_CONTRACT == CONTRACT_VERSION else f"{OLDEST_CONTRACT} to {CONTRACT_VERSION}"
        )
        return (
            f"was written for plugin contract {said}, this deploykit speaks {speaks}; install a newer version of the "
            "plugin, or ask its author"
        )
    return ""
