"""Counts and traces every request, by its route's template, never by its path."""

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from activities.telemetry.metrics import HTTP_DURATION, HTTP_REQUESTS
from activities.telemetry.tracing import request_span

UNMATCHED = "unmatched"


class TelemetryMiddleware:
    """Measures requests; a stream counts when it ends, and its length is no latency."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method: str = scope["method"]
        started = time.perf_counter()
        status = 500
        streamed = False

        async def send_watched(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = int(message["status"])
                kind = Headers(raw=message.get("headers", [])).get("content-type", "")
                streamed = kind.startswith("text/event-stream")
            await send(message)

        headers = dict(Headers(scope=scope).items())
        with request_span(method, headers, {"http.request.method": method}) as span:
            try:
                await self._app(scope, receive, send_watched)
            finally:
                route = getattr(scope.get("route"), "path_format", None) or UNMATCHED
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                HTTP_REQUESTS.labels(method, route, str(status)).inc()
                if not streamed:
                    HTTP_DURATION.labels(method, route).observe(time.perf_counter() - started)
