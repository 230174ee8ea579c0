"""A small client for V2 servers: numpy in, numpy out, bit for bit."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import ServingError
from deploykit.signature import Arrays
from deploykit_serving.protocol.budget import PARAMETER
from deploykit_serving.protocol.datatypes import datatype_of, numpy_dtype

_HEADER_LENGTH: Final = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of an answer.

    Attributes:
        variant: which one answered; empty if the server does not say.
        queue_us: microseconds it waited for its turn; ``None`` unless a deployment answered.
        compute_us: microseconds it ran; ``None`` unless a deployment answered.
    """

    variant: str = ""
    queue_us: int | None = None
    compute_us: int | None = None


class Client:
    """One kept connection to a server; not for several threads at once.

    Attributes:
        served: what the server said of its last answer to :meth:`infer`.

    Args:
        url: base URL, ``http://127.0.0.1:3000``.
        timeout: seconds to wait for the connection and for each answer.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServingError(f"wanted a base URL as http://127.0.0.1:3000, got {url!r}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._url = url.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self.served = Served()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def metadata(self, model: str = "") -> dict[str, Any]:
        """Return what the server, or one of its models, says about itself.

        Raises:
            ServingError: the server cannot be reached or refuses; with its words.
        """
        _, body = self._call("GET", f"/v2/models/{quote(model, safe='')}" if model else "/v2", None, {})
        document: dict[str, Any] = json.loads(body)
        return document

    def infer(
        self,
        model: str,
        arrays: Arrays,
        *,
        decode: bool = False,
        variant: str | None = None,
        binary: bool = True,
        budget_ms: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a model and return its outputs by name.

        Args:
            arrays: inputs by name, with the dtypes of the model's signature.
            decode: return what the bundle's decoder makes of the outputs.
            variant: name of the variant that shall answer; ``None`` for the default.
            binary: exchange bytes, which are exact and fast, instead of JSON numbers.
            budget_ms: milliseconds from the request's arrival at the server within which the answer shall be ready;
                only for deployments. What the way takes comes on top.

        Raises:
            ServingError: the server cannot be reached or refuses, as it does when nothing can meet the budget; with
                its words.
        """
        self.served = Served()
        tensors, tail = [], []
        for name, array in arrays.items():
            tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": _datatype(name, array)}
            if binary:
                tail.append(np.ascontiguousarray(array).tobytes())
                tensor["parameters"] = {"binary_data_size": len(tail[-1])}
            else:
                tensor["data"] = array.ravel().tolist()
            tensors.append(tensor)
        parameters: dict[str, Any] = {"binary_data_output": binary}
        if decode:
            parameters["decode"] = True
        if variant is not None:
            parameters["variant"] = variant
        if budget_ms is not None:
            parameters[PARAMETER] = budget_ms
        header = json.dumps({"inputs": tensors, "parameters": parameters}).encode()
        headers = {"Content-Type": "application/json"}
        if binary:
            headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(header))}
        answer, body = self._call(
            "POST", f"/v2/models/{quote(model, safe='')}/infer", b"".join((header, *tail)), headers
        )
        self.served = Served(
            answer.getheader("deploykit-variant", ""),
            _whole_number(answer.getheader("deploykit-queue-us")),
            _whole_number(answer.getheader("deploykit-compute-us")),
        )
        length = answer.getheader(_HEADER_LENGTH)
        return _outputs(body, len(body) if length is None else int(length))

    def _call(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._connection.request(method, self._path + path, body, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServingError(f"{self._url}: no answer: {error or type(error).__name__}") from error
        if answer.status != 200:
            raise ServingError(f"{self._url}{path} answered {answer.status}: {_error_text(content)}")
        return answer, content


def infer(
    url: str,
    model: str,
    arrays: Arrays,
    *,
    decode: bool = False,
    variant: str | None = None,
    binary: bool = True,
    budget_ms: float | None = None,
    timeout: float = 60.0,
) -> dict[str, NDArray[Any]]:
    """Run a model once over a connection of its own; see :meth:`Client.infer`."""
    with Client(url, timeout) as client:
        return client.infer(model, arrays, decode=decode, variant=variant, binary=binary, budget_ms=budget_ms)


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _datatype(name: str, array: NDArray[Any]) -> str:
    try:
        return datatype_of(array.dtype)
    except KeyError:
        raise ServingError(f"input {name!r}: {array.dtype} has no V2 datatype") from None


def _outputs(body: bytes, header_length: int) -> dict[str, NDArray[Any]]:
    document = json.loads(body[:header_length])
    outputs: dict[str, NDArray[Any]] = {}
    offset = header_length
    for output in document["outputs"]:
        dtype = numpy_dtype(output["datatype"], output["name"])
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(output["data"], dtype=dtype)
        else:
            array = np.frombuffer(body, dtype, size // dtype.itemsize, offset).copy()
            offset += size
        outputs[output["name"]] = array.reshape(output["shape"])
    return outputs


def _error_text(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace") or "nothing"
