"""Runs and their events: the only writer of ``runs`` and ``run_events`` (DESIGN §2, §3 phase 1)."""

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.errors import NotFoundError
from models.event import STATUS_EVENTS, NewEvent, RunEvent
from models.identifiers import new_identifier
from models.run import TERMINAL_STATUSES, TRANSITIONS, Run, RunStatus, RunTransitionError


class RunNotFoundError(NotFoundError):
    """There is no such run in the caller's tenant."""

    code = "RUN_NOT_FOUND"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id}.", details={"run_id": run_id})


_CREATE = """
INSERT INTO runs (id, tenant_id, kind, status, parent_run_id, subject, correlation_id, workflow_id,
                  last_seq, published_seq, created_at, updated_at)
VALUES (%(id)s, %(tenant_id)s, %(kind)s, %(status)s, %(parent_run_id)s, %(subject)s, %(correlation_id)s,
        %(workflow_id)s, 0, 0, now(), now())
ON CONFLICT (id) DO NOTHING
"""

_LOCK = "SELECT * FROM runs WHERE id = %s FOR UPDATE"

# The row lock is taken by a statement of its own: this one's snapshot then holds every event that
# an earlier holder of the lock committed, so the look-up of keys cannot miss one.
_APPEND = """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::text[], %(keys)s::text[], %(types)s::text[], %(sources)s::text[],
                         %(timestamps)s::timestamptz[], %(data)s::jsonb[], %(causation_ids)s::text[])
           WITH ORDINALITY AS t (id, key, type, source, "timestamp", data, causation_id, place)
), fresh AS (
    SELECT g.*, row_number() OVER (ORDER BY g.place) AS step
    FROM given g
    WHERE NOT EXISTS (SELECT FROM run_events e WHERE e.run_id = %(run_id)s AND e.key = g.key)
), written AS (
    INSERT INTO run_events (run_id, seq, id, key, tenant_id, type, source, "timestamp", data,
                            correlation_id, causation_id)
    SELECT r.id, r.last_seq + f.step, f.id, f.key, r.tenant_id, f.type, f.source,
           coalesce(f."timestamp", clock_timestamp()), f.data, r.correlation_id, f.causation_id
    FROM fresh f CROSS JOIN runs r
    WHERE r.id = %(run_id)s
    RETURNING seq
)
UPDATE runs
SET last_seq = last_seq + (SELECT count(*) FROM written),
    status = %(status)s,
    paused_from = %(paused_from)s,
    updated_at = now(),
    started_at = coalesce(started_at, CASE WHEN %(status)s = 'RUNNING' THEN now() END),
    ended_at = coalesce(ended_at, CASE WHEN %(terminal)s THEN now() END)
WHERE id = %(run_id)s
RETURNING *
"""


async def create_run(connection: Connection, run: Run) -> None:
    """Insert a run; one that exists already is left as it is, so that a retry is harmless."""
    await connection.execute(_CREATE, run.model_dump())


async def find_run(connection: Connection, run_id: str) -> Run:
    """Read one run.

    Raises:
        RunNotFoundError: It does not exist in the transaction's tenant.
    """
    cursor = await connection.execute("SELECT * FROM runs WHERE id = %s", [run_id])
    row = await cursor.fetchone()
    if row is None:
        raise RunNotFoundError(run_id)
    return Run.model_validate(row)


async def lock_run(connection: Connection, run_id: str) -> Run:
    """Read one run and hold its row lock until the transaction ends.

    Locking order of the store: run, then execution, then money (mandate, hold, ledger accounts by id,
    receipt chain).

    Raises:
        RunNotFoundError: It does not exist in the transaction's tenant.
    """
    row = await (await connection.execute(_LOCK, [run_id])).fetchone()
    if row is None:
        raise RunNotFoundError(run_id)
    return Run.model_validate(row)


async def append_events(
    connection: Connection, run_id: str, events: Sequence[NewEvent], *, status: RunStatus | None = None
) -> Run:
    """Append events to a run and, with them, change its status, in the caller's transaction.

    An event whose key the run holds already is dropped, so a retried writer changes nothing. A change
    of status appends the event that reports it, last, unless ``events`` brings one of that type. Asking
    for the status the run has is no change.

    Returns:
        The run as it stands afterwards.

    Raises:
        RunNotFoundError: There is no such run.
        RunTransitionError: The state machine has no such arrow, or the run was paused elsewhere.
    """
    run = await lock_run(connection, run_id)
    written = list(events)
    paused_from = run.paused_from
    if status is not None and status != run.status:
        if status not in TRANSITIONS[RunStatus(run.status)]:
            raise RunTransitionError(run_id, RunStatus(run.status), status)
        paused_from = run.status if status is RunStatus.PAUSED else None
        reported = STATUS_EVENTS.get(status)
        if reported is not None and all(event.type is not reported for event in written):
            written.append(NewEvent(type=reported, key=f"status:{status}:{run.last_seq + 1}"))
    resulting = status or RunStatus(run.status)
    parameters = {
        "run_id": run_id,
        "status": resulting,
        "paused_from": paused_from,
        "terminal": resulting in TERMINAL_STATUSES,
        "ids": [new_identifier("event") for _ in written],
        "keys": [event.key for event in written],
        "types": [event.type for event in written],
        "sources": [event.source for event in written],
        "timestamps": [event.timestamp for event in written],
        "data": [Jsonb(event.data) for event in written],
        "causation_ids": [event.causation_id for event in written],
    }
    row = await (await connection.execute(_APPEND, parameters)).fetchone()
    assert row is not None, "the row is locked, so the update finds it"
    return Run.model_validate(row)


async def read_events(
    connection: Connection, run_id: str, *, from_seq: int = 1, limit: int = 1000
) -> list[RunEvent]:
    """Read a run's events from number ``from_seq`` on, in order, at most ``limit``."""
    cursor = await connection.execute(
        "SELECT * FROM run_events WHERE run_id = %s AND seq >= %s ORDER BY seq LIMIT %s",
        [run_id, from_seq, limit],
    )
    return [RunEvent.model_validate(row) for row in await cursor.fetchall()]
