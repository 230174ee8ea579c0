"""What a call takes from the machine's own energy counter, where there is one that may be read."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from deploykit_serving.profiling.closed_loop import Call, collector_off
from deploykit_serving.profiling.schema import Energy

POWERCAP: Final = Path("/sys/class/powercap")
_PACKAGE: Final = re.compile(r"^intel-rapl:\d+$")  # AMD's counters carry the same name; subdomains have a second number
_FEWEST_CALLS: Final = 10

Counter = Callable[[], float]  # joules since some moment


def energy(call: Call, *, seconds: float = 2.0, device: Literal["cpu", "gpu"] = "cpu", root: Path = POWERCAP) -> Energy:
    """Make calls for a while and return joules a call; idling and whatever else runs on the device are counted too.

    Args:
        seconds: how long; at least ten calls are made. Counters move about once a millisecond (RAPL) or ten times a
            second (NVML), and those of RAPL wrap around after minutes: 1 to 30 s are sensible.
        device: ``cpu`` reads the package domains of RAPL, ``gpu`` the first NVIDIA device through NVML.
        root: where the kernel shows RAPL.

    Raises:
        ValueError: ``seconds`` is not above 0.
    """
    if not seconds > 0:
        raise ValueError(f"wanted seconds above 0, got {seconds}")
    counter, source = _rapl(root) if device == "cpu" else _nvml()
    if counter is None:
        return Energy(joules=None, source=source)
    calls = 0
    with collector_off():
        deadline = time.monotonic() + seconds
        before = counter()
        while calls < _FEWEST_CALLS or time.monotonic() < deadline:
            call()
            calls += 1
        spent = counter() - before
    if spent <= 0:
        return Energy(joules=None, source=f"{source} did not move in {seconds:g} s")
    return Energy(joules=spent / calls, source=source)


def _rapl(root: Path) -> tuple[Counter | None, str]:
    try:
        domains = sorted(folder for folder in root.iterdir() if _PACKAGE.match(folder.name))
    except OSError:
        domains = []
    if not domains:
        return None, f"no counter: this machine shows no RAPL package under {root.name}"
    try:
        packages = [_Package(folder) for folder in domains]
    except PermissionError:
        return None, "no counter: RAPL is there but may not be read; give read access to energy_uj"
    except (OSError, ValueError) as error:
        return None, f"no counter: RAPL cannot be read ({type(error).__name__})"
    names = f"RAPL, {len(packages)} package{'s' if len(packages) > 1 else ''}, everything that runs on them included"
    return (lambda: sum(package.joules() for package in packages)), names


class _Package:
    """One package's counter: microjoules that wrap around."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self._turns = 0

    def joules(self) -> float:
        now = int(self._file.read_text())
        self._turns += now < self._last
        self._last = now
        return (self._turns * self._range + now) * 1e-6


def _nvml() -> tuple[Counter | None, str]:
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None, "no counter: nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
    except pynvml.NVMLError as error:
        return None, f"no counter: NVML says: {error}"
    return (
        lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) * 1e-3
    ), "NVML, the whole first device, everything that runs on it included"
