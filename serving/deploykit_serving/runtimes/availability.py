"""Every registered runtime: what is installed of it, whether it can run here, and what to do if not."""

from __future__ import annotations

import contextlib
import importlib.metadata
from dataclasses import dataclass

from deploykit.errors import DeploykitError
from deploykit.making import make_runtime
from deploykit.registry import Registry, installed
from deploykit.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Availability:
    """A runtime on this machine.

    Attributes:
        installed: packages that bring it, with their versions; empty if none is installed or it names none.
        version: what measurements are bound to; empty where it cannot run.
        runs: whether it can run here.
        reason: why not, with the way to mend it.
        starts_from: ``file`` or ``bundle``; only what starts from files is served and selected.
        targets: it runs variants that are written for any of these.
    """

    name: str
    summary: str
    installed: str
    version: str
    runs: bool
    reason: str
    starts_from: str
    targets: tuple[str, ...]


def availability(registry: Registry | None = None) -> list[Availability]:
    """Ask every registered runtime; one that does not load, or fails when it is asked, cannot run."""
    registry = registry or installed()
    return [_asked(name, registry) for name in registry.runtimes]


def _asked(name: str, registry: Registry) -> Availability:
    card = registry.runtimes[name]
    version, engine = "", None
    try:
        engine = make_runtime(name, registry)
        reason = engine.missing()
        if not reason:
            version = engine.version()
    except DeploykitError as error:
        reason = str(error)
    except Exception as error:  # a plugin's own code
        reason = f"{type(error).__name__}: {error}"
    return Availability(
        name=name,
        summary=card.summary,
        installed=_installed(engine),
        version=version,
        runs=not reason,
        reason=reason,
        starts_from="file" if engine is None else engine.starts_from,
        targets=() if engine is None else engine.targets,
    )


def _installed(engine: Runtime | None) -> str:
    found = []
    for distribution in () if engine is None else engine.distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{distribution} {importlib.metadata.version(distribution)}")
    return ", ".join(found)
