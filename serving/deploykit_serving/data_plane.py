"""The V2 data plane as a bare ASGI application: no routing table, no middleware, one send for head and body each.

Fast models run on the event loop: handing a 20 microsecond run to a thread and back costs more than the run. All
others, every decoder, and every body too large to parse in passing go to a small pool of threads. What a deployment
computes goes through a line of its own, which knows how long it is.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final, NamedTuple

import orjson
from starlette.types import Receive, Scope, Send

from deploykit.errors import SignatureError
from deploykit_serving.catalogue import Catalogue
from deploykit_serving.choice.dispatch import Dispatcher
from deploykit_serving.inference import answer, check, choose, no_budget
from deploykit_serving.metrics import Metrics
from deploykit_serving.models import VERSION, LoadedModel
from deploykit_serving.protocol.budget import budget_header, smaller
from deploykit_serving.protocol.faults import RequestFault, shown
from deploykit_serving.protocol.infer_request import InferRequest, parse_infer_request
from deploykit_serving.protocol.infer_response import JSON_TYPE, Headers
from deploykit_serving.protocol.metadata import server_metadata
from deploykit_serving.request_body import BodyHeaders, BodyReader, DisconnectedError, decompressed, read_headers
from deploykit_serving.settings import ServingSettings
from deploykit_serving.threads import Threads, lanes

ROOT: Final = "/v2"
_INLINE_BODY: Final = 1 << 16
_log = logging.getLogger("deploykit.serving")


class _Reply(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class _Call:
    """One request on its way: when it came, and what the metrics will say of it."""

    __slots__ = ("model", "route", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.route = "other"
        self.model = ""


class DataPlane:
    """Answers everything below ``/v2``."""

    def __init__(self, catalogue: Catalogue, settings: ServingSettings, metrics: Metrics) -> None:
        self._catalogue = catalogue
        self._max_body = settings.max_body
        self._bodies = BodyReader(settings)
        self._metrics = metrics
        self._server = orjson.dumps(server_metadata())
        self._threads = Threads(settings.threads, settings.queue)
        self._dispatcher = Dispatcher(lambda: lanes(settings, catalogue.models.values()), settings.queue, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; whatever happens, it is answered or the caller is gone."""
        call = _Call(time.perf_counter())
        try:
            reply = await self._reply(scope, receive, call)
        except RequestFault as fault:
            reply = fault_reply(fault)
        except SignatureError as error:
            reply = fault_reply(RequestFault(str(error)))
        except DisconnectedError:
            return
        except Exception:
            _log.exception("a request failed: %s %s", scope["method"], shown(scope["path"]))
            reply = fault_reply(RequestFault("internal error; the server's log has the cause", 500))
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})
        self._metrics.answered(call.route, call.model, reply.status, time.perf_counter() - call.started)

    async def _reply(self, scope: Scope, receive: Receive, call: _Call) -> _Reply:
        parts = scope["path"].split("/")[2:]
        if len(parts) >= 3 and parts[0] == "models" and parts[-1] == "infer":
            model = self._model(parts[1:-1], call)
            call.route = "infer"
            _allow(scope, "POST")
            return await self._infer(model, scope, receive, call)
        match parts:
            case [] | [""]:
                call.route = "metadata"
                _allow(scope, "GET", "HEAD")
                return _json(self._server)
            case ["health", "live"]:
                call.route = "health"
                _allow(scope, "GET", "HEAD")
                return _json(b'{"live":true}')
            case ["health", "ready"]:
                call.route = "health"
                _allow(scope, "GET", "HEAD")
                return self._readiness()
            case ["models", *rest, "ready"] if rest:
                call.route = "health"
                model = self._model(rest, call)
                _allow(scope, "GET", "HEAD")
                return _json(orjson.dumps({"name": model.name, "ready": True}))
            case ["models", *rest] if rest:
                call.route = "metadata"
                model = self._model(rest, call)
                _allow(scope, "GET", "HEAD")
                return _json(model.metadata)
        raise RequestFault(
            f"nothing is at {shown(scope['path'])}; there are /v2, /v2/health/live, /v2/health/ready, "
            "/v2/models/NAME, /v2/models/NAME/ready and /v2/models/NAME/infer",
            404,
        )

    def _model(self, parts: list[str], call: _Call) -> LoadedModel:
        """Return the model that ``NAME`` or ``NAME/versions/VERSION`` means."""
        match parts:
            case [name]:
                model = self._catalogue.model(name)
            case [name, "versions", version]:
                model = self._catalogue.model(name, version)
            case _:
                raise RequestFault(f"no model at {shown('/'.join(parts))}; wanted NAME or NAME/versions/{VERSION}", 404)
        call.model = model.name
        return model

    def _readiness(self) -> _Reply:
        state = self._catalogue.state
        ready = state == "ready"
        return _json(orjson.dumps({"ready": ready, "state": state}), 200 if ready else 503)

    async def _infer(self, model: LoadedModel, scope: Scope, receive: Receive, call: _Call) -> _Reply:
        about = read_headers(scope["headers"], self._max_body)
        budget_ms = budget_header(scope["headers"])
        body = await self._bodies.read(receive)
        if model.choice is not None:
            return await self._deployed(model, body, about, budget_ms, call)
        if budget_ms is not None:
            raise no_budget(model)
        if about.encoding or len(body) > _INLINE_BODY:
            return await self._threads.run(_whole, model, body, about, self._max_body)
        request = parse_infer_request(body, about.header_length, model.signature)
        variant = choose(model, request)
        if not request.decode and variant.is_quick(request.inputs):
            return _Reply(200, *answer(model, variant, request))
        return _Reply(200, *await self._threads.run(answer, model, variant, request))

    async def _deployed(
        self, model: LoadedModel, body: bytes, about: BodyHeaders, budget_ms: float | None, call: _Call
    ) -> _Reply:
        if about.encoding or len(body) > _INLINE_BODY:
            request = await self._threads.run(_checked, model, body, about, self._max_body)
        else:
            request = _checked(model, body, about, self._max_body)
        budget = smaller(request.budget_ms, budget_ms)
        return _Reply(200, *await self._dispatcher.answer(model, request, budget, call.started))


def _checked(model: LoadedModel, body: bytes, about: BodyHeaders, max_body: int) -> InferRequest:
    """Return a request to a deployment, with everything looked at that can be before anything is chosen."""
    request = _parsed(model, body, about, max_body)
    check(model, request)
    return request


def _parsed(model: LoadedModel, body: bytes, about: BodyHeaders, max_body: int) -> InferRequest:
    if about.encoding:
        body = decompressed(body, about.encoding, max_body)
    return parse_infer_request(body, about.header_length, model.signature)


def _whole(model: LoadedModel, body: bytes, about: BodyHeaders, max_body: int) -> _Reply:
    request = _parsed(model, body, about, max_body)
    return _Reply(200, *answer(model, choose(model, request), request))


def _allow(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        allowed = ", ".join(methods)
        raise RequestFault(
            f"{scope['method']} is not allowed here; wanted {allowed}", 405, ((b"allow", allowed.encode()),)
        )


def _json(body: bytes, status: int = 200) -> _Reply:
    return _Reply(status, [JSON_TYPE, (b"content-length", b"%d" % len(body))], body)


def fault_reply(fault: RequestFault) -> _Reply:
    """Return the answer for a fault: ``{"error": message}``."""
    reply = _json(orjson.dumps({"error": _sendable(fault.message)}), fault.status)
    reply.headers.extend(fault.headers)
    return reply


def _sendable(text: str) -> Any:
    # A path may hold undecodable bytes as lone surrogates, which JSON cannot carry.
    return text.encode("utf-8", "replace").decode()
