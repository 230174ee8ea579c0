"""What the server and its models say about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from deploykit.signature import Signature, TensorSpec
from deploykit_serving.protocol.datatypes import datatype_of


def server_metadata() -> dict[str, Any]:
    """Return the answer to ``GET /v2``."""
    return {"name": "deploykit", "version": metadata.version("deploykit"), "extensions": ["binary_tensor_data"]}


def model_metadata(
    name: str, version: str, signature: Signature, parameters: Mapping[str, str | bool | float]
) -> dict[str, Any]:
    """Return the answer to ``GET /v2/models/{name}``; free dimensions are -1.

    Args:
        parameters: flat facts beside the protocol's own: the variants, the decoder, what a deployment rests on.
    """
    return {
        "name": name,
        "versions": [version],
        "platform": "onnx_onnxv1",
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
        "parameters": dict(parameters),
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": shape}
