"""Use a plugin's class in a fresh process and see what it imports: what serves must not need torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from deploykit.signature import Arrays

_FORBIDDEN: Final = ("torch", "torchvision")
_SECONDS: Final = 120.0
_PROGRAM: Final = textwrap.dedent(
    """
    import functools, importlib, json, operator, sys
    import numpy as np
    job = json.loads(sys.argv[1])
    with np.load(job["arrays"]) as archive:
        arrays = dict(archive)
    try:
        made = importlib.import_module(job["module"])
        made = functools.reduce(getattr, job["name"].split("."), made)
        exec(job["use"])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
    print(json.dumps(sorted(set(job["forbidden"]) & set(sys.modules))))
    """
)


def imports_of(implementation: type, use: str, arrays: Arrays) -> Sequence[str]:
    """Return which forbidden packages a fresh process has imported once it has used a class.

    Args:
        implementation: importable by its module and name; anything it inherits from is imported with it.
        use: Python that uses ``made``, the class, on ``arrays``, a dictionary.

    Raises:
        AssertionError: the process failed; ends with the type and the text of its exception, in one line.
    """
    with tempfile.TemporaryDirectory(prefix="deploykit-imports-") as folder:
        file = Path(folder) / "arrays.npz"
        np.savez(file, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
        job = {
            "module": implementation.__module__, "name": implementation.__qualname__, "use": use,
            "arrays": str(file), "forbidden": _FORBIDDEN,
        }  # fmt: skip
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps(job)], capture_output=True, text=True, check=False,
            timeout=_SECONDS, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    if done.returncode:
        *_, said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise AssertionError(
            f"{implementation.__module__}.{implementation.__qualname__} cannot be used in a process of its own: {said}"
        )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
