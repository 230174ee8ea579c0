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
from deploykit.signature import Arrays
from deploykit_export.verification import Runner, Speed, Surroundings


def surroundings(*, http: bool, speed: bool, runtimes: Sequence[str] = ()) -> Surroundings:
    """Return what this machine has; what is missing or not wanted is told as a reason.

    Raises:
        RegistryError: there is no runtime of one of the names.
    """
    from deploykit.making import make_runtime
    from deploykit_serving.runtimes import open_session

    for name in runtimes:
        make_runtime(name)

    server = "left out with --no-http"
    if http:
        server = "" if importlib.util.find_spec("bentoml") else "bentoml is not installed (extra: serve)"
    return Surroundings(
        open_session=open_session,
        http=server or _server,
        speeds=_speeds if speed else "left out with --no-speed",
        further={name: partial(open_session, runtime=name) for name in runtimes},
    )


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
