"""Webhooks out: where a tenant wants its events sent (Standard Webhooks)."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from activities.records.webhooks import (
    add_endpoint,
    delete_endpoint,
    find_endpoint,
    list_deliveries,
    list_endpoints,
    redrive_delivery,
)
from activities.streams.webhooks import check_url, new_secret, open_secret, seal_secret
from api.authentication import requires
from api.envelope import Success, errors, success
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep, Reply
from api.pagination import InvalidCursorError, Page, PageDep
from api.state import ServicesDep
from models.event import EventType
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.stream import (
    DeliveryStatus,
    WebhookDelivery,
    WebhookDeliveryNotFoundError,
    WebhookEndpoint,
    WebhookNotFoundError,
    WebhookUrlRefusedError,
)

router = APIRouter(tags=["webhooks"])

Operator = Annotated[Principal, Depends(requires(Permission.RUNS_OPERATE))]


class NewWebhook(BaseModel):
    """Where events are to be sent."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=9, max_length=2000, description="An https address of a public host.")
    description: str = Field(default="", max_length=500)
    event_types: list[EventType] = Field(
        default_factory=list[EventType], max_length=100, description="Types wanted; empty: all."
    )


class Webhook(BaseModel):
    """One endpoint."""

    webhook_id: str
    url: str
    description: str
    event_types: list[EventType]
    enabled: bool
    created_at: datetime
    secret: str | None = Field(default=None, description="Signs deliveries; shown once, at creation.")


class Delivery(BaseModel):
    """One event on its way to an endpoint."""

    delivery_id: str
    event_id: str
    event_type: EventType
    run_id: str
    seq: int
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime
    response_status: int | None
    error: str | None
    created_at: datetime
    delivered_at: datetime | None


def _show(endpoint: WebhookEndpoint, secret: str | None = None) -> Webhook:
    facts = endpoint.model_dump(include=set(Webhook.model_fields))
    return Webhook(**facts, webhook_id=endpoint.id, secret=secret)


def _delivery(row: WebhookDelivery) -> Delivery:
    facts = row.model_dump(include=set(Delivery.model_fields))
    return Delivery(**facts, delivery_id=row.id)


@router.post(
    "/webhooks",
    status_code=201,
    response_model=Success[Webhook],
    responses=errors(WebhookUrlRefusedError, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def create_webhook(
    body: NewWebhook, caller: Operator, services: ServicesDep, once: OnceDep
) -> Response:
    """Let events be sent from now on, signed with the secret that this answer shows once."""
    check_url(body.url)

    async def create(endpoint_id: str) -> Reply:
        ciphertext, key_id = seal_secret(services.key_ring, endpoint_id, new_secret())
        endpoint = WebhookEndpoint(
            id=endpoint_id,
            tenant_id=caller.tenant_id,
            url=body.url,
            description=body.description,
            event_types=[each.value for each in body.event_types],
            secret_ciphertext=ciphertext,
            secret_key_id=key_id,
        )
        async with services.database.tenant(caller.tenant_id) as connection:
            stored = await add_endpoint(connection, endpoint)
        secret = open_secret(services.key_ring, stored)
        return Reply(body=success(_show(stored, secret)), remembered=success(_show(stored)))

    return await once.answer("webhook_endpoint", create)


@router.get("/webhooks", response_model=Success[Page[Webhook]], responses=errors(InvalidCursorError))
async def get_webhooks(caller: Operator, services: ServicesDep, page: PageDep) -> Success[Page[Webhook]]:
    """List the tenant's endpoints, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_endpoints(connection, before=page.before, limit=page.fetch)
    return success(page.page(rows, _show))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=errors(WebhookNotFoundError))
async def remove_webhook(webhook_id: Identifier, caller: Operator, services: ServicesDep) -> Response:
    """Send nothing more to an endpoint."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await delete_endpoint(connection, webhook_id)
    return Response(status_code=204)


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    response_model=Success[Page[Delivery]],
    responses=errors(WebhookNotFoundError, InvalidCursorError),
)
async def get_deliveries(
    webhook_id: Identifier,
    caller: Operator,
    services: ServicesDep,
    page: PageDep,
    status: Annotated[DeliveryStatus | None, Query(description="Only those with this status.")] = None,
) -> Success[Page[Delivery]]:
    """List what was sent to an endpoint and how it went, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_endpoint(connection, webhook_id)
        rows = await list_deliveries(
            connection, webhook_id, status=status, before=page.before, limit=page.fetch
        )
    return success(page.page(rows, _delivery))


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redrive",
    response_model=Success[Delivery],
    responses=errors(WebhookNotFoundError, WebhookDeliveryNotFoundError),
)
async def redrive(
    webhook_id: Identifier, delivery_id: Identifier, caller: Operator, services: ServicesDep
) -> Success[Delivery]:
    """Try a dead delivery again from the start."""
    async with services.database.tenant(caller.tenant_id) as connection:
        await find_endpoint(connection, webhook_id)
        return success(_delivery(await redrive_delivery(connection, webhook_id, delivery_id)))
