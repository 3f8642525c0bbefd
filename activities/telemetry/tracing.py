"""OpenTelemetry traces: one from the request over workflow and activity to container, model and rail.

Off unless ``OTLP_ENDPOINT`` says where spans go (OTLP over HTTP). A caller's W3C ``traceparent`` is kept. The
Temporal SDK's plug-in makes the spans of workflows and activities and carries the context between them; what
they touch outside adds its own with `span`.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from temporalio.client import Plugin
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, create_tracer_provider

from models.settings import Settings

CORRELATION_ATTRIBUTE = "switchyard.correlation_id"
TENANT_ATTRIBUTE = "switchyard.tenant_id"
RUN_ATTRIBUTE = "switchyard.run_id"

_TRACER = "switchyard"

Attributes = Mapping[str, str | int | float | bool]


@contextmanager
def tracing(settings: Settings, *, service: str) -> Generator[None]:
    """Send this process's spans to the settings' collector for as long as the block lasts.

    OpenTelemetry has one provider per process: enter once, first thing.

    Args:
        settings: ``otlp_endpoint``; empty: nothing is traced.
        service: Name of the process (``switchyard-api``).
    """
    if not settings.otlp_endpoint:
        yield
        return
    provider = create_tracer_provider(resource=Resource.create({SERVICE_NAME: service}))
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def temporal_plugins(settings: Settings) -> list[Plugin]:
    """Return what the Temporal client needs to trace; its workers take it over."""
    return [OpenTelemetryPlugin(add_temporal_spans=True)] if settings.otlp_endpoint else []


@contextmanager
def span(
    name: str, attributes: Attributes | None = None, *, kind: SpanKind = SpanKind.CLIENT
) -> Generator[Span]:
    """Trace the block as one step of what goes on; costs next to nothing where tracing is off.

    An exception marks the span as failed with its class only: messages may hold what nobody else should read.

    Args:
        name: What is done, in few and constant words: ``sandbox run``, ``rail POST``.
        attributes: Facts for people who search; never secrets.
        kind: Client for a call to the outside, server for a request that is answered.
    """
    tracer = trace.get_tracer(_TRACER)
    with tracer.start_as_current_span(
        name,
        kind=kind,
        attributes=_attributes(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


@contextmanager
def request_span(name: str, headers: Mapping[str, str], attributes: Attributes) -> Generator[Span]:
    """Trace the answering of a request, as part of the caller's trace where it sent one.

    Args:
        name: Method and route.
        headers: The request's, in lower case.
        attributes: Facts of the request.
    """
    tracer = trace.get_tracer(_TRACER)
    with tracer.start_as_current_span(
        name, context=extract(headers), kind=SpanKind.SERVER, attributes=_attributes(attributes)
    ) as current:
        yield current


def _attributes(given: Attributes | None) -> dict[str, str | int | float | bool]:
    correlation = structlog.contextvars.get_contextvars().get("correlation_id")
    known = {CORRELATION_ATTRIBUTE: correlation} if isinstance(correlation, str) else {}
    return {**known, **(given or {})}
