"""The published log: the only writer of ``published_at`` and ``position`` (DESIGN §3, phases 2 and 3).

Everything here runs as the platform: publishing and streaming cross tenants. Who may see what is decided
before a reader subscribes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from activities.records.database import Connection
from models.event import RunEvent

CHANNEL = "switchyard_events"
"""PostgreSQL's notification channel; a payload is ``run:seq,run:seq…``, at most `MAX_PAYLOAD` bytes."""

MAX_PAYLOAD = 7900
"""PostgreSQL refuses 8 000."""

_TAKE = """
SELECT id, events_month, published_seq, last_seq FROM runs
WHERE published_seq < last_seq
ORDER BY id
LIMIT %s
FOR UPDATE SKIP LOCKED
"""

_NEXT_PASSED_OVER = """
SELECT id FROM runs WHERE published_seq < last_seq ORDER BY updated_at LIMIT 1
"""

_TAKE_ONE = """
SELECT id, events_month, published_seq, last_seq FROM runs
WHERE id = %s AND published_seq < last_seq
FOR UPDATE
"""

# A statement of its own: the next one then counts on from what the lock's last holder gave.
_LOCK_POSITIONS = "SELECT position FROM event_positions FOR UPDATE"

_STAMP = """
WITH taken AS (
    SELECT * FROM unnest(%(ids)s::text[], %(months)s::date[], %(from)s::bigint[], %(to)s::bigint[])
           WITH ORDINALITY AS t (run_id, month, after, upto, place)
), due AS (
    SELECT e.run_id, e.seq, e.month, row_number() OVER (ORDER BY t.place, e.seq) AS step
    FROM taken t JOIN run_events e
      ON e.run_id = t.run_id AND e.seq > t.after AND e.seq <= t.upto AND e.month = t.month
), stamped AS (
    UPDATE run_events e
    SET published_at = clock_timestamp(), position = %(head)s + due.step
    FROM due
    WHERE e.run_id = due.run_id AND e.seq = due.seq AND e.month = due.month
    RETURNING e.run_id
), counted AS (
    UPDATE event_positions SET position = %(head)s + (SELECT count(*) FROM stamped)
), moved AS (
    UPDATE runs r SET published_seq = t.upto FROM taken t WHERE r.id = t.run_id
)
SELECT count(*) AS events FROM stamped
"""

_EVENT_COLUMNS: LiteralString = """
e.run_id, e.seq, e.id, e.tenant_id, e.type, e.source, e."timestamp", e.data, e.correlation_id,
e.causation_id, e.position
"""

_AFTER = f"""
SELECT {_EVENT_COLUMNS}, (r.ended_at IS NOT NULL AND e.seq = r.last_seq) AS final
FROM unnest(%(ids)s::text[], %(after)s::bigint[]) AS t (run_id, after)
JOIN runs r ON r.id = t.run_id
CROSS JOIN LATERAL (
    SELECT * FROM run_events
    WHERE run_id = t.run_id AND seq > t.after AND published_at IS NOT NULL AND month = r.events_month
    ORDER BY seq LIMIT %(limit)s
) e
ORDER BY e.run_id, e.seq
"""

_TAIL = f"""
SELECT {_EVENT_COLUMNS}, (r.ended_at IS NOT NULL AND e.seq = r.last_seq) AS final
FROM runs r JOIN run_events e ON e.run_id = r.id AND e.month = r.events_month
WHERE r.id = %s AND e.published_at IS NOT NULL
ORDER BY e.seq DESC LIMIT %s
"""

_OF_TENANT = f"""
SELECT {_EVENT_COLUMNS}, false AS final
FROM run_events e
WHERE e.tenant_id = %(tenant_id)s AND e.position > %(after)s AND e.position IS NOT NULL
  AND (%(types)s::text[] IS NULL OR e.type = ANY (%(types)s))
ORDER BY e.position LIMIT %(limit)s
"""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """What one pass of a publisher did.

    Attributes:
        runs: Runs it took.
        events: Events that it made visible.
    """

    runs: int
    events: int


async def publish_batch(connection: Connection, *, limit: int = 200) -> Published:
    """Publish the waiting events of up to ``limit`` runs that nobody holds, in the caller's transaction.

    A run's events leave in order because its row is locked; positions have no gap because they are given
    under one lock that is held to the commit, so readers by position never see a later one first.
    """
    rows = await (await connection.execute(_TAKE, [limit])).fetchall()
    return await _publish(connection, rows)


async def find_passed_over(connection: Connection) -> str | None:
    """Return the run that has waited longest, if any still waits: its writers always hold its row."""
    row = await (await connection.execute(_NEXT_PASSED_OVER)).fetchone()
    return None if row is None else str(row["id"])


async def publish_run(connection: Connection, run_id: str) -> Published:
    """Publish one run's waiting events, queueing for its row behind its writers."""
    rows = await (await connection.execute(_TAKE_ONE, [run_id])).fetchall()
    return await _publish(connection, rows)


async def _publish(connection: Connection, rows: Sequence[Row]) -> Published:
    if not rows:
        return Published(runs=0, events=0)
    head = await (await connection.execute(_LOCK_POSITIONS)).fetchone()
    assert head is not None, "the row is made by the migration"
    row = await (
        await connection.execute(
            _STAMP,
            {
                "head": head["position"],
                "ids": [row["id"] for row in rows],
                "months": [row["events_month"] for row in rows],
                "from": [row["published_seq"] for row in rows],
                "to": [row["last_seq"] for row in rows],
            },
        )
    ).fetchone()
    assert row is not None, "an aggregate always has a row"
    for payload in pack_notifications((row["id"], row["last_seq"]) for row in rows):
        await connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
    return Published(runs=len(rows), events=int(row["events"]))


def pack_notifications(runs: Any) -> list[str]:
    """Pack ``(run, seq)`` pairs into as few payloads as PostgreSQL's limit allows."""
    payloads: list[str] = []
    current = ""
    for run_id, seq in runs:
        entry = f"{run_id}:{seq}"
        if current and len(current) + 1 + len(entry) > MAX_PAYLOAD:
            payloads.append(current)
            current = entry
        else:
            current = f"{current},{entry}" if current else entry
    return [*payloads, current] if current else payloads


def unpack_notification(payload: str) -> list[tuple[str, int]]:
    """Read a payload of `pack_notifications`; entries that are not ours are left out."""
    found: list[tuple[str, int]] = []
    for entry in payload.split(","):
        run_id, _, seq = entry.rpartition(":")
        if run_id and seq.isdecimal():
            found.append((run_id, int(seq)))
    return found


async def read_published(connection: Connection, after: Mapping[str, int], *, limit: int) -> Sequence[Row]:
    """Read what was published of each run after the given number, at most ``limit`` events per run.

    Returns:
        Rows of `RunEvent`'s columns, by run and number, and ``final``: whether the run has ended with it.
    """
    parameters = {"ids": list(after), "after": list(after.values()), "limit": limit}
    return await (await connection.execute(_AFTER, parameters)).fetchall()


async def read_tail(connection: Connection, run_id: str, *, limit: int) -> Sequence[Row]:
    """Read the last published events of one run, oldest first; rows as of `read_published`."""
    rows = await (await connection.execute(_TAIL, [run_id, limit])).fetchall()
    return rows[::-1]


async def read_positions(
    connection: Connection, tenant_id: str, *, after: int, types: Sequence[str] | None, limit: int
) -> Sequence[Row]:
    """Read a tenant's published events after a position, of the given types (None: all), in order."""
    parameters = {
        "tenant_id": tenant_id,
        "after": after,
        "types": None if types is None else list(types),
        "limit": limit,
    }
    return await (await connection.execute(_OF_TENANT, parameters)).fetchall()


async def last_position(connection: Connection) -> int:
    """Return the position of the last published event, 0 where there is none."""
    row = await (await connection.execute("SELECT position FROM event_positions")).fetchone()
    assert row is not None, "the row is made by the migration"
    return int(row["position"])


async def last_position_of(connection: Connection, tenant_id: str) -> int:
    """Return the position of a tenant's last published event, 0 where it has none."""
    cursor = await connection.execute(
        "SELECT position FROM run_events WHERE tenant_id = %s AND position IS NOT NULL "
        "ORDER BY position DESC LIMIT 1",
        [tenant_id],
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["position"])


async def published_numbers(connection: Connection, run_ids: Sequence[str]) -> dict[str, int]:
    """Return the last published number of each run."""
    cursor = await connection.execute(
        "SELECT id, published_seq FROM runs WHERE id = ANY (%s)", [list(run_ids)]
    )
    return {row["id"]: int(row["published_seq"]) for row in await cursor.fetchall()}


async def read_events_at(
    connection: Connection, *, tenant_id: str | None, after: int, types: Sequence[str], limit: int
) -> list[RunEvent]:
    """Read published events after a position for a consumer group.

    Args:
        connection: The platform's transaction.
        tenant_id: Whose events; None: everybody's.
        after: Position before the first one wanted.
        types: Types wanted; empty: all.
        limit: At most so many.
    """
    cursor = await connection.execute(
        """
        SELECT * FROM run_events
        WHERE position > %(after)s AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
          AND (%(types)s::text[] = '{}' OR type = ANY (%(types)s))
        ORDER BY position LIMIT %(limit)s
        """,
        {"after": after, "tenant_id": tenant_id, "types": list(types), "limit": limit},
    )
    return [RunEvent.model_validate(row) for row in await cursor.fetchall()]
