"""Which machine this is, as far as it decides latency; never its name, its users or its paths."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from deploykit_serving.profiling.schema import Host

_DECIDING_FLAGS: Final = frozenset(
    {
        "avx", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
        "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16", "f16c", "fma", "sse4_2",
        "asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sme", "sve", "sve2",
    }
)  # fmt: skip
_VOLATILE: Final = frozenset({"memory_gib", "clock_mhz", "load"})
_ORT_DISTRIBUTIONS: Final = ("onnxruntime", "onnxruntime-gpu")


def fingerprint() -> Host:
    """Describe this machine; what cannot be read is empty or ``None``."""
    info = _cpu_info()
    fields: dict[str, Any] = {
        "cpu": info.get("model name") or info.get("Model") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "flags": tuple(sorted(_DECIDING_FLAGS & set((info.get("flags") or info.get("Features") or "").split()))),
        "cores": os.cpu_count() or 1,
        "usable_cores": _usable_cores(),
        "quota": cpu_quota(),
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "system": _system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": _onnxruntime_version(),
    }
    return Host(
        id=_identity(fields),
        memory_gib=_memory_gib(),
        clock_mhz=_clock_mhz(info),
        load=_load(),
        **fields,
    )


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the CPU time this process is granted, in cores: the tightest limit up its control groups' tree.

    Args:
        root: where control groups are mounted (version 2, or version 1 with a ``cpu`` folder).
        own: tells which group the process is in.
    """
    limits: list[float] = []
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            limits += _limits(root, group, _quota_v2)
        elif "cpu" in controllers.split(","):
            limits += _limits(root / "cpu", group, _quota_v1)
    return min(limits, default=None)


def _limits(mount: Path, group: str, read: Any) -> list[float]:
    folder = mount / group.strip("/")
    folders = [folder, *folder.parents]
    inside = folders[: folders.index(mount) + 1] if mount in folders else []
    return [limit for limit in map(read, inside) if limit is not None]


def _quota_v2(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def _identity(fields: dict[str, Any]) -> str:
    stable = {key: value for key, value in fields.items() if key not in _VOLATILE}
    return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:12]


def _system() -> str:
    # The release may end in a builder's own suffix; the number is what matters.
    number = re.match(r"\d+(\.\d+)*", platform.release())
    return f"{platform.system()} {number.group() if number else ''}".strip()


def _onnxruntime_version() -> str:
    for name in _ORT_DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{name} {importlib.metadata.version(name)}"
    return "not installed"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return 0.0


def _clock_mhz(info: dict[str, str]) -> float | None:
    current = _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"))
    if current.isdigit():
        return int(current) / 1000
    with contextlib.suppress(KeyError, ValueError):
        return float(info["cpu MHz"])
    return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _cpu_info() -> dict[str, str]:
    first, _, _ = _text(Path("/proc/cpuinfo")).partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
