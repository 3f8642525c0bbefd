"""The WebSockets of flowgrid-level3 §11.4: ``→ { type: "task.started", data: {...} }``.

Each frame is one event as JSON, in the words of flowgrid-level3 §4.2, with ``seq`` and ``position``. Who
comes back says where it was: ``?fromSeq=`` for an instance, ``?fromPosition=`` for the approvals.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, Request, WebSocket
from pydantic import BaseModel, Field
from starlette.websockets import WebSocketDisconnect

from activities.records.database import DatabaseUnavailableError
from activities.records.run_lists import count_runs
from activities.streams.hub import Hub
from activities.streams.subscription import Subscription
from api.authentication import Caller
from api.envelope import Success, success
from api.errors import platform_error
from api.state import Services, ServicesDep, services_of
from api.stream_access import StreamCaller, make_ticket, stream_caller
from models.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PlatformError,
)
from models.event import EventType
from models.identifiers import PATTERN
from models.identity import Permission
from models.stream import TICKET_SECONDS

log: structlog.stdlib.BoundLogger = structlog.get_logger("api.websocket")

router = APIRouter(tags=["streams"])

APPROVAL_TYPES = tuple(
    sorted(each.value for each in EventType if each.value.startswith(("approval.", "sla.")))
)

DASHBOARD_SECONDS = 2.0
"""The dashboard is told of changes at most so often."""

# Codes 4000 to 4999 are the application's (RFC 6455 §7.4.2); ours are 4000 + the HTTP status.
CLOSE_EXPIRED = 4401
CLOSE_ENDED = 1000
CLOSE_GOING_AWAY = 1001


class Ticket(BaseModel):
    """Opens one stream or WebSocket as ``?ticket=``, once."""

    ticket: str
    expires_in_seconds: int = Field(description="Use it within so many seconds.")


@router.post("/api/ws/tickets", status_code=201, response_model=Success[Ticket])
async def create_ticket(request: Request, caller: Caller, services: ServicesDep) -> Success[Ticket]:
    """Get a one-time ticket for a browser's EventSource or WebSocket, which can send no header."""
    ticket = await make_ticket(request, services, caller)
    return success(Ticket(ticket=ticket, expires_in_seconds=TICKET_SECONDS))


def _number(websocket: WebSocket, name: str) -> int | None:
    given = websocket.query_params.get(name)
    if given is None:
        return None
    if not given.isdecimal() or len(given) > 15:
        raise InvalidRequestError(
            f"{name} is not a number.",
            details={
                "fields": [
                    {
                        "field": f"query.{name}",
                        "rule": "number",
                        "message": "not a number",
                        "remedy": "Send a number, or leave it out.",
                    }
                ]
            },
        )
    return int(given)


async def _admit(websocket: WebSocket, services: Services, permission: Permission) -> StreamCaller:
    caller = await stream_caller(websocket, services, websocket.query_params.get("ticket"), websocket=True)
    caller.principal.require(permission)
    return caller


@asynccontextmanager
async def _refusing(websocket: WebSocket) -> AsyncGenerator[None]:
    """Close with 4000 + the HTTP status and the error's code when something is refused."""
    try:
        yield
    except WebSocketDisconnect:
        return
    except (
        AuthenticationError,
        PermissionDeniedError,
        NotFoundError,
        InvalidRequestError,
        DatabaseUnavailableError,
    ) as refusal:
        failure: PlatformError = platform_error(refusal)
        if websocket.application_state.name == "CONNECTING":
            await websocket.accept()
        await websocket.close(code=4000 + failure.http_status, reason=failure.code)


async def _pump(websocket: WebSocket, follow: AbstractAsyncContextManager[Subscription]) -> None:
    """Send what a subscription gives until it ends; the client's own frames are read and ignored."""
    async with follow as subscription:
        await websocket.accept()
        watching = asyncio.create_task(_watch(websocket, subscription))
        try:
            while not subscription.closed:
                for message in await subscription.batch():
                    await websocket.send_text(message.flowgrid)
                if subscription.ended:
                    await websocket.close(CLOSE_ENDED, "the run has ended")
                    return
            if not watching.done():
                expired = subscription.expires_at is not None and subscription.expires_at <= datetime.now(UTC)
                await websocket.close(CLOSE_EXPIRED if expired else CLOSE_GOING_AWAY)
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def _watch(websocket: WebSocket, subscription: Subscription) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        continue
    subscription.close()


@router.websocket("/api/ws/instances/{instance_id}")
async def follow_instance(websocket: WebSocket, instance_id: str) -> None:
    """Send every event of one instance (any run), then close with 1000."""
    services = services_of(websocket)
    hub: Hub = websocket.app.state.hub
    async with _refusing(websocket):
        caller = await _admit(websocket, services, Permission.RUNS_READ)
        from_seq = _number(websocket, "fromSeq") or 1
        if not PATTERN.fullmatch(instance_id):
            raise NotFoundError("There is no such instance.")
        await hub.run_of(caller.principal.tenant_id, instance_id)
        await _pump(websocket, hub.follow_runs({instance_id: from_seq - 1}, expires_at=caller.expires_at))


@router.websocket("/api/ws/approvals")
async def follow_approvals(websocket: WebSocket) -> None:
    """Send the tenant's approval and SLA events as they come, or from a position on."""
    services = services_of(websocket)
    hub: Hub = websocket.app.state.hub
    async with _refusing(websocket):
        caller = await _admit(websocket, services, Permission.RUNS_READ)
        await _pump(
            websocket,
            hub.follow_tenant(
                caller.principal.tenant_id,
                types=APPROVAL_TYPES,
                after=_number(websocket, "fromPosition"),
                expires_at=caller.expires_at,
            ),
        )


@router.websocket("/api/ws/dashboard")
async def follow_dashboard(websocket: WebSocket) -> None:
    """Send ``metrics.update`` at once and whenever something happened, at most every two seconds."""
    services = services_of(websocket)
    hub: Hub = websocket.app.state.hub
    async with _refusing(websocket):
        caller = await _admit(websocket, services, Permission.RUNS_READ)
        tenant_id = caller.principal.tenant_id
        async with hub.follow_tenant(tenant_id, expires_at=caller.expires_at) as subscription:
            await websocket.accept()
            watching = asyncio.create_task(_watch(websocket, subscription))
            try:
                while not subscription.closed:
                    await websocket.send_text(orjson.dumps(await _metrics(services, tenant_id)).decode())
                    while not await subscription.batch() and not subscription.closed:
                        continue
                    await asyncio.wait([watching], timeout=DASHBOARD_SECONDS)
                if not watching.done():
                    await websocket.close(CLOSE_GOING_AWAY)
            finally:
                watching.cancel()
                await asyncio.wait([watching])


async def _metrics(services: Services, tenant_id: str) -> dict[str, Any]:
    async with services.database.tenant(tenant_id) as connection:
        counts = await count_runs(connection)
    return {"type": "metrics.update", "timestamp": datetime.now(UTC), "data": {"runs": counts}}
