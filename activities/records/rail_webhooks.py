"""The inbox of rails' webhooks: each event once, kept before anything is done about it."""

from activities.records.database import Connection
from models.ledger import PLATFORM_TENANT
from models.rail import WebhookHint


async def keep_webhook(connection: Connection, hint: WebhookHint) -> bool:
    """Keep an event in a platform transaction; false where it was handled before, so nothing is due."""
    await connection.execute(
        "INSERT INTO rail_webhooks (rail, event_id, tenant_id, kind, reference, digest, received_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, now()) ON CONFLICT DO NOTHING",
        [hint.rail, hint.event_id, PLATFORM_TENANT, hint.kind, hint.reference, hint.digest],
    )
    cursor = await connection.execute(
        "SELECT handled_at IS NULL AS due FROM rail_webhooks WHERE rail = %s AND event_id = %s",
        [hint.rail, hint.event_id],
    )
    row = await cursor.fetchone()
    assert row is not None, "it was inserted just now, or before"
    due: bool = row["due"]
    return due


async def mark_handled(connection: Connection, hint: WebhookHint) -> None:
    """Note that whoever waits for the event was told."""
    await connection.execute(
        "UPDATE rail_webhooks SET handled_at = now() "
        "WHERE rail = %s AND event_id = %s AND handled_at IS NULL",
        [hint.rail, hint.event_id],
    )


async def waiting_for(connection: Connection, reference: str) -> str | None:
    """Return the workflow that waits for news of a reference, a payout's or a refund's; None: nobody."""
    cursor = await connection.execute(
        "SELECT 'payout/' || id AS workflow_id FROM payouts WHERE reference = %(reference)s "
        "UNION ALL SELECT 'refund/' || id FROM refunds WHERE id = %(reference)s",
        {"reference": reference},
    )
    row = await cursor.fetchone()
    return None if row is None else row["workflow_id"]


async def is_settlements(connection: Connection, reference: str) -> bool:
    """Whether a reference is a hold's: its settlement asks the rail by itself until it knows."""
    cursor = await connection.execute("SELECT FROM payment_holds WHERE id = %s", [reference])
    return await cursor.fetchone() is not None
