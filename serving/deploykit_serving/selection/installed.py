"""Which runtimes this machine has, asked in a process of its own.

A runtime can only tell its version by being imported, which takes long, may need a device and may end the process.
None of this may happen to who selects.

Run: python -m deploykit_serving.selection.installed RUNTIME...; prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Installed:
    """What this machine has of a runtime.

    Attributes:
        version: as :meth:`deploykit.Runtime.version` gives it.
        missing: why it cannot run here; empty if it can.
        unserved: why it is never served, on whatever host; empty if it is.
    """

    version: str = ""
    missing: str = ""
    unserved: str = ""


def installed_runtimes(names: Iterable[str], seconds: float = SECONDS) -> dict[str, Installed]:
    """Return what this machine has of each runtime; whatever goes wrong stands in ``missing``."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    command = [sys.executable, "-m", __name__, *wanted]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return dict.fromkeys(wanted, Installed(missing=f"asked for its version, it said nothing within {seconds:g} s"))
    # What a runtime prints while it is imported stands before our line.
    *_, last = done.stdout.splitlines() or [""]
    try:
        answers = json.loads(last)
        return {name: Installed(**answers[name]) for name in wanted}
    except (ValueError, KeyError, TypeError):
        *_, said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        if len(wanted) == 1:
            return {wanted[0]: Installed(missing=f"asked for its version, it ended the process: {said[:300]}")}
        # One of them ends the process: ask each alone, so that it speaks for itself only.
        return {name: found for one in wanted for name, found in installed_runtimes([one], seconds).items()}


def ask(name: str) -> Installed:
    """Ask one runtime in this process."""
    from deploykit.making import make_runtime

    try:
        runtime = make_runtime(name)
        if runtime.starts_from != "file":
            return Installed(unserved="it makes the model anew from the bundle's parts, which needs the training stack")
        missing = runtime.missing()
        return Installed(missing=missing) if missing else Installed(version=runtime.version())
    except Exception as error:  # whatever a plugin raises, its runtime cannot be used
        return Installed(missing=next(iter(str(error).splitlines()), type(error).__name__)[:300])


if __name__ == "__main__":
    print(json.dumps({name: asdict(ask(name)) for name in sys.argv[1:]}))
