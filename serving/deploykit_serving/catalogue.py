"""The models of one worker process, and whether they are ready."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
from collections.abc import Mapping
from typing import Literal

from deploykit.errors import DeploykitError
from deploykit_serving.loading import load_models
from deploykit_serving.models import VERSION, LoadedModel, nearest_hint
from deploykit_serving.protocol.faults import RequestFault, shown
from deploykit_serving.settings import ServingSettings

State = Literal["loading", "ready", "failed"]
_log = logging.getLogger("deploykit.serving")


class Catalogue:
    """The loaded models by name; empty until loading is done.

    Attributes:
        state: ``ready`` once every model is loaded, warmed up and self-tested.
    """

    def __init__(self, models: Mapping[str, LoadedModel] | None = None) -> None:
        self.models: Mapping[str, LoadedModel] = models or {}
        self.state: State = "loading" if models is None else "ready"

    def load_in_background(self, settings: ServingSettings) -> None:
        """Load the settings' bundles on a thread, so that health can be asked for meanwhile."""
        if self.state == "loading":
            threading.Thread(target=self._try, args=[settings], name="load models", daemon=True).start()

    def _try(self, settings: ServingSettings) -> None:
        # What is wrong was logged; this worker stays up to say so.
        with contextlib.suppress(Exception):
            self.load(settings)

    def load(self, settings: ServingSettings) -> None:
        """Load the settings' bundles.

        Raises:
            Exception: a bundle cannot be served; logged, and ``state`` is ``failed``.
        """
        try:
            self.models = load_models(
                settings.bundles,
                unproven=settings.unproven,
                runtime=settings.runtime,
                foreign_latencies=settings.foreign_latencies,
            )
        except DeploykitError as error:
            self.state = "failed"
            _log.error("the models cannot be served: %s", error)
            raise
        except Exception:
            self.state = "failed"
            _log.exception("the models cannot be served")
            raise
        # Everything loaded so far lives as long as the process: collections need not walk it again and again.
        gc.collect()
        gc.freeze()
        self.state = "ready"
        _log.info("ready: %s", ", ".join(self.models))

    def model(self, name: str, version: str = VERSION) -> LoadedModel:
        """Return a loaded model.

        Raises:
            RequestFault: 503 while loading; 404 for a name or version that does not exist, with the nearest.
        """
        if self.state != "ready":
            raise RequestFault("the models are not ready; try again", 503, ((b"retry-after", b"1"),))
        model = self.models.get(name)
        if model is None:
            raise RequestFault(f"no model {shown(name)}. {nearest_hint(name, self.models)}", 404)
        if version != VERSION:
            raise RequestFault(f"model {name!r} has no version {shown(version)}; there is: {VERSION}", 404)
        return model
