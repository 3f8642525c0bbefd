"""Messages and signals for processes, from outside."""

from datetime import timedelta
from typing import Literal

from fastapi import APIRouter
from pydantic import Field, JsonValue
from starlette.responses import Response

from activities.process import send
from activities.records.process_messages import broadcast_signal, route_message
from api.camel import CamelAnswer, CamelBody
from api.envelope import errors
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.orchestrator import Runner, Variables
from api.state import ServicesDep
from models.process import MessageStatus
from models.process_errors import MessageConflictError

router = APIRouter(prefix="/api/orchestrator", tags=["processes"])

DAY = 86_400


class PublishRequest(CamelBody):
    """A message: who waits for its name and key gets it, the longest-waiting first."""

    name: str = Field(min_length=1, max_length=200)
    correlation_key: str | None = Field(default=None, max_length=200)
    variables: Variables = Field(default_factory=dict[str, JsonValue])
    message_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Twice under one id is one message.",
    )
    ttl_seconds: int = Field(
        default=3600,
        ge=0,
        le=30 * DAY,
        strict=True,
        description="How long it waits for a taker.",
    )


class Published(CamelAnswer):
    """What became of a message."""

    message_id: str
    status: Literal["correlated", "buffered", "delivered", "expired"]
    instance_id: str | None


class BroadcastRequest(CamelBody):
    """A signal: everybody who waits for it now gets it."""

    name: str = Field(min_length=1, max_length=200)
    variables: Variables = Field(default_factory=dict[str, JsonValue])


class Broadcast(CamelAnswer):
    """Who got a signal."""

    signal_id: str
    instances: list[str]


@router.post(
    "/messages",
    status_code=202,
    response_model=Published,
    responses=errors(MessageConflictError, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def publish_message(
    body: PublishRequest, caller: Runner, services: ServicesDep, once: OnceDep
) -> Response:
    """Publish a message by name and correlation key; it waits for its time to live if nobody takes it."""

    async def publish(identifier: str) -> Published:
        message_id = body.message_id or identifier
        async with services.database.tenant(caller.tenant_id) as connection:
            routed = await route_message(
                connection,
                tenant_id=caller.tenant_id,
                message_id=message_id,
                name=body.name,
                correlation=body.correlation_key,
                variables=dict(body.variables),
                source=caller.user_id,
                ttl=timedelta(seconds=body.ttl_seconds),
            )
        if routed.delivery is not None:
            await send(services.temporal, [routed.delivery])
            return Published(
                message_id=message_id, status="correlated", instance_id=routed.delivery.instance_id
            )
        status = routed.message.status
        if status == MessageStatus.EXPIRED:
            return Published(message_id=message_id, status="expired", instance_id=None)
        if status == MessageStatus.DELIVERED:
            return Published(
                message_id=message_id, status="delivered", instance_id=routed.message.instance_id
            )
        return Published(message_id=message_id, status="buffered", instance_id=None)

    return await once.answer("message", publish)


@router.post(
    "/signals",
    status_code=202,
    response_model=Broadcast,
    responses=errors(IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def publish_signal(
    body: BroadcastRequest, caller: Runner, services: ServicesDep, once: OnceDep
) -> Response:
    """Broadcast a signal to every instance that waits for it now."""

    async def broadcast(signal_id: str) -> Broadcast:
        async with services.database.tenant(caller.tenant_id) as connection:
            deliveries = await broadcast_signal(
                connection,
                tenant_id=caller.tenant_id,
                message_id=signal_id,
                name=body.name,
                variables=dict(body.variables),
                source=caller.user_id,
            )
        await send(services.temporal, deliveries)
        return Broadcast(
            signal_id=signal_id, instances=sorted(delivery.instance_id for delivery in deliveries)
        )

    return await once.answer("message", broadcast)
