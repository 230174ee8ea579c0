"""Make entry points known to Python without installing anything: a folder with metadata for the import path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from deploykit.registry import ENTRY_POINT_GROUP


def stage(folder: Path, distribution: str, version: str, entry_points: Mapping[str, str]) -> Path:
    """Write the metadata of a distribution into ``folder``, which belongs on the import path; returns ``folder``.

    It hides an installed distribution of the same name that comes later on the path.
    """
    # The name must be escaped as installers do: Python reads the distribution's name up to the first '-'.
    name = re.sub(r"[-_.]+", "_", distribution).lower()
    place = folder / f"{name}-{re.sub('[^A-Za-z0-9.]+', '_', version)}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8"
    )
    lines = [f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {value}" for name, value in entry_points.items())]
    (place / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
