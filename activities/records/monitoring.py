"""Measurements: the only writer of ``measurements``, ``open_spans`` and ``part_reports``.

One worker at a time writes, for the whole platform, under the row that holds the position. The position is
moved in the transaction that adds, so each event is added exactly once, whatever dies in between.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from activities.records.database import Connection
from activities.telemetry.fold import Amount, Key, LoggedEvent, Span
from models.monitoring import ALL_TIME, PLATFORM_TENANT, Measure, PartReport, Period, Resolution

_POSITION = {
    "tenant_id": PLATFORM_TENANT,
    "resolution": Resolution.ALL,
    "measure": Measure.POSITION,
    "bucket": ALL_TIME,
}

_FIND_POSITION = """
SELECT total FROM measurements
WHERE tenant_id = %(tenant_id)s AND resolution = %(resolution)s AND measure = %(measure)s
"""

_MOVE_POSITION = """
UPDATE measurements SET total = %(position)s, count = count + %(events)s
WHERE tenant_id = %(tenant_id)s AND resolution = %(resolution)s AND measure = %(measure)s
"""

# Logs are most of what agents say and nothing that is measured: their text is not even read.
_READ = """
SELECT e.position, e.run_id, e.seq, e.tenant_id, e.type, e."timestamp",
       CASE WHEN e.type = 'log' THEN '{}'::jsonb ELSE e.data END AS data,
       r.kind, r.subject, r.created_at, r.started_at
FROM run_events e JOIN runs r ON r.id = e.run_id
WHERE e.position > %s
ORDER BY e.position LIMIT %s
"""

_ADD = """
INSERT INTO measurements AS m (tenant_id, resolution, measure, scope, subject, bucket, detail, count, total)
SELECT * FROM unnest(%(tenants)s::text[], %(resolutions)s::text[], %(measures)s::text[], %(scopes)s::text[],
                     %(subjects)s::text[], %(buckets)s::timestamptz[], %(details)s::text[],
                     %(counts)s::bigint[], %(totals)s::bigint[])
ON CONFLICT (tenant_id, resolution, measure, scope, subject, bucket, detail)
DO UPDATE SET count = m.count + excluded.count, total = m.total + excluded.total
"""

_OPEN = """
INSERT INTO open_spans (run_id, key, tenant_id, subject, opened_at, started_at)
SELECT * FROM unnest(%(runs)s::text[], %(keys)s::text[], %(tenants)s::text[], %(subjects)s::text[],
                     %(opened)s::timestamptz[], %(started)s::timestamptz[])
ON CONFLICT (run_id, key)
DO UPDATE SET subject = excluded.subject, opened_at = excluded.opened_at, started_at = excluded.started_at
"""

_CLOSE = """
DELETE FROM open_spans s USING unnest(%(runs)s::text[], %(keys)s::text[]) AS t (run_id, key)
WHERE s.run_id = t.run_id AND s.key = t.key
"""

_REPORT = """
INSERT INTO part_reports (part, instance, tenant_id, healthy, latency_ms, detail, reported_at)
VALUES (%(part)s, %(instance)s, %(tenant_id)s, %(healthy)s, %(latency_ms)s, %(detail)s, now())
ON CONFLICT (part, instance)
DO UPDATE SET healthy = excluded.healthy, latency_ms = excluded.latency_ms, detail = excluded.detail,
              reported_at = excluded.reported_at
"""


async def lock_position(connection: Connection) -> int | None:
    """Take the right to add until the transaction ends; None while another worker has it.

    Returns:
        The position of the last event that was added.
    """
    row = await (await connection.execute(f"{_FIND_POSITION} FOR UPDATE SKIP LOCKED", _POSITION)).fetchone()
    return None if row is None else int(row["total"])


async def move_position(connection: Connection, position: int, *, events: int) -> None:
    """Record that everything up to ``position`` was added."""
    await connection.execute(_MOVE_POSITION, _POSITION | {"position": position, "events": events})


async def read_position(connection: Connection) -> int:
    """Return the position of the last event that was added, 0 before the first."""
    row = await (await connection.execute(_FIND_POSITION, _POSITION)).fetchone()
    return 0 if row is None else int(row["total"])


async def read_log(connection: Connection, *, after: int, limit: int) -> list[LoggedEvent]:
    """Read published events after a position, in order, with what their runs' rows say for good."""
    cursor = await connection.execute(_READ, [after, limit])
    return [LoggedEvent(**row) for row in await cursor.fetchall()]


async def read_spans(connection: Connection, run_ids: Iterable[str]) -> list[Span]:
    """Read what is open of the given runs."""
    cursor = await connection.execute(
        "SELECT run_id, key, tenant_id, subject, opened_at, started_at FROM open_spans "
        "WHERE run_id = ANY (%s)",
        [list(run_ids)],
    )
    return [Span(**row) for row in await cursor.fetchall()]


async def add_measurements(connection: Connection, added: Mapping[Key, Amount]) -> None:
    """Add to the measurements."""
    if not added:
        return
    await connection.execute(
        _ADD,
        {
            "tenants": [key.tenant_id for key in added],
            "resolutions": [key.resolution for key in added],
            "measures": [key.measure for key in added],
            "scopes": [key.scope for key in added],
            "subjects": [key.subject for key in added],
            "buckets": [key.bucket for key in added],
            "details": [key.detail for key in added],
            "counts": [amount.count for amount in added.values()],
            "totals": [amount.total for amount in added.values()],
        },
    )


async def write_spans(connection: Connection, touched: Mapping[tuple[str, str], Span | None]) -> None:
    """Store spans that were opened or changed and remove those that were closed (None)."""
    closed = [where for where, span in touched.items() if span is None]
    kept = [span for span in touched.values() if span is not None]
    if closed:
        await connection.execute(
            _CLOSE, {"runs": [run for run, _ in closed], "keys": [key for _, key in closed]}
        )
    if kept:
        await connection.execute(
            _OPEN,
            {
                "runs": [span.run_id for span in kept],
                "keys": [span.key for span in kept],
                "tenants": [span.tenant_id for span in kept],
                "subjects": [span.subject for span in kept],
                "opened": [span.opened_at for span in kept],
                "started": [span.started_at for span in kept],
            },
        )


async def forget_measurements(connection: Connection) -> int | None:
    """Empty the measurements as far as the log can make them anew, and start again at its beginning.

    Hours and days before the oldest event that the log still holds are kept: nothing could make them again.

    Returns:
        How many rows were removed; None while a worker adds.
    """
    if await lock_position(connection) is None:
        return None
    await connection.execute("DELETE FROM open_spans")
    cursor = await connection.execute(
        "DELETE FROM measurements WHERE measure <> %(measure)s AND (resolution = %(all)s OR bucket >= "
        "(SELECT coalesce(date_trunc('day', min(e.timestamp), 'UTC'), '-infinity') FROM run_events e "
        "WHERE e.position = (SELECT min(position) FROM run_events)))",
        {"measure": Measure.POSITION, "all": Resolution.ALL},
    )
    await move_position(connection, 0, events=0)
    return cursor.rowcount


async def drop_old_hours(connection: Connection, *, keep: timedelta) -> int:
    """Remove hours older than ``keep``; their days stay. Returns how many rows went."""
    cursor = await connection.execute(
        "DELETE FROM measurements WHERE resolution = %s AND bucket < now() - %s", [Resolution.HOUR, keep]
    )
    return cursor.rowcount


async def report_part(connection: Connection, report: PartReport) -> None:
    """Store what a worker says of a part."""
    await connection.execute(_REPORT, report.model_dump(exclude={"reported_at"}))


async def read_reports(connection: Connection, *, newer_than: timedelta) -> list[PartReport]:
    """Read what workers said of themselves and their parts lately."""
    cursor = await connection.execute(
        "SELECT * FROM part_reports WHERE reported_at > now() - %s ORDER BY part, instance", [newer_than]
    )
    return [PartReport.model_validate(row) for row in await cursor.fetchall()]


async def drop_old_reports(connection: Connection, *, keep: timedelta) -> None:
    """Remove what processes said that have long been gone."""
    await connection.execute("DELETE FROM part_reports WHERE reported_at < now() - %s", [keep])


Row = Mapping[str, Any]


async def read_today(connection: Connection, today: Period, *, kinds: Sequence[str]) -> Sequence[Row]:
    """Read in one go what the dashboard shows: what stands now, and how runs ended today.

    Returns:
        Rows of ``measure``, ``scope``, ``detail``, ``count`` and ``total``; some dozens of them.
    """
    cursor = await connection.execute(
        """
        SELECT measure, scope, detail, count, total FROM measurements
        WHERE tenant_id = current_setting('app.tenant_id', true) AND resolution = %(all)s
          AND measure = ANY (%(standing)s)
        UNION ALL
        SELECT measure, scope, detail, count, total FROM measurements
        WHERE tenant_id = current_setting('app.tenant_id', true) AND resolution = %(resolution)s
          AND measure = ANY (%(measures)s) AND scope = ANY (%(kinds)s) AND subject = '' AND bucket = %(since)s
        """,
        {
            "all": Resolution.ALL,
            "standing": [Measure.ACTIVE_RUNS, Measure.PENDING_APPROVALS],
            "resolution": today.resolution,
            "measures": [Measure.RUN_ENDED, Measure.RUN_DURATION],
            "kinds": list(kinds),
            "since": today.since,
        },
        prepare=True,
    )
    return await cursor.fetchall()


async def read_measurements(
    connection: Connection,
    period: Period,
    measures: Sequence[Measure],
    *,
    scopes: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
) -> Sequence[Row]:
    """Add up the tenant's measurements of a period.

    Args:
        connection: The tenant's transaction.
        period: The hours or days wanted.
        measures: The measures wanted.
        scopes: Only these; None: all.
        subjects: Only these; None: all.

    Returns:
        Rows of ``measure``, ``scope``, ``subject``, ``detail``, ``count`` and ``total``.
    """
    cursor = await connection.execute(
        """
        SELECT measure, scope, subject, detail, sum(count)::bigint AS count, sum(total)::bigint AS total
        FROM measurements
        WHERE tenant_id = current_setting('app.tenant_id', true) AND resolution = %(resolution)s
          AND measure = ANY (%(measures)s) AND bucket >= %(since)s
          AND (%(scopes)s::text[] IS NULL OR scope = ANY (%(scopes)s))
          AND (%(subjects)s::text[] IS NULL OR subject = ANY (%(subjects)s))
        GROUP BY measure, scope, subject, detail
        """,
        {
            "resolution": period.resolution,
            "measures": list(measures),
            "since": period.since,
            "scopes": None if scopes is None else list(scopes),
            "subjects": None if subjects is None else list(subjects),
        },
    )
    return await cursor.fetchall()
