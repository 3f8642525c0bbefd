"""Runs and their events: the only writer of ``runs`` and ``run_events`` (DESIGN §2, §3 phase 1)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from activities.records.database import Connection
from models.errors import NotFoundError
from models.event import STATUS_EVENTS, EventType, NewEvent, RunEvent
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

# One call, so that the row lock is held for one round trip less; the function is in migrations/.
_APPEND = """
SELECT * FROM append_run_events(%(run_id)s, %(events)s::jsonb, %(status)s, %(reachable_from)s,
                                %(report)s::jsonb, %(terminal)s)
"""

REACHABLE_FROM = {
    wanted: [status for status, targets in TRANSITIONS.items() if wanted in targets] for wanted in RunStatus
}
"""For each status, those from which the state machine has an arrow to it."""


@dataclass(frozen=True, slots=True)
class Appended:
    """How a run stands after events were appended.

    Attributes:
        last_seq: Number of its last event.
        status: Its status.
    """

    last_seq: int
    status: RunStatus


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
) -> Appended:
    """Append events to a run and, with them, change its status, in the caller's transaction.

    The run's row is locked until the transaction ends. An event whose key the run holds already is dropped,
    so a retried writer changes nothing. A change of status appends the event that reports it, last, unless
    ``events`` brings one of that type or says that the run was resumed.
    Asking for the status the run has is no change.

    Raises:
        RunNotFoundError: There is no such run.
        RunTransitionError: The state machine has no such arrow.
    """
    report = None
    reported = None if status is None else STATUS_EVENTS.get(status)
    told = {reported, EventType.RUN_RESUMED}
    if reported is not None and all(event.type not in told for event in events):
        # The key is made of the number that the change gets, which the function knows.
        report = json.dumps(_stored(NewEvent(type=reported, key="")))
    parameters = {
        "run_id": run_id,
        "events": json.dumps([_stored(event) for event in events]),
        "status": status,
        "reachable_from": [] if status is None else REACHABLE_FROM[status],
        "report": report,
        "terminal": status in TERMINAL_STATUSES,
    }
    row = await (await connection.execute(_APPEND, parameters, prepare=True)).fetchone()
    if row is None:
        raise RunNotFoundError(run_id)
    current = RunStatus(row["status"])
    if row["refused"]:
        assert status is not None, "only a change is refused"
        raise RunTransitionError(run_id, current, status)
    return Appended(last_seq=row["last_seq"], status=current)


def _stored(event: NewEvent) -> dict[str, Any]:
    return {
        "id": new_identifier("event"),
        "key": event.key,
        "type": event.type,
        "source": event.source,
        "timestamp": event.timestamp and event.timestamp.isoformat(),
        "data": event.data,
        "causation_id": event.causation_id,
    }


async def read_events(
    connection: Connection, run_id: str, *, from_seq: int = 1, limit: int = 1000
) -> list[RunEvent]:
    """Read a run's events from number ``from_seq`` on, in order, at most ``limit``.

    Those that were archived are not among them (`activities.streams.archive` reads them, too).
    """
    cursor = await connection.execute(
        "SELECT e.* FROM runs r JOIN run_events e ON e.run_id = r.id AND e.month = r.events_month "
        "WHERE r.id = %s AND e.seq >= %s ORDER BY e.seq LIMIT %s",
        [run_id, from_seq, limit],
    )
    return [RunEvent.model_validate(row) for row in await cursor.fetchall()]
