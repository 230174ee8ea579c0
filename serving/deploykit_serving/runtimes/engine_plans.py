"""From a model to the plan of an engine: the one in the bundle if it fits, else a kept one, else one built now."""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Final

from deploykit.bundle import Bundle
from deploykit.errors import ExportError, ServingError
from deploykit.manifest import VariantEntry
from deploykit.signature import Signature
from deploykit_serving.runtimes.engine_cache import EngineCache, EngineKey

BUNDLED: Final = "targets/tensorrt"
"""Where ``export --target tensorrt`` puts engines, one folder a variant."""
FLAGS: Final = ("strongly typed", "no TF32")
_PLAN: Final = re.compile(r"(?P<builder>tensorrt|tensorrt_rtx)-(?P<version>[0-9][0-9A-Za-z.]*)-(?P<target>.+)\.plan")
_log = logging.getLogger("deploykit.serving")


def bundled_plan(bundle: Bundle, entry: VariantEntry, builder: str, version: str, target: str) -> bytes | None:
    """Return the engine that came with a bundle, if builder, version and target are those of this machine.

    Args:
        target: compute capability such as ``SM89``. An engine by ``tensorrt`` does not say which GPU it was built on,
            so it fits none.

    Raises:
        BundleTamperedError: the engine is not the one in the manifest: it is a program, and is not loaded.
    """
    for name in bundle.names(f"{BUNDLED}/{entry.name}"):
        found = _PLAN.fullmatch(name.rpartition("/")[2])
        if found is None:
            continue
        if (found["builder"], found["version"], found["target"]) == (builder, version, target.lower()):
            return bundle.read(name)
        _log.info(
            "%s: %s is for another machine: wanted %s %s for %s", bundle.path.name, name, builder, version, target
        )
    return None


def kept_plan(
    model: bytes, signature: Signature, builder: str, version: str, target: str, cache: EngineCache | None = None,
    *, host: str = "",
) -> bytes:  # fmt: skip
    """Return an engine from the cache; builds and keeps it where there is none.

    Args:
        target: compute capability such as ``SM89``.
        host: what else the engine depends on; for ``tensorrt``, which measures kernels, the GPU and its driver.

    Raises:
        ServingError: the builder refuses the model; names the operators.
    """
    from deploykit_export.tensorrt_engine import build_engine, profile_of

    cache = cache or EngineCache()
    where = f"{target} {host}".strip()
    key = EngineKey(
        hashlib.sha256(model).hexdigest(), builder, version, where, profile_of(signature), FLAGS
    )  # fmt: skip
    name = f"{key.digest()}.plan"
    if (kept := cache.read(name)) is not None:
        return kept
    timing = f"{EngineKey('', builder, version, where).digest()}.timing"
    try:
        engine = build_engine(
            model, signature, builder=builder, target=target, timing_cache=cache.read(timing) or b""
        )  # fmt: skip
    except ExportError as error:
        raise ServingError(str(error)) from error
    if engine.version != version:
        raise ServingError(f"{builder} {engine.version} built the engine and {version} would run it; start again")
    cache.write(name, engine.data)
    if engine.timing_cache:
        cache.write(timing, engine.timing_cache)
    return engine.data
