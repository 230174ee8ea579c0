"""The BentoML service: ``deploykit_serving.service:DeploykitServer``.

BentoML is pinned below 1.5: overriding ``to_asgi`` is supported through ``service_class``, the application factory
behind it is private.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import bentoml
from _bentoml_sdk.service import Service
from bentoml._internal.configuration.containers import BentoMLContainer

from deploykit_serving.bento_pages import PagesFactory
from deploykit_serving.catalogue import Catalogue
from deploykit_serving.connection import use_connections
from deploykit_serving.front import Front
from deploykit_serving.metrics import Metrics
from deploykit_serving.parent_process import end_with
from deploykit_serving.settings import PARENT, ServingSettings

_SETTINGS = ServingSettings.from_environment()
_CATALOGUE = Catalogue()


class DeploykitService(Service):  # type: ignore[misc]
    """A BentoML service whose data plane answers before BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """Return the worker's application."""
        self.inject_config()
        _quiet_access_log()
        _end_with_parent()
        use_connections()
        # prometheus_client chooses files shared between workers when it is first imported, through BentoML's client.
        BentoMLContainer.metrics_client.get()
        return Front(PagesFactory(self, is_main=is_main)(), _CATALOGUE, _SETTINGS, Metrics())


@bentoml.service(
    name="deploykit",
    service_class=DeploykitService,
    workers=_SETTINGS.workers,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    monitoring={"enabled": False},
)
class DeploykitServer:
    """Models from deploykit bundles, served by the Open Inference Protocol V2 below ``/v2``."""

    def __is_ready__(self) -> bool:
        return _CATALOGUE.state == "ready"


def _quiet_access_log() -> None:
    # uvicorn writes a line a request as soon as any logger above has a handler.
    access = logging.getLogger("uvicorn.access")
    access.handlers = []
    access.propagate = False


def _end_with_parent() -> None:
    """Ask Linux to end this worker when the process that watches it dies, so that no worker is left behind."""
    parent = os.environ.get(PARENT)
    if parent is not None and not end_with(int(parent)):
        sys.exit("the process that started this worker is gone")
