"""The queue of jobs for outside workers: lock, extend, give back, fail (``job:<type>`` tasks)."""

from datetime import timedelta

from activities.records.database import Connection
from models.process import ProcessJob
from models.process_errors import JobNotFoundError, JobNotLockedError

# Materialised: as a plain subquery the choice may be made anew for each row, and lock more than the limit.
_LOCK = """
WITH chosen AS MATERIALIZED (
    SELECT id FROM process_jobs
    WHERE type = %(type)s
      AND ((status = 'available' AND available_at <= now()) OR (status = 'locked' AND locked_until < now()))
    ORDER BY available_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE process_jobs j
SET status = 'locked', locked_by = %(worker)s, locked_until = now() + %(lock)s
FROM chosen
WHERE j.id = chosen.id
RETURNING j.*
"""

_HELD = "id = %(id)s AND status = 'locked' AND locked_by = %(worker)s AND locked_until >= now()"


async def lock_jobs(
    connection: Connection, job_type: str, worker: str, *, limit: int, lock: timedelta
) -> list[ProcessJob]:
    """Lock the oldest jobs of a type for a worker; locks that ran out are free again."""
    cursor = await connection.execute(
        _LOCK, {"type": job_type, "worker": worker, "limit": limit, "lock": lock}
    )
    rows = [ProcessJob.model_validate(row) for row in await cursor.fetchall()]
    return sorted(rows, key=lambda job: (job.available_at, job.id))


async def find_job(connection: Connection, job_id: str) -> ProcessJob:
    """Read a job of the transaction's tenant.

    Raises:
        JobNotFoundError: There is none.
    """
    cursor = await connection.execute("SELECT * FROM process_jobs WHERE id = %s", [job_id])
    row = await cursor.fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return ProcessJob.model_validate(row)


async def held_job(connection: Connection, job_id: str, worker: str) -> ProcessJob:
    """Read a job that a worker holds.

    Raises:
        JobNotFoundError: There is no such job.
        JobNotLockedError: The worker does not hold it.
    """
    cursor = await connection.execute(
        f"SELECT * FROM process_jobs WHERE {_HELD}", {"id": job_id, "worker": worker}
    )
    return await _held(connection, job_id, await cursor.fetchone())


async def extend_lock(connection: Connection, job_id: str, worker: str, lock: timedelta) -> ProcessJob:
    """Let a worker hold its job longer, from now on.

    Raises:
        JobNotFoundError: There is no such job.
        JobNotLockedError: The worker does not hold it.
    """
    cursor = await connection.execute(
        f"UPDATE process_jobs SET locked_until = now() + %(lock)s WHERE {_HELD} RETURNING *",
        {"id": job_id, "worker": worker, "lock": lock},
    )
    return await _held(connection, job_id, await cursor.fetchone())


async def give_back(
    connection: Connection, job_id: str, worker: str, *, retries: int, message: str, pause: timedelta
) -> ProcessJob:
    """Offer a failed job again after a pause, with the attempts that are left.

    Raises:
        JobNotFoundError: There is no such job.
        JobNotLockedError: The worker does not hold it.
    """
    cursor = await connection.execute(
        "UPDATE process_jobs SET status = 'available', locked_by = NULL, locked_until = NULL, "
        "available_at = now() + %(pause)s, retries = %(retries)s, error_message = %(message)s "
        f"WHERE {_HELD} RETURNING *",
        {"id": job_id, "worker": worker, "retries": retries, "message": message, "pause": pause},
    )
    return await _held(connection, job_id, await cursor.fetchone())


async def _held(connection: Connection, job_id: str, row: object) -> ProcessJob:
    if row is None:
        raise JobNotLockedError(job_id, (await find_job(connection, job_id)).status)
    return ProcessJob.model_validate(row)
