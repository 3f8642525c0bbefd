"""Messages to people: the only writer of ``approval_deliveries`` (flowgrid-level3 §6; research §2.5)."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from activities.records.database import Connection
from models.approval import Via
from models.approval_policy import Channel
from models.channel import ChannelPreference, DeliveryRow

_INSERT = """
INSERT INTO approval_deliveries (id, tenant_id, approval_id, notice, kind, recipient, channel, place, status,
                                 refresh, due_at, attempts)
VALUES (%(id)s, %(tenant_id)s, %(approval_id)s, %(notice)s, %(kind)s, %(recipient)s, %(channel)s, %(place)s,
        'queued', false, %(due_at)s, 0)
ON CONFLICT (approval_id, notice, recipient, channel) DO NOTHING
"""

# A lease in `due_at`: a sender that dies is followed by another when it runs out.
_CLAIM = """
UPDATE approval_deliveries d SET due_at = now() + %(lease)s, attempts = attempts + 1, updated_at = now()
FROM (
    SELECT id FROM approval_deliveries
    WHERE (status = 'queued' OR refresh) AND due_at <= now()
    ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
) due
WHERE d.id = due.id
RETURNING d.*
"""


async def insert_delivery(connection: Connection, delivery: DeliveryRow) -> None:
    """Store the intent to write to somebody; the same one again changes nothing."""
    await connection.execute(_INSERT, delivery.model_dump())


async def claim_due(connection: Connection, *, limit: int, lease: timedelta) -> list[DeliveryRow]:
    """Take messages that are due, of all tenants; whoever takes them reports back before the lease ends."""
    rows = await (await connection.execute(_CLAIM, {"limit": limit, "lease": lease})).fetchall()
    return [DeliveryRow.model_validate(row) for row in rows]


async def record_sent(connection: Connection, delivery_id: str, *, address: str, external_id: str) -> None:
    """Report a message as sent. One whose request has closed meanwhile is due for its final form."""
    await connection.execute(
        """
        UPDATE approval_deliveries d
        SET status = 'sent', address = %(address)s, external_id = %(external_id)s, sent_at = now(),
            error = NULL, attempts = 0, due_at = now(), updated_at = now(),
            refresh = a.state <> 'open' AND d.channel = ANY (%(updatable)s)
        FROM approval_requests a
        WHERE d.id = %(id)s AND a.id = d.approval_id
        """,
        {"id": delivery_id, "address": address, "external_id": external_id, "updatable": _UPDATABLE},
    )


_UPDATABLE = [Channel.SLACK.value]
"""Channels whose messages can be changed after they were sent."""


async def record_refreshed(connection: Connection, delivery_id: str) -> None:
    """Report that a message has its final form."""
    await connection.execute(
        "UPDATE approval_deliveries SET refresh = false, error = NULL, updated_at = now() WHERE id = %s",
        [delivery_id],
    )


async def record_failed(
    connection: Connection, delivery: DeliveryRow, error: str, *, retry_in: timedelta | None
) -> None:
    """Report a failure: try again later, or, where it is for good, let the next channel go now."""
    if retry_in is not None:
        await connection.execute(
            """
            UPDATE approval_deliveries SET due_at = now() + %s, error = %s, updated_at = now() WHERE id = %s
            """,
            [retry_in, error[:500], delivery.id],
        )
        return
    await connection.execute(
        """
        UPDATE approval_deliveries
        SET status = CASE WHEN status = 'queued' THEN 'failed' ELSE status END, refresh = false,
            error = %s, updated_at = now()
        WHERE id = %s
        """,
        [error[:500], delivery.id],
    )
    await connection.execute(
        """
        UPDATE approval_deliveries SET due_at = now(), updated_at = now()
        WHERE approval_id = %(approval_id)s AND notice = %(notice)s AND recipient = %(recipient)s
          AND place = %(place)s AND status = 'queued'
        """,
        {**delivery.model_dump(include={"approval_id", "notice", "recipient"}), "place": delivery.place + 1},
    )


async def supersede(connection: Connection, delivery_ids: Sequence[str]) -> None:
    """Report messages as not needed any more."""
    await connection.execute(
        """
        UPDATE approval_deliveries SET status = 'superseded', updated_at = now()
        WHERE id = ANY (%s) AND status = 'queued'
        """,
        [list(delivery_ids)],
    )


async def close_deliveries(connection: Connection, approval_id: str) -> None:
    """After the end: what waits is not sent, and what can be changed is brought to its final form."""
    await connection.execute(
        """
        UPDATE approval_deliveries
        SET status = CASE WHEN status = 'queued' THEN 'superseded' ELSE status END,
            refresh = status IN ('sent', 'acted') AND channel = ANY (%(updatable)s),
            due_at = now(), attempts = 0, updated_at = now()
        WHERE approval_id = %(approval_id)s AND status IN ('queued', 'sent', 'acted')
        """,
        {"approval_id": approval_id, "updatable": _UPDATABLE},
    )


async def mark_acted(connection: Connection, approval_id: str, recipient: str, via: Via) -> None:
    """Report that somebody answered through a channel that wrote to them."""
    await connection.execute(
        """
        UPDATE approval_deliveries SET status = 'acted', updated_at = now()
        WHERE approval_id = %s AND recipient = %s AND channel = %s AND status = 'sent'
        """,
        [approval_id, recipient, via.value],
    )


async def deliveries_of(connection: Connection, approval_id: str) -> list[DeliveryRow]:
    """Read a request's messages, oldest first."""
    cursor = await connection.execute(
        """
        SELECT * FROM approval_deliveries WHERE approval_id = %s
        ORDER BY notice, recipient, place LIMIT 1000
        """,
        [approval_id],
    )
    return [DeliveryRow.model_validate(row) for row in await cursor.fetchall()]


async def preferences_of(connection: Connection, people: Sequence[str]) -> Mapping[str, ChannelPreference]:
    """Read how people want to be reached; those who never said are left out."""
    cursor = await connection.execute(
        "SELECT * FROM channel_preferences WHERE user_id = ANY (%s)", [list(people)]
    )
    return {row["user_id"]: ChannelPreference.model_validate(row) for row in await cursor.fetchall()}


async def put_preference(connection: Connection, preference: ChannelPreference) -> None:
    """Set how a person wants to be reached."""
    await connection.execute(
        """
        INSERT INTO channel_preferences (tenant_id, user_id, channels, quiet_from, quiet_to, time_zone)
        VALUES (%(tenant_id)s, %(user_id)s, %(channels)s, %(quiet_from)s, %(quiet_to)s, %(time_zone)s)
        ON CONFLICT (tenant_id, user_id) DO UPDATE
        SET channels = excluded.channels, quiet_from = excluded.quiet_from, quiet_to = excluded.quiet_to,
            time_zone = excluded.time_zone, updated_at = now()
        """,
        preference.model_dump(exclude={"updated_at"}),
    )
