"""Which NVIDIA GPU is there, asked of the driver; no library of CUDA is needed for that."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import Final

NO_GPU: Final = "there is no NVIDIA GPU, or its driver is not installed (nvidia-smi finds none)"


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        name: as the driver gives it.
        driver: its version.
        target: compute capability as TensorRT writes it: ``SM89``.
    """

    name: str
    driver: str
    target: str

    def text(self) -> str:
        """Return it as one line."""
        return f"{self.name} ({self.target}), driver {self.driver}"


def find_gpu() -> Gpu | None:
    """Ask the driver for the first GPU; ``None`` if there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return read_gpu(lines[0]) if lines and not done.returncode else None


def read_gpu(line: str) -> Gpu | None:
    """Read one line of the driver's answer; ``None`` if it is no such line."""
    words = [word.strip() for word in line.split(",")]
    if len(words) != 3 or not words[2].replace(".", "").isdigit():
        return None
    return Gpu(name=words[0], driver=words[1], target=f"SM{words[2].replace('.', '')}")
