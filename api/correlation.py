"""One correlation id per request, in and out, and one log line per request."""

import re
import time
import uuid
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Correlation-Id"

_ACCEPTABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}")

_current: ContextVar[str] = ContextVar("correlation_id", default="")

log: structlog.stdlib.BoundLogger = structlog.get_logger("api.request")


def correlation_id() -> str:
    """Return the id of the request being answered; a new one outside of a request."""
    return _current.get() or uuid.uuid4().hex


class CorrelationMiddleware:
    """Takes ``X-Correlation-Id`` from the caller or makes one, and binds it to logs and errors.

    An id that is not 1 to 128 letters, digits or ``._:-`` is replaced, never echoed: it ends in logs and
    in other systems' headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        chosen = given if _ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex
        token = _current.set(chosen)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=chosen)
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.accept"):
                status = int(message.get("status", 101))
                MutableHeaders(scope=message)[HEADER] = chosen
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            log.info(
                "request",
                method=scope.get("method", "WEBSOCKET"),
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )
            _current.reset(token)
