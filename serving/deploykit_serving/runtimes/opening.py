"""From a runtime's name and a model's bytes, or a bundle's variant, to a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from deploykit.bundle import Bundle
from deploykit.errors import DeploykitError, RegistryError, ServingError
from deploykit.making import make_runtime
from deploykit.manifest import VariantEntry
from deploykit.runtime import Runtime, RuntimeOptions, Session
from deploykit_serving.runtimes.cpu_threads import usable_threads

REFERENCE: Final = "onnxruntime-cpu"
"""The runtime that every other one is compared with."""


def open_session(model: bytes, runtime: str = REFERENCE, options: RuntimeOptions | None = None) -> Session:
    """Load a model into a runtime.

    Args:
        model: the checked bytes of the file, never a path: what was verified is what runs.
        runtime: the name of a registered runtime.

    Raises:
        ServingError: no such runtime, it cannot run on this machine, or it refuses the model; says which and why.
    """
    engine = usable_runtime(runtime)
    return _said(runtime, "the model", lambda: engine.open_session(model, counted(options)))


def open_variant(
    bundle: Bundle, entry: VariantEntry, runtime: str = REFERENCE, options: RuntimeOptions | None = None
) -> Session:
    """Load a bundle's variant into a runtime.

    What is read of the bundle is checked against its manifest: what was verified is what runs.

    Args:
        entry: one of the bundle's variants.
        runtime: the name of a registered runtime.

    Raises:
        ServingError: no such runtime, it cannot run on this machine, or it refuses the variant; says which and why.
        BundleError: a file was changed after the bundle was written.
    """
    engine = usable_runtime(runtime)
    return _said(
        runtime,
        f"variant {entry.name!r} of {bundle.path.name}",
        lambda: engine.open_variant(bundle, entry, counted(options)),
    )


def counted(options: RuntimeOptions | None) -> RuntimeOptions:
    """Return options in which the threads are counted: 0 becomes what this process may use."""
    options = options or RuntimeOptions()
    return options if options.threads else replace(options, threads=usable_threads())


def usable_runtime(name: str) -> Runtime:
    """Return a registered runtime that can run on this machine.

    Raises:
        ServingError: no such runtime, or it cannot run here; says why.
    """
    try:
        engine = make_runtime(name)
    except RegistryError as error:
        raise ServingError(str(error)) from error
    try:
        reason = engine.missing()
    except Exception as error:  # a plugin's own code
        reason = f"{type(error).__name__}: {error}"
    if reason:
        raise ServingError(f"runtime {name!r} cannot run here: {reason}")
    return engine


def _said(runtime: str, what: str, load: Callable[[], Session]) -> Session:
    try:
        return load()
    except DeploykitError:
        raise
    except Exception as error:  # engines' exceptions share no base class
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ServingError(f"{runtime} refuses {what}: {first[:300]}") from error
