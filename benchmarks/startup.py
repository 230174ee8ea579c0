"""How long ``deploykit methods`` takes to start, in turns with an empty Python program.

Run: python -m benchmarks.startup
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.figure import Figure, main
from deploykit_serving.profiling.interleaved import interleave
from deploykit_serving.profiling.statistics import percentile

TARGET_SECONDS: Final = 0.3
_COMMAND: Final = (str(Path(sys.executable).with_name("deploykit")), "methods")
_EMPTY: Final = (sys.executable, "-c", "pass")


def measure(pairs: int = 25) -> list[Figure]:
    """Start both ``pairs`` times, in random order, after one start that fills the disk's cache."""
    _start(*_COMMAND)
    found = interleave(
        lambda: _start(*_EMPTY), lambda: _start(*_COMMAND), seconds=0.0, at_least=pairs, at_most=pairs, block=1
    )
    ours = percentile(found.variant / 1e9, 0.5)
    empty = percentile(found.baseline / 1e9, 0.5)
    assert ours.value is not None
    assert ours.high is not None
    assert empty.value is not None
    return [
        Figure(
            name="start of `deploykit methods`",
            target=f"under {TARGET_SECONDS} s",
            measured=f"{ours.value:.3f} s",
            interval=f"{ours.low:.3f} to {ours.high:.3f} s, median of {ours.samples}",
            met=ours.high < TARGET_SECONDS,
            beside=f"`python -c pass` in the same run: {empty.value:.3f} s",
        )
    ]


def _start(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main(measure)
