"""What ``verify`` needs beyond files, put together from export and serving: an engine, a server, a stopwatch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from deploykit.bundle import Bundle
from deploykit.errors import DeploykitError
from deploykit.signature import Arrays
from deploykit_export.verification import OtherRuntime, Runner, Speed, Surroundings


def surroundings(*, http: bool, speed: bool, runtimes: Sequence[str] = ()) -> Surroundings:
    """Return what this machine has; what is missing or not wanted is told as a reason.

    Args:
        runtimes: those that must run at least one file; all others run what they can.

    Raises:
        RegistryError: there is no runtime of one of the names that were asked for.
    """
    from deploykit_serving.runtimes import open_session

    server = "left out with --no-http"
    if http:
        server = "" if importlib.util.find_spec("bentoml") else "bentoml is not installed (extra: serve)"
    return Surroundings(
        open_session=open_session,
        http=server or _server,
        speeds=_speeds if speed else "left out with --no-speed",
        further=_others(runtimes),
    )


def _others(asked: Sequence[str]) -> dict[str, OtherRuntime]:
    """Return every runtime of files beside the reference, those that were asked for first."""
    from deploykit.making import make_runtime
    from deploykit.registry import installed
    from deploykit_serving.runtimes import REFERENCE, open_variant

    others = {}
    for name in (*dict.fromkeys(asked), *(item for item in installed().runtimes if item not in asked)):
        try:
            engine = make_runtime(name)
        except DeploykitError:
            if name in asked:
                raise
            continue  # a plugin that does not load is told by `deploykit plugins`
        # What starts from the bundle is the hard form itself, which is a hop of its own.
        if name not in asked and (name == REFERENCE or engine.starts_from == "bundle"):
            continue
        try:
            reason = engine.missing()
        except Exception as error:  # a plugin's own code
            reason = f"{type(error).__name__}: {error}"
        others[name] = OtherRuntime(reason or partial(open_variant, runtime=name), engine.targets, asked=name in asked)
    return others


@dataclass(frozen=True, slots=True)
class _HttpRunner:
    """Asks one variant of one served model."""

    url: str
    model: str
    variant: str

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        from deploykit_serving.client import infer

        return infer(self.url, self.model, inputs, variant=self.variant)


@contextmanager
def _server(bundle: Bundle) -> Iterator[Callable[[str], Runner]]:
    from deploykit_serving.launch import running

    with running([bundle.path], unproven=True) as url:
        yield lambda variant: _HttpRunner(url, bundle.manifest.name, variant)


def _speeds(bundle: Bundle) -> Mapping[str, Speed]:
    from deploykit_serving.profiling.profile import compare_with_baseline

    measured = compare_with_baseline(bundle)
    return {name: Speed(ratio.ratio, ratio.low, ratio.high) for name, ratio in measured.items()}
