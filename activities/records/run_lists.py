"""Runs as their tenant lists them."""

from datetime import datetime

from activities.records.database import Connection
from models.run import Run, RunKind, RunStatus

_LIST = """
SELECT * FROM runs
WHERE (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(subject)s::text IS NULL OR subject = %(subject)s)
  AND (%(correlation_id)s::text IS NULL OR correlation_id = %(correlation_id)s)
  AND (%(parent_run_id)s::text IS NULL OR parent_run_id = %(parent_run_id)s)
  AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(before)s))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
"""


async def list_runs(
    connection: Connection,
    *,
    kind: RunKind | None = None,
    status: RunStatus | None = None,
    subject: str | None = None,
    correlation_id: str | None = None,
    parent_run_id: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[Run]:
    """Read the tenant's runs, newest first; each filter that is given must hold."""
    created_at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        _LIST,
        {
            "kind": kind,
            "status": status,
            "subject": subject,
            "correlation_id": correlation_id,
            "parent_run_id": parent_run_id,
            "at": created_at,
            "before": identifier,
            "limit": limit,
        },
    )
    return [Run.model_validate(row) for row in await cursor.fetchall()]


async def count_runs(connection: Connection) -> dict[str, int]:
    """Count the tenant's runs of the last day by status, and all that go on."""
    cursor = await connection.execute(
        """
        SELECT status, count(*) AS runs FROM runs
        WHERE created_at > now() - interval '1 day' OR ended_at IS NULL
        GROUP BY status
        """
    )
    return {row["status"]: int(row["runs"]) for row in await cursor.fetchall()}
