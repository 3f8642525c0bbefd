"""The application: middleware, error handlers and routers, put together in one place."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, FastAPI

import api.approval
import api.approval_orders
import api.approval_people
import api.asyncapi
import api.channel_email
import api.channel_slack
import api.codec
import api.consumer_group
import api.event
import api.execution
import api.health
import api.identity
import api.issuer
import api.marketplace
import api.monitoring
import api.orchestrator
import api.payment
import api.process
import api.process_messages
import api.process_tasks
import api.publishing
import api.rail_webhooks
import api.review
import api.run_control
import api.session
import api.streams
import api.trace
import api.trigger
import api.webhook
import api.websocket
from activities.streams.archive import ArchiveReader
from activities.streams.hub import Hub
from activities.telemetry.exporter import exporting
from activities.telemetry.logs import configure_logging
from activities.telemetry.metrics import OPEN_STREAMS
from activities.telemetry.tracing import tracing
from api.body import BodyMiddleware
from api.correlation import CorrelationMiddleware
from api.errors import UnforeseenErrorMiddleware, add_error_handlers
from api.openapi import describe, operation_id
from api.rate_limits import RateLimitMiddleware, RateLimits, policies_of
from api.shutdown import ending_streams
from api.state import Services, open_services
from api.telemetry import TelemetryMiddleware
from models.settings import Settings, load_settings

ROUTERS: tuple[APIRouter, ...] = (
    api.health.router,
    api.asyncapi.router,
    api.issuer.router,
    api.identity.router,
    api.codec.router,
    # Before the runs: `stream` is no run's id.
    api.streams.router,
    api.event.router,
    api.monitoring.router,
    api.trace.router,
    api.run_control.router,
    api.session.router,
    api.websocket.router,
    api.webhook.router,
    api.consumer_group.router,
    api.rail_webhooks.router,
    api.publishing.router,
    api.review.router,
    api.marketplace.router,
    api.execution.router,
    api.payment.router,
    # Before the requests: `groups` is no request's identifier.
    api.approval_people.router,
    api.approval.router,
    api.approval_orders.router,
    api.channel_slack.router,
    api.channel_email.router,
    api.orchestrator.router,
    api.process.router,
    api.process_tasks.router,
    api.process_messages.router,
    api.trigger.router,
)
"""Every router that is served; a domain's router is added here."""


def create_app(settings: Settings | None = None, services: Services | None = None) -> FastAPI:
    """Build the API.

    Args:
        settings: Where neither settings nor services are given, this is the process of an ASGI server
            (``uvicorn --factory api.app:create_app``): settings come from the environment, logs are set up.
        services: Ready-made services, which the caller closes; made from the settings where not given.
    """
    own_process: Settings | None = None
    if settings is None and services is None:
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format, service="api")
        own_process = settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            if own_process is not None:
                stack.enter_context(tracing(own_process, service="switchyard-api"))
                stack.enter_context(exporting(own_process.metrics_host, own_process.api_metrics_port))
            ready = services
            if ready is None:
                assert settings is not None
                ready = await stack.enter_async_context(open_services(settings))
            app.state.services = ready
            app.state.rate_limits = RateLimits(ready.database, policies_of(ready.settings))
            app.state.hub = Hub(
                ready.database,
                ready.settings.database_platform_url.get_secret_value(),
                ArchiveReader(ready.object_store),
            )
            stack.push_async_callback(app.state.hub.close)
            OPEN_STREAMS.set_function(lambda: app.state.hub.clients)
            with ending_streams(app.state.hub):
                yield

    app = FastAPI(
        title="Switchyard",
        version=_version(),
        description="A durable operations platform for AI agents and business processes. "
        "Conventions: docs/api.md.",
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )

    def openapi() -> dict[str, Any]:
        return describe(app)

    app.openapi = openapi
    for router in ROUTERS:
        app.include_router(router)
    add_error_handlers(app)
    # The last one added is the outermost: correlation first, so that every answer carries its id.
    app.add_middleware(api.codec.CodecCorsMiddleware)
    app.add_middleware(BodyMiddleware)
    app.add_middleware(UnforeseenErrorMiddleware)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(TelemetryMiddleware)
    app.add_middleware(CorrelationMiddleware)
    return app


def _version() -> str:
    try:
        return version("switchyard")
    except PackageNotFoundError:
        return "0"
