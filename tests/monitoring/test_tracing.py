"""One trace and one correlation id from the request to the activity, seen by a collector of our own."""

import gzip
import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from activities.records.database import Database
from activities.records.runs import read_events
from activities.telemetry.logs import configure_logging
from activities.telemetry.tracing import CORRELATION_ATTRIBUTE, span, tracing
from api.issuer_key import IssuerKey
from cli.stack.process import wait_until
from models.identity import Role
from models.settings import Settings
from models.task_queues import TaskQueue
from tests.api.calling import bearer, serving, with_issuer, working
from tests.builders import Marketplace, Person, manifest, unique

CORRELATION = "corr-7f3a"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Collector:
    """Takes spans as an OpenTelemetry collector does (OTLP over HTTP)."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, trace_id: str) -> dict[str, Span]:
        return {each.name: each for each in self.spans if each.trace_id.hex() == trace_id}

    def above(self, span: Span) -> list[str]:
        """Names of the spans that a span is part of, the next one first."""
        by_id = {each.span_id: each for each in self.spans}
        names = list[str]()
        while span.parent_span_id in by_id:
            span = by_id[span.parent_span_id]
            names.append(span.name)
        return names


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def traced_settings(
    services: Settings, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    settings = with_issuer(services, tmp_path_factory.mktemp("traced-secrets"))
    return settings.model_copy(update={"otlp_endpoint": collector.url})


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What the processes log; the tests' own configuration comes back afterwards."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level, structured = root.handlers[:], root.level, structlog.get_config()
    configure_logging(service="test", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**structured)


async def test_a_callers_trace_goes_on_to_the_activity_and_carries_its_correlation_id(
    traced_settings: Settings, collector: Collector, logged: io.StringIO
) -> None:
    key = IssuerKey.from_settings(traced_settings)
    assert key is not None
    tenant = unique("tenant")
    token = key.issue(
        issuer=traced_settings.jwt_issuer,
        audience=traced_settings.jwt_audience,
        name="dev",
        tenant_id=tenant,
        roles=[Role.DEVELOPER],
        lifetime_seconds=600,
    )
    with (
        tracing(traced_settings, service="switchyard-test"),
        working(traced_settings, [TaskQueue.CORE]),
        serving(traced_settings) as url,
    ):
        headers = {"traceparent": PARENT, "X-Correlation-Id": CORRELATION}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
            developer = Person(client, "dev", tenant, token)
            declared = manifest(unique("agent"))
            answer = await Marketplace(client).submit(developer, {"main.py": "print('{}')"}, declared)
            assert answer.status_code == 201, answer.text
            run_id = answer.json()["data"]["version_id"]
            runs = await client.get(f"/runs/{run_id}", headers=bearer(token))
            assert runs.json()["data"]["correlation_id"] == CORRELATION
    wait_until(lambda: "RunActivity:scan_submission" in collector.of(TRACE_ID), 20)

    found = collector.of(TRACE_ID)
    request = found["POST /agents/register"]
    assert request.parent_span_id.hex() == PARENT.split("-")[2]
    attributes = {each.key: each.value.string_value for each in request.attributes}
    assert attributes[CORRELATION_ATTRIBUTE] == CORRELATION
    started = next(each for name, each in found.items() if name.startswith("StartUpdateWithStart"))
    assert collector.above(started)[-1] == "POST /agents/register", collector.above(started)
    # The workflow's own span ends when a reviewer has decided; its activities are in the trace already.
    assert (
        found["RunActivity:scan_submission"].parent_span_id == found["StartActivity:scan_submission"].span_id
    )

    lines = [json.loads(line) for line in logged.getvalue().splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request" and line["path"] == "/agents/register"]
    assert requests[0]["correlation_id"] == CORRELATION

    async with (
        Database(
            traced_settings.database_url.get_secret_value(),
            traced_settings.database_platform_url.get_secret_value(),
        ) as store,
        store.tenant(tenant) as connection,
    ):
        events = await read_events(connection, run_id)
    assert {event.correlation_id for event in events} == {CORRELATION}


def test_a_span_costs_nothing_to_speak_of_and_keeps_the_exceptions_text_to_itself() -> None:
    with pytest.raises(ValueError, match="secret"), span("rail POST", {"rail": "stripe"}) as current:
        raise ValueError("secret")
    assert current is not None
