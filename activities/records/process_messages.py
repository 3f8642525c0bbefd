"""Messages between processes and from outside: correlated by name and key, kept until taken.

A message belongs to the oldest subscription that fits. Claiming it and telling the instance are two steps:
a message that is claimed and not confirmed is sent again (`claimed_messages`), and the instance drops what it
has had.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from activities.records.database import Connection
from activities.records.json_values import stored
from activities.records.triggers import claim_message_start, claim_signal_starts
from models.identifiers import new_identifier
from models.process import MessageStatus, PublishedMessage
from models.process_errors import MessageConflictError
from models.process_run import MessageArrival

TIME_TO_LIVE = timedelta(hours=1)
"""How long a message that a process throws waits for somebody to take it."""

_INSERT = """
INSERT INTO process_messages (id, tenant_id, message_id, kind, name, correlation, variables, status, source,
                              created_at, expires_at)
VALUES (%(id)s, %(tenant_id)s, %(message_id)s, 'message', %(name)s, %(correlation)s, %(variables)s,
        'buffered', %(source)s, now(), now() + %(ttl)s)
ON CONFLICT (tenant_id, message_id) DO NOTHING
"""

# Locked, so that two publishers do not choose one subscription that is taken once.
_FITTING = """
SELECT s.instance_id, s.subscription_key, s.once
FROM process_subscriptions s
WHERE s.tenant_id = %(tenant_id)s AND s.kind = 'message' AND s.name = %(name)s
  AND (s.correlation IS NULL OR s.correlation = %(correlation)s)
ORDER BY s.created_at, s.instance_id, s.subscription_key
LIMIT 1
FOR UPDATE SKIP LOCKED
"""

_BUFFERED = """
SELECT * FROM process_messages
WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND status = 'buffered' AND expires_at > now()
  AND (%(correlation)s::text IS NULL OR correlation = %(correlation)s)
ORDER BY created_at, id
LIMIT 1
FOR UPDATE SKIP LOCKED
"""

# One row per listener, so that each is told for certain, like the taker of a message.
_BROADCAST = """
WITH given AS (
    SELECT %(tenant_id)s::text AS tenant_id, %(message_id)s::text AS message_id, %(name)s::text AS name,
           %(source)s::text AS source
)
INSERT INTO process_messages (id, tenant_id, message_id, kind, name, variables, status, source, created_at,
                              expires_at, instance_id, subscription_key, claimed_at)
SELECT 'msg_' || md5(g.message_id || s.instance_id), g.tenant_id, g.message_id || ':' || s.instance_id,
       'signal', g.name, %(variables)s::jsonb, 'claimed', g.source, now(), now() + interval '1 day',
       s.instance_id, min(s.subscription_key), now()
FROM process_subscriptions s CROSS JOIN given g
WHERE s.tenant_id = g.tenant_id AND s.kind = 'signal' AND s.name = g.name AND s.instance_id <> g.source
GROUP BY s.instance_id, g.tenant_id, g.message_id, g.name, g.source
ON CONFLICT (tenant_id, message_id) DO UPDATE SET source = excluded.source
RETURNING *
"""

_CLAIM = """
UPDATE process_messages
SET status = 'claimed', instance_id = %(instance_id)s, subscription_key = %(key)s, claimed_at = now()
WHERE id = %(id)s
"""


@dataclass(frozen=True)
class Delivery:
    """A message on its way to an instance.

    Attributes:
        instance_id: Where it goes.
        arrival: What the instance is told.
    """

    instance_id: str
    arrival: MessageArrival


@dataclass(frozen=True)
class Routed:
    """A message in the store, and where it goes, if anybody waits for it."""

    message: PublishedMessage
    delivery: Delivery | None


async def route_message(
    connection: Connection,
    *,
    tenant_id: str,
    message_id: str,
    name: str,
    correlation: str | None,
    variables: dict[str, Any],
    source: str,
    ttl: timedelta = TIME_TO_LIVE,
) -> Routed:
    """Store a message, once, and give it to the oldest subscription that fits.

    Published again under its id it is the message it was; one that was claimed is told again.

    Raises:
        MessageConflictError: The id belongs to another message.
    """
    await connection.execute(
        _INSERT,
        {
            "id": new_identifier("message"),
            "tenant_id": tenant_id,
            "message_id": message_id,
            "name": name,
            "correlation": correlation,
            "variables": stored(variables),
            "source": source,
            "ttl": ttl,
        },
    )
    cursor = await connection.execute(
        "SELECT * FROM process_messages WHERE tenant_id = %s AND message_id = %s FOR UPDATE",
        [tenant_id, message_id],
    )
    row = await cursor.fetchone()
    assert row is not None, "it was inserted, now or before"
    message = PublishedMessage.model_validate(row)
    if (message.name, message.correlation) != (name, correlation):
        raise MessageConflictError(message_id)
    if message.status == MessageStatus.CLAIMED:
        return Routed(message, _delivery(message))
    if message.status != MessageStatus.BUFFERED:
        return Routed(message, None)
    return Routed(message, await _give(connection, message))


async def _give(connection: Connection, message: PublishedMessage) -> Delivery | None:
    cursor = await connection.execute(
        _FITTING,
        {"tenant_id": message.tenant_id, "name": message.name, "correlation": message.correlation},
    )
    row = await cursor.fetchone()
    if row is None:
        await _start_by(connection, message)
        return None
    return await _claim(connection, message, row["instance_id"], row["subscription_key"], once=row["once"])


async def _start_by(connection: Connection, message: PublishedMessage) -> None:
    """Let a message that nobody waits for start a process that begins with it."""
    start = await claim_message_start(
        connection,
        tenant_id=message.tenant_id,
        message_id=message.message_id,
        name=message.name,
        correlation=message.correlation,
        variables=message.variables,
    )
    if start is not None:
        await connection.execute(
            "UPDATE process_messages SET status = 'delivered', instance_id = %s WHERE id = %s",
            [start.instance_id, message.id],
        )
        message.status, message.instance_id = MessageStatus.DELIVERED, start.instance_id


async def _claim(
    connection: Connection, message: PublishedMessage, instance_id: str, key: int, *, once: bool
) -> Delivery:
    await connection.execute(_CLAIM, {"id": message.id, "instance_id": instance_id, "key": key})
    if once:
        # Taken: the next message goes elsewhere, though the instance does not know of this one yet.
        await connection.execute(
            "DELETE FROM process_subscriptions WHERE instance_id = %s AND subscription_key = %s",
            [instance_id, key],
        )
    message.instance_id, message.subscription_key = instance_id, key
    return _delivery(message)


def _delivery(message: PublishedMessage) -> Delivery:
    assert message.instance_id is not None, "claimed messages name their instance"
    assert message.subscription_key is not None, "and its subscription"
    return Delivery(
        message.instance_id,
        MessageArrival(
            message=message.id,
            kind=message.kind,
            key=message.subscription_key,
            name=message.name,
            correlation=message.correlation,
            variables=message.variables,
        ),
    )


async def offer_buffered(
    connection: Connection, tenant_id: str, instance_id: str, key: int, name: str, correlation: str | None
) -> Delivery | None:
    """Give a new subscription the oldest message that waits for it."""
    cursor = await connection.execute(
        _BUFFERED, {"tenant_id": tenant_id, "name": name, "correlation": correlation}
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    message = PublishedMessage.model_validate(row)
    subscription = await connection.execute(
        "SELECT once FROM process_subscriptions WHERE instance_id = %s AND subscription_key = %s",
        [instance_id, key],
    )
    found = await subscription.fetchone()
    return await _claim(connection, message, instance_id, key, once=bool(found and found["once"]))


async def take_back(connection: Connection, message: str, instance_id: str) -> Delivery | None:
    """Take back a message that came too late for its subscription, and give it to another."""
    cursor = await connection.execute(
        "UPDATE process_messages SET status = 'buffered', instance_id = NULL, subscription_key = NULL, "
        "claimed_at = NULL WHERE id = %s AND instance_id = %s AND status = 'claimed' RETURNING *",
        [message, instance_id],
    )
    row = await cursor.fetchone()
    return None if row is None else await _give(connection, PublishedMessage.model_validate(row))


async def mark_delivered(connection: Connection, messages: list[str]) -> None:
    """Remember that instances have their messages."""
    await connection.execute(
        "UPDATE process_messages SET status = 'delivered' WHERE id = ANY(%s) AND status = 'claimed'",
        [messages],
    )


async def claimed_messages(connection: Connection, older_than: timedelta, limit: int) -> list[Delivery]:
    """List messages that were claimed and not confirmed for a while, to be sent again."""
    cursor = await connection.execute(
        "WITH chosen AS MATERIALIZED (SELECT id FROM process_messages WHERE status = 'claimed' "
        "AND claimed_at < now() - %s ORDER BY claimed_at LIMIT %s FOR UPDATE SKIP LOCKED) "
        "UPDATE process_messages m SET claimed_at = now() FROM chosen WHERE m.id = chosen.id RETURNING m.*",
        [older_than, limit],
    )
    return [_delivery(PublishedMessage.model_validate(row)) for row in await cursor.fetchall()]


async def expire_messages(connection: Connection) -> int:
    """End messages that nobody took in their time; returns how many."""
    cursor = await connection.execute(
        "UPDATE process_messages SET status = 'expired' WHERE status = 'buffered' AND expires_at <= now()"
    )
    return cursor.rowcount


async def broadcast_signal(
    connection: Connection,
    *,
    tenant_id: str,
    message_id: str,
    name: str,
    variables: dict[str, Any],
    source: str,
) -> list[Delivery]:
    """Give a signal to every instance of the tenant that waits for it now; the thrower has had it.

    Broadcast again under its id it is the broadcast it was.
    """
    cursor = await connection.execute(
        _BROADCAST,
        {
            "tenant_id": tenant_id,
            "message_id": message_id,
            "name": name,
            "variables": stored(variables),
            "source": source,
        },
    )
    rows = await cursor.fetchall()
    await claim_signal_starts(
        connection, tenant_id=tenant_id, message_id=message_id, name=name, variables=variables
    )
    return [_delivery(PublishedMessage.model_validate(row)) for row in rows]
