"""``/metrics`` of one process: its own metrics and those of the Temporal SDK, on an address of its own.

The SDK (Rust) serves its metrics by itself; here that happens on a loopback port that nobody needs to know,
and a scrape of ours passes them on. Nothing is computed between scrapes.
"""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from activities.telemetry.metrics import REGISTRY

log: structlog.stdlib.BoundLogger = structlog.get_logger("telemetry")

SDK_SECONDS = 2.0

# The SDK's own buckets end at a minute; an agent or a person takes longer.
_TASK_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600, 3600)
_BUCKETS = {
    "activity_schedule_to_start_latency": _TASK_BUCKETS,
    "activity_execution_latency": _TASK_BUCKETS,
    "activity_succeed_endtoend_latency": _TASK_BUCKETS,
    "workflow_endtoend_latency": _TASK_BUCKETS,
    "workflow_task_schedule_to_start_latency": _TASK_BUCKETS,
}


# A proxy of the environment must not be asked for what is on loopback.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_sdk_metrics() -> str:
    """Let the Temporal SDK of this process count; returns where it tells. Before any client is made."""
    address = f"127.0.0.1:{_free_port()}"
    Runtime.set_default(
        Runtime(
            telemetry=TelemetryConfig(
                metrics=PrometheusConfig(
                    bind_address=address,
                    counters_total_suffix=True,
                    unit_suffix=True,
                    durations_as_seconds=True,
                    histogram_bucket_overrides=_BUCKETS,
                )
            )
        )
    )
    return f"http://{address}/metrics"


class _Handler(BaseHTTPRequestHandler):
    """Answers a scrape."""

    sdk: str | None = None

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        body = generate_latest(REGISTRY) + self._sdk_metrics()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _sdk_metrics(self) -> bytes:
        if self.sdk is None:
            return b""
        try:
            with _DIRECT.open(self.sdk, timeout=SDK_SECONDS) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, TimeoutError) as error:
            log.warning("the SDK does not tell its metrics", reason=str(error))
            return b""

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not worth a line each."""


@contextmanager
def exporting(host: str, port: int, *, sdk: bool = True) -> Generator[str | None]:
    """Serve ``/metrics`` for as long as the block lasts; gives its address, None where it cannot be served.

    Args:
        host: Address to listen on; loopback unless a scraper comes from elsewhere.
        port: Port; 0: no metrics are served.
        sdk: Whether to count what the Temporal SDK does. Enter the block before any client is made.
    """
    if port == 0:
        yield None
        return
    try:
        server = ThreadingHTTPServer((host, port), _Handler)
    except OSError as error:
        # A process that works unseen is better than one that does not start.
        log.error("metrics are not served", host=host, port=port, reason=str(error))
        yield None
        return
    server.daemon_threads = True
    server.RequestHandlerClass = type("Handler", (_Handler,), {"sdk": _start_sdk_metrics() if sdk else None})
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
