"""Months of events on their way out of the store: the only writer of ``event_archives``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from activities.records.database import Connection
from models.event import EventArchive, RunEvent
from models.run import Run

RESTING_DAYS = 7
"""A run is archived when it has rested for so long; a younger one moves to the present month."""

_DUE = """
SELECT month FROM (
    SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'run_events'::regclass AND c.relname ~ '^run_events_[0-9]{4}_[0-9]{2}$'
) months
WHERE month + make_interval(months => %s + 1) <= now() AT TIME ZONE 'UTC'
ORDER BY month
"""

_LAGGING = """
SELECT g.tenant_id, g.name FROM event_groups g
WHERE g.position < (
    SELECT coalesce(max(e.position), 0) FROM run_events e
    WHERE e.month = %(month)s AND (g.tenant_id = '*' OR e.tenant_id = g.tenant_id)
      AND (g.event_types = '{}' OR e.type = ANY (g.event_types))
)
ORDER BY 1, 2
"""

_RESTLESS = """
SELECT id FROM runs
WHERE events_month = %(month)s
  AND (ended_at IS NULL OR ended_at > now() - make_interval(days => %(days)s) OR published_seq < last_seq)
ORDER BY id LIMIT %(limit)s
FOR UPDATE
"""

_NEXT = """
SELECT * FROM runs
WHERE events_month = %(month)s
  AND tenant_id = (SELECT tenant_id FROM runs WHERE events_month = %(month)s ORDER BY tenant_id LIMIT 1)
ORDER BY id LIMIT %(limit)s
"""

# What was written since the runs were read is not in the object: such a run waits for the next pass.
_LEAVE = """
UPDATE runs SET archive_id = %(archive_id)s, archived_seq = last_seq, events_month = %(present)s
FROM unnest(%(ids)s::text[], %(seqs)s::bigint[]) AS t (run_id, seq)
WHERE runs.id = t.run_id AND runs.last_seq = t.seq AND runs.events_month = %(month)s
"""

_PRESENT_MONTH = "SELECT (date_trunc('month', now() AT TIME ZONE 'UTC'))::date AS month"


@dataclass(frozen=True)
class Archived:
    """Where the first events of a run are.

    Attributes:
        run_id: The run.
        object_key: The object in S3.
        sha256: Of that object.
        upto: Number of the last event there.
        final: Number of the event that the run ended with.
    """

    run_id: str
    object_key: str
    sha256: bytes
    upto: int
    final: int | None


async def present_month(connection: Connection) -> date:
    """Return the first day of the month by the database's clock, UTC."""
    row = await (await connection.execute(_PRESENT_MONTH)).fetchone()
    assert row is not None, "an expression always has a row"
    return row["month"]


async def prepare_months(connection: Connection, *, ahead: int) -> int:
    """Make the partitions of this month and the next ``ahead`` ones; returns how many are new."""
    cursor = await connection.execute(
        "SELECT count(*) FILTER (WHERE ensure_event_month((now() + make_interval(months => ahead))::date)) "
        "AS made FROM generate_series(0, %s) AS ahead",
        [ahead],
    )
    row = await cursor.fetchone()
    assert row is not None, "an aggregate always has a row"
    return int(row["made"])


async def due_months(connection: Connection, *, retention_months: int) -> list[date]:
    """Return the months in the store that ended at least ``retention_months`` ago, oldest first."""
    cursor = await connection.execute(_DUE, [retention_months])
    return [row["month"] for row in await cursor.fetchall()]


async def lagging_groups(connection: Connection, month: date) -> list[str]:
    """Return the consumer groups that have not handled all of a month: what they miss must not leave."""
    cursor = await connection.execute(_LAGGING, {"month": month})
    return [f"{row['tenant_id']}/{row['name']}" for row in await cursor.fetchall()]


async def carry_over(connection: Connection, month: date, *, limit: int) -> int:
    """Move runs that still go on, or ended lately, to the present month; returns how many."""
    present = await present_month(connection)
    cursor = await connection.execute(_RESTLESS, {"month": month, "days": RESTING_DAYS, "limit": limit})
    ids = [row["id"] for row in await cursor.fetchall()]
    if ids:
        await connection.execute(
            "UPDATE run_events SET month = %s WHERE run_id = ANY (%s) AND month = %s", [present, ids, month]
        )
        await connection.execute("UPDATE runs SET events_month = %s WHERE id = ANY (%s)", [present, ids])
    return len(ids)


async def next_runs(connection: Connection, month: date, *, limit: int) -> list[Run]:
    """Read runs of one tenant whose events are still in a month."""
    cursor = await connection.execute(_NEXT, {"month": month, "limit": limit})
    return [Run.model_validate(row) for row in await cursor.fetchall()]


async def events_of(connection: Connection, month: date, run_ids: Sequence[str]) -> list[RunEvent]:
    """Read all events that some runs have in a month, by run and number."""
    cursor = await connection.execute(
        "SELECT * FROM run_events WHERE month = %s AND run_id = ANY (%s) ORDER BY run_id, seq",
        [month, list(run_ids)],
    )
    return [RunEvent.model_validate(row) for row in await cursor.fetchall()]


async def record_archive(connection: Connection, archive: EventArchive, runs: Sequence[Run]) -> None:
    """Write down where the events of ``runs`` are by now; their partition is no longer read for them."""
    await connection.execute(
        """
        INSERT INTO event_archives (id, tenant_id, month, object_key, sha256, runs, events, last_position)
        VALUES (%(id)s, %(tenant_id)s, %(month)s, %(object_key)s, %(sha256)s, %(runs)s, %(events)s,
                %(last_position)s)
        """,
        archive.model_dump(),
    )
    await connection.execute(
        _LEAVE,
        {
            "archive_id": archive.id,
            "month": archive.month,
            "present": await present_month(connection),
            "ids": [run.id for run in runs],
            "seqs": [run.last_seq for run in runs],
        },
    )


async def drop_month(connection: Connection, month: date) -> bool:
    """Drop a month that no run has events in any more; False where it is gone already."""
    row = await (
        await connection.execute("SELECT EXISTS (SELECT FROM runs WHERE events_month = %s) AS used", [month])
    ).fetchone()
    assert row is not None, "an expression always has a row"
    if row["used"]:
        return False
    dropped = await (await connection.execute("SELECT drop_event_month(%s) AS dropped", [month])).fetchone()
    return dropped is not None and bool(dropped["dropped"])


async def find_archived(connection: Connection, run_id: str) -> Archived | None:
    """Tell where a run's first events are; None where all of them are in the store."""
    cursor = await connection.execute(
        "SELECT r.id, r.archived_seq, r.last_seq, r.ended_at, a.object_key, a.sha256 "
        "FROM runs r JOIN event_archives a ON a.id = r.archive_id WHERE r.id = %s",
        [run_id],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return Archived(
        run_id=row["id"],
        object_key=row["object_key"],
        sha256=bytes(row["sha256"]),
        upto=int(row["archived_seq"]),
        final=None if row["ended_at"] is None else int(row["last_seq"]),
    )
