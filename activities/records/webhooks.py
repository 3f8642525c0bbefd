"""Webhooks out: the only writer of ``webhook_endpoints`` and ``webhook_deliveries``."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from activities.records.database import Connection
from activities.records.events import last_position
from activities.records.groups import ensure_group
from models.event import RunEvent
from models.stream import (
    ALL_TENANTS,
    DeliveryStatus,
    WebhookDelivery,
    WebhookDeliveryNotFoundError,
    WebhookEndpoint,
    WebhookNotFoundError,
)

GROUP = "webhooks"
"""The consumer group that turns events into deliveries."""

FAN_OUT = 1000
"""Positions per transaction."""

_TAKE_PLACE = """
SELECT position FROM event_groups WHERE tenant_id = %s AND name = %s FOR UPDATE SKIP LOCKED
"""

# The id is made of what is unique anyway, so a repetition finds its row.
_FAN_OUT = """
INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, event_id, event_type, run_id, seq, position,
                                status, attempts)
SELECT 'dlv_' || md5(w.id || e.id), e.tenant_id, w.id, e.id, e.type, e.run_id, e.seq, e.position,
       'pending', 0
FROM run_events e JOIN webhook_endpoints w
  ON w.tenant_id = e.tenant_id AND w.enabled AND w.deleted_at IS NULL AND w.created_at <= e.published_at
 AND (w.event_types = '{}' OR e.type = ANY (w.event_types))
WHERE e.position > %(after)s AND e.position <= %(upto)s
ON CONFLICT (endpoint_id, event_id) DO NOTHING
"""

# An event waits for earlier ones of its run to the same endpoint, so a receiver sees each run in order.
_CLAIM = """
WITH due AS (
    SELECT d.id FROM webhook_deliveries d JOIN webhook_endpoints w ON w.id = d.endpoint_id
    WHERE d.status = 'pending' AND d.next_attempt_at <= now() AND w.enabled AND w.deleted_at IS NULL
      AND NOT EXISTS (
          SELECT FROM webhook_deliveries earlier
          WHERE earlier.endpoint_id = d.endpoint_id AND earlier.run_id = d.run_id
            AND earlier.seq < d.seq AND earlier.status = 'pending'
      )
    ORDER BY d.next_attempt_at LIMIT %(limit)s
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE webhook_deliveries d
SET attempts = attempts + 1, next_attempt_at = now() + %(lease)s
FROM due WHERE d.id = due.id
RETURNING d.*
"""


@dataclass(frozen=True)
class Parcel:
    """A delivery that is ours to try now, with where it goes and what it says."""

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint
    event: RunEvent


async def add_endpoint(connection: Connection, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """Insert an endpoint; one of that id stays as it is and is returned."""
    await connection.execute(
        """
        INSERT INTO webhook_endpoints (id, tenant_id, url, description, event_types, secret_ciphertext,
                                       secret_key_id, enabled)
        VALUES (%(id)s, %(tenant_id)s, %(url)s, %(description)s, %(event_types)s, %(secret_ciphertext)s,
                %(secret_key_id)s, true)
        ON CONFLICT (id) DO NOTHING
        """,
        endpoint.model_dump(),
    )
    return await find_endpoint(connection, endpoint.id)


async def find_endpoint(connection: Connection, endpoint_id: str) -> WebhookEndpoint:
    """Read an endpoint that was not deleted.

    Raises:
        WebhookNotFoundError: There is none in the transaction's tenant.
    """
    row = await (
        await connection.execute(
            "SELECT * FROM webhook_endpoints WHERE id = %s AND deleted_at IS NULL", [endpoint_id]
        )
    ).fetchone()
    if row is None:
        raise WebhookNotFoundError(endpoint_id)
    return WebhookEndpoint.model_validate(row)


async def list_endpoints(
    connection: Connection, *, before: tuple[datetime, str] | None, limit: int
) -> list[WebhookEndpoint]:
    """Read the tenant's endpoints, newest first."""
    created_at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        "SELECT * FROM webhook_endpoints WHERE deleted_at IS NULL "
        "AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(before)s)) "
        "ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        {"at": created_at, "before": identifier, "limit": limit},
    )
    return [WebhookEndpoint.model_validate(row) for row in await cursor.fetchall()]


async def delete_endpoint(connection: Connection, endpoint_id: str) -> None:
    """Delete an endpoint: nothing more is sent to it.

    Raises:
        WebhookNotFoundError: There is none in the transaction's tenant.
    """
    await find_endpoint(connection, endpoint_id)
    await connection.execute(
        "UPDATE webhook_endpoints SET deleted_at = now(), enabled = false WHERE id = %s", [endpoint_id]
    )


async def list_deliveries(
    connection: Connection,
    endpoint_id: str,
    *,
    status: DeliveryStatus | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[WebhookDelivery]:
    """Read an endpoint's deliveries, newest first."""
    created_at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        "SELECT * FROM webhook_deliveries WHERE endpoint_id = %(endpoint)s "
        "AND (%(status)s::text IS NULL OR status = %(status)s) "
        "AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(before)s)) "
        "ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        {"endpoint": endpoint_id, "status": status, "at": created_at, "before": identifier, "limit": limit},
    )
    return [WebhookDelivery.model_validate(row) for row in await cursor.fetchall()]


async def redrive_delivery(connection: Connection, endpoint_id: str, delivery_id: str) -> WebhookDelivery:
    """Let a dead delivery be tried again from the start.

    Raises:
        WebhookDeliveryNotFoundError: The endpoint has no dead delivery of that id.
    """
    row = await (
        await connection.execute(
            "UPDATE webhook_deliveries SET status = 'pending', attempts = 0, next_attempt_at = now(), "
            "error = NULL WHERE id = %s AND endpoint_id = %s AND status = 'dead' RETURNING *",
            [delivery_id, endpoint_id],
        )
    ).fetchone()
    if row is None:
        raise WebhookDeliveryNotFoundError(delivery_id)
    return WebhookDelivery.model_validate(row)


async def fan_out(connection: Connection) -> int:
    """Make the deliveries of the next published events and move the group on, in one transaction.

    Returns:
        How many positions the group moved; 0 too while another process is at it.
    """
    row = await (await connection.execute(_TAKE_PLACE, [ALL_TENANTS, GROUP])).fetchone()
    if row is None:
        await ensure_group(connection, ALL_TENANTS, GROUP)
        return 0
    after = int(row["position"])
    upto = min(after + FAN_OUT, await last_position(connection))
    if upto <= after:
        return 0
    await connection.execute(_FAN_OUT, {"after": after, "upto": upto})
    await connection.execute(
        "UPDATE event_groups SET position = %s, updated_at = now() WHERE tenant_id = %s AND name = %s",
        [upto, ALL_TENANTS, GROUP],
    )
    return upto - after


async def claim_parcels(connection: Connection, *, limit: int, lease: timedelta) -> list[Parcel]:
    """Take deliveries that are due; whoever dies with one loses it when the lease is over."""
    cursor = await connection.execute(_CLAIM, {"limit": limit, "lease": lease})
    deliveries = [WebhookDelivery.model_validate(row) for row in await cursor.fetchall()]
    if not deliveries:
        return []
    cursor = await connection.execute(
        "SELECT * FROM webhook_endpoints WHERE id = ANY (%s)", [[each.endpoint_id for each in deliveries]]
    )
    endpoints = {row["id"]: row for row in await cursor.fetchall()}
    cursor = await connection.execute(
        "SELECT * FROM run_events WHERE id = ANY (%s)", [[each.event_id for each in deliveries]]
    )
    events = {row["id"]: row for row in await cursor.fetchall()}
    return [
        Parcel(
            delivery=each,
            endpoint=WebhookEndpoint.model_validate(endpoints[each.endpoint_id]),
            event=RunEvent.model_validate(events[each.event_id]),
        )
        for each in deliveries
    ]


async def record_attempt(
    connection: Connection,
    delivery: WebhookDelivery,
    *,
    response_status: int | None,
    error: str | None,
    pause: timedelta | None,
) -> None:
    """Record how an attempt ended: delivered, to be tried again after ``pause``, or dead without one."""
    status = DeliveryStatus.DELIVERED
    if error is not None:
        status = DeliveryStatus.DEAD if pause is None else DeliveryStatus.PENDING
    await connection.execute(
        "UPDATE webhook_deliveries SET status = %(status)s, response_status = %(response_status)s, "
        "error = %(error)s, next_attempt_at = now() + coalesce(%(pause)s, interval '0'), "
        "delivered_at = CASE WHEN %(status)s = 'delivered' THEN now() END "
        "WHERE id = %(id)s AND status = 'pending'",
        {
            "id": delivery.id,
            "status": status,
            "response_status": response_status,
            "error": error and error[:500],
            "pause": pause,
        },
    )


async def disable_endpoint(connection: Connection, endpoint_id: str) -> None:
    """Send nothing more to an endpoint that said that it is gone."""
    await connection.execute("UPDATE webhook_endpoints SET enabled = false WHERE id = %s", [endpoint_id])
