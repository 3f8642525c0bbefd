"""Webhooks of payment rails: verified, kept once, and passed on as a hint to look."""

import time
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Request
from temporalio.service import RPCError

from activities.rails.webhooks import read_hint, verify_cashfree, verify_stripe
from activities.records.rail_webhooks import is_settlements, keep_webhook, mark_handled, waiting_for
from api.envelope import Success, errors, success
from api.state import Services, ServicesDep
from models.rail import RailName, RailNotConfiguredError, WebhookHint, WebhookSignatureError

logger = structlog.get_logger(__name__)

router = APIRouter(prefix="/webhooks/rails", tags=["webhooks"])

SignatureHeader = Annotated[str, Header(max_length=2000)]


@router.post("/stripe", responses=errors(WebhookSignatureError, RailNotConfiguredError))
async def from_stripe(
    request: Request, services: ServicesDep, stripe_signature: SignatureHeader = ""
) -> Success[None]:
    """Take an event of Stripe; the answer only says that it is kept."""
    secret = services.settings.stripe_webhook_secret.get_secret_value()
    if not secret:
        raise RailNotConfiguredError(RailName.STRIPE)
    raw = await request.body()
    verify_stripe(raw, stripe_signature, secret, time.time())
    await _take(services, read_hint(RailName.STRIPE, raw))
    return success(None)


@router.post("/cashfree", responses=errors(WebhookSignatureError, RailNotConfiguredError))
async def from_cashfree(
    request: Request,
    services: ServicesDep,
    x_webhook_signature: SignatureHeader = "",
    x_webhook_timestamp: SignatureHeader = "",
) -> Success[None]:
    """Take an event of Cashfree; the answer only says that it is kept."""
    secret = services.settings.cashfree_client_secret.get_secret_value()
    if not secret:
        raise RailNotConfiguredError(RailName.CASHFREE)
    raw = await request.body()
    verify_cashfree(raw, x_webhook_signature, x_webhook_timestamp, secret, time.time())
    await _take(services, read_hint(RailName.CASHFREE, raw))
    return success(None)


async def _take(services: Services, hint: WebhookHint) -> None:
    """Keep the event first; then tell whoever waits. What cannot be told stays in the inbox as such."""
    async with services.database.platform() as connection:
        due = await keep_webhook(connection, hint)
        reference = hint.reference
        workflow_id = None if reference is None else await waiting_for(connection, reference)
        if due and reference is not None and await is_settlements(connection, reference):
            await mark_handled(connection, hint)
    if not due or workflow_id is None:
        return
    try:
        await services.temporal.get_workflow_handle(workflow_id).signal("rail_reported")
    except (RPCError, RuntimeError) as error:
        # It looks by itself, later; or it has ended, and the event waits for reconciliation.
        logger.warning(
            "webhook_not_passed_on", workflow_id=workflow_id, kind=hint.kind, error=type(error).__name__
        )
        return
    async with services.database.platform() as connection:
        await mark_handled(connection, hint)
