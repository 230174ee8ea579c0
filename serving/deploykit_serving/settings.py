"""Settings of a server; they reach its worker processes through one environment variable as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploykit.errors import ServingError
from deploykit_serving.runtimes import REFERENCE

VARIABLE: Final = "DEPLOYKIT_SERVING"
PARENT: Final = "DEPLOYKIT_SERVING_PARENT"
"""The process a worker must not outlive, by number."""
MEBIBYTE: Final = 1 << 20


class ServingSettings(BaseModel):
    """How a server behaves.

    Attributes:
        bundles: absolute paths, of deployment files too.
        host: address to listen on; local by default, because nothing here authenticates anybody.
        workers: processes; each loads every model.
        threads: threads a worker runs models on; fast models run on the event loop itself.
        queue: requests that may wait for a thread in each worker, and as many for a deployment; further ones are
            answered with 503.
        max_body: bytes of a request's body, before and after decompression.
        body_timeout: seconds a caller may take to send a body.
        unproven: serve bundles whose proofs failed, which ``verify`` needs in order to prove them again.
        drain_timeout: seconds that requests in flight have at shutdown.
        runtime: name of the registered runtime that executes the bundles' files.
        foreign_latencies: serve deployments by latencies that were measured on another host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = Field(3000, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=256)
    threads: int = Field(default_factory=lambda: min(4, len(os.sched_getaffinity(0))), ge=1, le=256)
    queue: int = Field(64, ge=0)
    max_body: int = Field(16 * MEBIBYTE, ge=1)
    body_timeout: float = Field(30.0, gt=0)
    unproven: bool = False
    drain_timeout: int = Field(30, ge=0)
    runtime: str = REFERENCE
    foreign_latencies: bool = False

    @classmethod
    def from_environment(cls) -> ServingSettings:
        """Return the settings of the server this process belongs to; defaults without bundles if there is none.

        Raises:
            ServingError: the variable does not hold settings.
        """
        text = os.environ.get(VARIABLE)
        if text is None:
            return cls()
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ServingError(f"{VARIABLE} does not hold a server's settings: {error.errors()[0]['msg']}") from error
