"""The hook ``deploykit_choose_variant``, as the server asks it for a request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import pluggy

from deploykit.choice import Asked, Candidate
from deploykit.hook_calls import call_hook

HOOK: Final = "deploykit_choose_variant"
_log = logging.getLogger("deploykit.serving")


class Choosers:
    """The plugins that implement the hook; looked for once, so that a server without any pays nothing.

    Args:
        manager: of the registry.
    """

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager
        self._told: set[tuple[str, str]] = set()
        self.any = bool(getattr(manager.hook, HOOK).get_hookimpls())

    def ask(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:
        """Return what the first plugin with an opinion says; what a plugin does wrong counts as no opinion."""
        if not self.any:
            return None
        for call in call_hook(self._manager, HOOK, {"candidates": tuple(candidates), "asked": asked}):
            if call.error is not None:
                self._tell(call.plugin, f"raised {type(call.error).__name__}", f": {call.error}")
            elif call.value is not None:
                for candidate in candidates:
                    if candidate.name == call.value:
                        return candidate
                names = ", ".join(candidate.name for candidate in candidates)
                self._tell(call.plugin, "chose what is no candidate", f": {call.value!r:.200}; there are: {names}")
        return None

    def _tell(self, plugin: str, fault: str, detail: str) -> None:
        # Once: a line for each request would fill the log's disk.
        if (plugin, fault) not in self._told:
            self._told.add((plugin, fault))
            _log.error("plugin %r: %s %s%s; the server's own policy decides", plugin, HOOK, fault, detail)
