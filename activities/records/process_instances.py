"""Process instances in the store: opening them, and everything that is read of them."""

from datetime import datetime
from typing import Any, LiteralString

from activities.records.database import Connection
from activities.records.json_values import stored
from models.process import InstanceStatus, ProcessIncident, ProcessInstance, TaskExecution
from models.process_errors import (
    IncidentNotFoundError,
    ProcessInstanceNotFoundError,
    TaskClaimedError,
    TaskNotFoundError,
)

_INSERT = """
INSERT INTO process_instances (id, tenant_id, definition_id, status, started_by, started_at, current_tasks,
                               variables, correlation_id, business_key, parent_instance_id, open_incidents,
                               recorded)
VALUES (%(id)s, %(tenant_id)s, %(definition_id)s, 'running', %(started_by)s, now(), '[]', %(variables)s,
        %(correlation_id)s, %(business_key)s, %(parent_instance_id)s, 0, 0)
ON CONFLICT (id) DO NOTHING
"""

_LIST: LiteralString = """
FROM process_instances i
WHERE (%(status)s::text IS NULL OR i.status = %(status)s)
  AND (%(definition_id)s::text IS NULL OR i.definition_id = %(definition_id)s)
  AND (%(process_key)s::text IS NULL OR i.definition_id IN
       (SELECT d.id FROM process_definitions d WHERE d.process_key = %(process_key)s))
  AND (%(correlation_id)s::text IS NULL OR i.correlation_id = %(correlation_id)s)
  AND (%(business_key)s::text IS NULL OR i.business_key = %(business_key)s)
  AND (%(parent)s::text IS NULL OR i.parent_instance_id = %(parent)s)
  AND (%(started_after)s::timestamptz IS NULL OR i.started_at >= %(started_after)s)
  AND (%(started_before)s::timestamptz IS NULL OR i.started_at < %(started_before)s)
  AND (NOT %(with_incidents)s OR i.open_incidents > 0)
"""

_CLAIM = """
UPDATE task_executions SET assignee = %(user)s, claimed_at = now()
WHERE id = %(id)s AND status = 'waiting' AND (assignee IS NULL OR assignee = %(user)s)
  AND (%(any)s OR assignee = %(user)s
       OR (candidate_groups IS NULL AND candidate_users IS NULL)
       OR candidate_users ? %(user)s OR candidate_groups ?| %(groups)s)
RETURNING *
"""


async def insert_instance(
    connection: Connection,
    *,
    instance_id: str,
    tenant_id: str,
    definition_id: str,
    started_by: str,
    variables: dict[str, Any],
    correlation_id: str,
    business_key: str | None,
    parent_instance_id: str | None,
) -> bool:
    """Insert an instance; one that exists already is left as it is. Tells whether it was inserted."""
    cursor = await connection.execute(
        _INSERT,
        {
            "id": instance_id,
            "tenant_id": tenant_id,
            "definition_id": definition_id,
            "started_by": started_by,
            "variables": stored(variables),
            "correlation_id": correlation_id,
            "business_key": business_key,
            "parent_instance_id": parent_instance_id,
        },
        prepare=True,
    )
    return cursor.rowcount > 0


async def find_instance(connection: Connection, instance_id: str) -> ProcessInstance:
    """Read an instance of the transaction's tenant.

    Raises:
        ProcessInstanceNotFoundError: There is none.
    """
    cursor = await connection.execute("SELECT * FROM process_instances WHERE id = %s", [instance_id])
    row = await cursor.fetchone()
    if row is None:
        raise ProcessInstanceNotFoundError(instance_id)
    return ProcessInstance.model_validate(row)


async def list_instances(
    connection: Connection,
    *,
    status: InstanceStatus | None = None,
    definition_id: str | None = None,
    process_key: str | None = None,
    correlation_id: str | None = None,
    business_key: str | None = None,
    parent: str | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    with_incidents: bool = False,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[ProcessInstance], int]:
    """List instances of the transaction's tenant, newest first, and count all that fit."""
    parameters = {
        "status": status,
        "definition_id": definition_id,
        "process_key": process_key,
        "correlation_id": correlation_id,
        "business_key": business_key,
        "parent": parent,
        "started_after": started_after,
        "started_before": started_before,
        "with_incidents": with_incidents,
        "limit": limit,
        "offset": offset,
    }
    cursor = await connection.execute(
        "SELECT i.* " + _LIST + " ORDER BY i.started_at DESC, i.id DESC LIMIT %(limit)s OFFSET %(offset)s",
        parameters,
    )
    found = [ProcessInstance.model_validate(row) for row in await cursor.fetchall()]
    cursor = await connection.execute("SELECT count(*) AS total " + _LIST, parameters)
    row = await cursor.fetchone()
    return found, 0 if row is None else row["total"]


async def list_tasks(
    connection: Connection,
    *,
    instance_id: str | None = None,
    status: str | None = None,
    assignee: str | None = None,
    candidate: tuple[str, list[str]] | None = None,
    task_type: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[TaskExecution]:
    """List tasks of the transaction's tenant, oldest first.

    Args:
        connection: A transaction of the tenant.
        instance_id: Only of this instance.
        status: Only with this status.
        assignee: Only those of this user.
        candidate: User and groups: only unassigned tasks that they may claim.
        task_type: Only of this kind (``user_task``, …).
        limit: At most so many.
        offset: After so many.
    """
    user, groups = candidate or (None, [])
    cursor = await connection.execute(
        """
        SELECT * FROM task_executions
        WHERE (%(instance_id)s::text IS NULL OR instance_id = %(instance_id)s)
          AND (%(status)s::text IS NULL OR status = %(status)s)
          AND (%(assignee)s::text IS NULL OR assignee = %(assignee)s)
          AND (%(task_type)s::text IS NULL OR task_type = %(task_type)s)
          AND (%(user)s::text IS NULL OR (assignee IS NULL AND (
               (candidate_groups IS NULL AND candidate_users IS NULL)
               OR candidate_users ? %(user)s OR candidate_groups ?| %(groups)s)))
        ORDER BY started_at, id LIMIT %(limit)s OFFSET %(offset)s
        """,
        {
            "instance_id": instance_id,
            "status": status,
            "assignee": assignee,
            "task_type": task_type,
            "user": user,
            "groups": groups,
            "limit": limit,
            "offset": offset,
        },
    )
    return [TaskExecution.model_validate(row) for row in await cursor.fetchall()]


async def find_task(connection: Connection, task_id: str) -> TaskExecution:
    """Read a task of the transaction's tenant.

    Raises:
        TaskNotFoundError: There is none.
    """
    cursor = await connection.execute("SELECT * FROM task_executions WHERE id = %s", [task_id])
    row = await cursor.fetchone()
    if row is None:
        raise TaskNotFoundError(task_id)
    return TaskExecution.model_validate(row)


async def claim_task(
    connection: Connection, task_id: str, user: str, groups: list[str], *, any_task: bool
) -> TaskExecution:
    """Give a waiting task to a user who may have it; ``any_task`` for those who may have every task.

    Raises:
        TaskNotFoundError: There is no such task.
        TaskClaimedError: It is somebody else's, not waiting, or not for this user.
    """
    cursor = await connection.execute(
        _CLAIM, {"id": task_id, "user": user, "groups": groups, "any": any_task}
    )
    row = await cursor.fetchone()
    if row is not None:
        return TaskExecution.model_validate(row)
    task = await find_task(connection, task_id)
    if task.status != "waiting":
        raise TaskClaimedError(task_id, f"it is {task.status}")
    if task.assignee is not None:
        raise TaskClaimedError(task_id, "somebody else has it")
    raise TaskClaimedError(task_id, "you are not among its candidates")


async def release_task(connection: Connection, task_id: str, user: str, *, any_task: bool) -> TaskExecution:
    """Give a claimed task back.

    Raises:
        TaskNotFoundError: There is no such task.
        TaskClaimedError: It is not the user's.
    """
    cursor = await connection.execute(
        "UPDATE task_executions SET assignee = NULL, claimed_at = NULL WHERE id = %s AND status = 'waiting' "
        "AND (assignee = %s OR %s) RETURNING *",
        [task_id, user, any_task],
    )
    row = await cursor.fetchone()
    if row is None:
        task = await find_task(connection, task_id)
        raise TaskClaimedError(task_id, f"it is {task.status} and not claimed by you")
    return TaskExecution.model_validate(row)


async def list_incidents(
    connection: Connection,
    *,
    instance_id: str | None = None,
    status: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[ProcessIncident]:
    """List incidents of the transaction's tenant, newest first."""
    cursor = await connection.execute(
        "SELECT * FROM process_incidents WHERE (%(instance_id)s::text IS NULL OR instance_id = "
        "%(instance_id)s) AND (%(status)s::text IS NULL OR status = %(status)s) "
        "ORDER BY created_at DESC, id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {"instance_id": instance_id, "status": status, "limit": limit, "offset": offset},
    )
    return [ProcessIncident.model_validate(row) for row in await cursor.fetchall()]


async def find_incident(connection: Connection, incident_id: str) -> ProcessIncident:
    """Read an incident of the transaction's tenant.

    Raises:
        IncidentNotFoundError: There is none.
    """
    cursor = await connection.execute("SELECT * FROM process_incidents WHERE id = %s", [incident_id])
    row = await cursor.fetchone()
    if row is None:
        raise IncidentNotFoundError(incident_id)
    return ProcessIncident.model_validate(row)
