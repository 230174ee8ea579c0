"""``deploykit serve``: answer requests over HTTP by the Open Inference Protocol V2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from deploykit_serving.models import LoadedModel


def serve(
    bundles: Annotated[
        list[Path],
        typer.Argument(help="Bundles and deployment files (.json) to serve side by side.", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens the server to the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each loads every model.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads a worker runs slow models on.")] = None,
    max_body: Annotated[int, typer.Option(min=1, help="Largest body of a request, in MiB.")] = 16,
    runtime: Annotated[
        str, typer.Option(help="What executes the bundles' files; a deployment names its own.")
    ] = "onnxruntime-cpu",
    foreign_latencies: Annotated[
        bool, typer.Option("--foreign-latencies", help="Serve deployments that were measured on another host.")
    ] = False,
) -> None:
    """Serve bundles over HTTP (Open Inference Protocol V2: JSON, binary tensors, raw).

    Every file is checked, every model warmed up and tested against its bundle's samples before the first request. Of a
    deployment file, which deploykit select writes, each request gets the best variant that can meet its latency budget.

    Examples:
      deploykit serve bundles/digits.bundle
      deploykit serve bundles/*.bundle --port 8000 --workers 2
      deploykit serve deployment.json
    """
    from deploykit_serving import launch
    from deploykit_serving.loading import load_models
    from deploykit_serving.settings import MEBIBYTE

    # Loaded once here, so that whatever is wrong is one message and an exit code, not a line in a worker's log.
    loaded = load_models(bundles, runtime=runtime, foreign_latencies=foreign_latencies)
    described = [_described(model) for model in loaded.values()]
    first = next((model for model in described if model.body), None)

    def tell(url: str) -> None:
        typer.echo(f"\nserving at {url}  (Ctrl+C ends it)\n")
        for model in described:
            typer.echo(model.text)
        if first is None:
            typer.echo(f"\ntry:\n  curl -s {url}/v2/models/{described[0].name}\n")
            return
        infer = f"{url}/v2/models/{first.name}/infer"
        typer.echo(f"\ntry:\n  curl -s -H 'content-type: application/json' {infer} -d '{first.body}'\n")

    further: dict[str, Any] = {"runtime": runtime, "max_body": max_body * MEBIBYTE}
    if foreign_latencies:
        further["foreign_latencies"] = True
    if threads is not None:
        further["threads"] = threads
    launch.serve(bundles, host, port, workers, on_ready=tell, **further)


class _Described:
    """A model as the terminal shows it."""

    def __init__(self, name: str, text: str, body: str) -> None:
        self.name = name
        self.text = text
        self.body = body


def _described(model: LoadedModel) -> _Described:
    from deploykit_serving.introduction import example_request, summary

    return _Described(model.name, summary(model), example_request(model))
