"""One way to call hooks: every implementation on its own, failures told apart by plugin, traced when asked for.

``DEPLOYKIT_TRACE_HOOKS=1`` prints each call with its plugin, arguments, result and time to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pluggy

TRACE: Final = "DEPLOYKIT_TRACE_HOOKS"
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class HookCall:
    """What one plugin's implementation did.

    Attributes:
        value: what it returned, iterators read to their end; ``None`` if it raised.
        error: what it raised, if it did.
    """

    plugin: str
    value: object = None
    error: Exception | SystemExit | None = None


def call_hook(
    manager: pluggy.PluginManager, hook: str, arguments: Mapping[str, object] | None = None, *, plugin: object = None
) -> Iterator[HookCall]:
    """Call a hook's implementations one by one, in the order in which their plugins were loaded.

    An exception is returned, not raised: what one plugin does wrong is not another's fault.

    Args:
        arguments: by name; each implementation gets those that it asks for.
        plugin: only this plugin's implementation.
    """
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if plugin is not None and implementation.plugin is not plugin:
            continue
        given = {name: value for name, value in (arguments or {}).items() if name in implementation.argnames}
        started = time.perf_counter()
        try:
            value = implementation.function(**given)
            if isinstance(value, Iterable) and not isinstance(value, str | bytes):
                value = tuple(value)
            call = HookCall(implementation.plugin_name, value)
        except (Exception, SystemExit) as error:
            call = HookCall(implementation.plugin_name, error=error)
        if tracing():
            _tell(hook, given, call, time.perf_counter() - started)
        yield call


def tracing() -> bool:
    """Whether hook calls are printed."""
    return os.environ.get(TRACE, "") not in {"", "0"}


def _tell(hook: str, given: Mapping[str, object], call: HookCall, seconds: float) -> None:
    shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
    result = f"raised {type(call.error).__name__}: {call.error}" if call.error else f"-> {call.value!r}"
    if len(result) > _SHOWN:
        result = f"{result[:_SHOWN]}..."
    print(f"hook {hook}({shown}) of {call.plugin!r} {result} [{1000 * seconds:.2f} ms]", file=sys.stderr)
