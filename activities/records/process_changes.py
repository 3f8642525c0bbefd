"""What a process instance reports of itself: the only writer of an instance's rows while it runs.

A batch is applied in one transaction with its events. The instance's row remembers the last change applied,
so a batch that comes twice, or late, changes nothing.

Locking order: run (by `append_events`), then the instance's own rows, then messages.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, LiteralString

from activities.records.database import Connection
from activities.records.json_values import stored
from activities.records.process_messages import (
    Delivery,
    broadcast_signal,
    mark_delivered,
    offer_buffered,
    route_message,
    take_back,
)
from activities.records.process_state import write_state
from activities.records.runs import append_events, lock_run
from models.event import NewEvent
from models.identifiers import derived_identifier
from models.process import ENDED, RUN_STATUS_OF, InstanceStatus, TaskStatus
from models.process_errors import ProcessInstanceNotFoundError
from models.process_run import (
    Batch,
    IncidentChange,
    JobChange,
    MessageReceipt,
    SubscriptionChange,
    TaskChange,
)

SOURCE = "orchestrator"

_OVER = frozenset({TaskStatus.COMPLETED, TaskStatus.CANCELLED})

_TASK = """
INSERT INTO task_executions (id, tenant_id, instance_id, task_id, task_name, task_type, agent_slug, status,
                             input_variables, error_message, attempt_count, started_at, element_key,
                             job_type, assignee, candidate_groups, candidate_users, form, due_at)
VALUES (%(id)s, %(tenant_id)s, %(instance_id)s, %(task_id)s, %(task_name)s, %(task_type)s, %(agent_slug)s,
        %(status)s, %(inputs)s, %(error)s, %(attempt)s, %(at)s, %(key)s, %(job_type)s,
        %(assignee)s, %(candidate_groups)s, %(candidate_users)s, %(form)s, %(due_at)s)
ON CONFLICT (id) DO UPDATE
SET status = excluded.status,
    input_variables = coalesce(excluded.input_variables, task_executions.input_variables),
    error_message = coalesce(excluded.error_message, task_executions.error_message),
    attempt_count = greatest(excluded.attempt_count, task_executions.attempt_count),
    completed_at = NULL,
    duration_ms = NULL
"""

# An end without a beginning is that of a loop's body, which is no task of its own.
_END_TASK = """
UPDATE task_executions
SET status = %(status)s,
    output_variables = coalesce(%(outputs)s, output_variables),
    error_message = coalesce(%(error)s, error_message),
    completed_at = %(at)s,
    duration_ms = (extract(epoch FROM %(at)s - started_at) * 1000)::bigint,
    completed_by = coalesce(%(completed_by)s, completed_by)
WHERE id = %(id)s
"""

_OFFER_JOB = """
INSERT INTO process_jobs (id, tenant_id, instance_id, element_key, attempt, task_id, type, status, variables,
                          details, retries, available_at, created_at)
VALUES (%(id)s, %(tenant_id)s, %(instance_id)s, %(key)s, %(attempt)s, %(task_id)s, %(type)s, 'available',
        %(variables)s, %(details)s, %(retries)s, now(), now())
ON CONFLICT (id) DO NOTHING
"""

_END_JOB = """
UPDATE process_jobs
SET status = %(status)s, ended_at = now(), error_message = coalesce(%(error)s, error_message)
WHERE instance_id = %(instance_id)s AND element_key = %(key)s AND (%(attempt)s = 0 OR attempt = %(attempt)s)
  AND status IN ('available', 'locked')
"""

_SUBSCRIBE = """
INSERT INTO process_subscriptions (instance_id, subscription_key, tenant_id, task_id, kind, name, correlation,
                                   once, created_at)
VALUES (%(instance_id)s, %(key)s, %(tenant_id)s, %(task_id)s, %(kind)s, %(name)s, %(correlation)s, %(once)s,
        clock_timestamp())
ON CONFLICT (instance_id, subscription_key) DO NOTHING
"""

_OPEN_INCIDENT = """
INSERT INTO process_incidents (id, tenant_id, instance_id, element_key, task_id, type, message, status,
                               created_at)
VALUES (%(id)s, %(tenant_id)s, %(instance_id)s, %(key)s, %(task_id)s, %(type)s, %(message)s, 'open', now())
ON CONFLICT (id) DO NOTHING
"""

_CLOSE_INCIDENT = """
UPDATE process_incidents SET status = 'resolved', resolved_at = now()
WHERE instance_id = %(instance_id)s AND element_key = %(key)s AND status = 'open'
"""

_INSTANCE = """
UPDATE process_instances
SET recorded = %(recorded)s,
    status = coalesce(%(status)s, status),
    definition_id = coalesce(%(definition_id)s, definition_id),
    error_message = coalesce(%(error)s, error_message),
    completed_at = CASE WHEN %(ended)s THEN coalesce(completed_at, now()) ELSE completed_at END,
    current_tasks = coalesce(%(current_tasks)s, current_tasks),
    open_incidents = open_incidents + %(incidents)s
WHERE id = %(id)s
"""

_SWEEP = (
    "DELETE FROM process_subscriptions WHERE instance_id = %s",
    "UPDATE process_jobs SET status = 'cancelled', ended_at = now() "
    "WHERE instance_id = %s AND status IN ('available', 'locked')",
    "UPDATE task_executions SET status = 'cancelled', completed_at = now() "
    "WHERE instance_id = %s AND status IN ('pending', 'dispatched', 'running', 'waiting')",
    "UPDATE process_incidents SET status = 'resolved', resolved_at = now() "
    "WHERE instance_id = %s AND status = 'open'",
)
"""Whatever ends an instance, nothing of it is left open."""


async def apply_batch(connection: Connection, batch: Batch) -> list[Delivery]:
    """Apply the changes of a batch that the store does not have yet.

    Returns:
        Messages and signals that found an instance: to be sent to it once the transaction has committed.

    Raises:
        ProcessInstanceNotFoundError: The instance was never opened.
    """
    status = batch.statuses[-1].status if batch.statuses else None
    events = [
        NewEvent(type=event.type, key=f"flow:{event.n}", source=SOURCE, timestamp=event.at, data=event.data)
        for event in batch.events
    ]
    run_status = None if status is None else RUN_STATUS_OF[status]
    if events or run_status is not None:
        appended = await append_events(connection, batch.instance_id, events, status=run_status)
        last_seq = appended.last_seq
    else:
        last_seq = (await lock_run(connection, batch.instance_id)).last_seq
    cursor = await connection.execute(
        "SELECT recorded FROM process_instances WHERE id = %s", [batch.instance_id], prepare=True
    )
    row = await cursor.fetchone()
    if row is None:
        raise ProcessInstanceNotFoundError(batch.instance_id)
    recorded: int = row["recorded"]
    if batch.last <= recorded:
        return []
    await _tasks(connection, batch, [change for change in batch.tasks if change.n > recorded])
    await _jobs(connection, batch, [change for change in batch.jobs if change.n > recorded])
    for state in batch.states:
        if state.n > recorded:
            await write_state(connection, batch.instance_id, batch.tenant_id, state, last_seq)
    opened = await _incidents(connection, batch, [each for each in batch.incidents if each.n > recorded])
    deliveries = await _events(connection, batch, recorded)
    await connection.execute(
        _INSTANCE,
        {
            "id": batch.instance_id,
            "recorded": batch.last,
            "status": status,
            "definition_id": _last(change.definition_id for change in batch.statuses),
            "error": _last(change.error for change in batch.statuses),
            "ended": status in ENDED,
            "current_tasks": None if batch.current_tasks is None else stored(batch.current_tasks),
            "incidents": opened,
        },
        prepare=True,
    )
    if status is not None and status in ENDED:
        await _sweep(connection, batch, status)
    return deliveries


def _last(values: Iterable[str | None]) -> str | None:
    return next((value for value in reversed(list(values)) if value), None)


async def _tasks(connection: Connection, batch: Batch, changes: Sequence[TaskChange]) -> None:
    rows = [_task_row(batch, change) for change in changes]
    # Grouped where neighbours share their statement: a batch of a hundred starts is one round trip.
    for ended, group in groupby(rows, key=lambda row: row["status"] in _OVER):
        await _each(connection, _END_TASK if ended else _TASK, list(group))


def _task_row(batch: Batch, change: TaskChange) -> dict[str, Any]:
    return {
        "id": derived_identifier("task", batch.instance_id, change.key),
        "tenant_id": batch.tenant_id,
        "instance_id": batch.instance_id,
        **change.model_dump(exclude={"n"}),
        "inputs": None if change.inputs is None else stored(change.inputs),
        "outputs": None if change.outputs is None else stored(change.outputs),
        "candidate_groups": None if change.candidate_groups is None else stored(change.candidate_groups),
        "candidate_users": None if change.candidate_users is None else stored(change.candidate_users),
    }


async def _jobs(connection: Connection, batch: Batch, changes: Sequence[JobChange]) -> None:
    for change in changes:
        row = {
            "id": derived_identifier("job", batch.instance_id, change.key, change.attempt),
            "tenant_id": batch.tenant_id,
            "instance_id": batch.instance_id,
            **change.model_dump(exclude={"n"}),
            "variables": stored(change.variables),
            "details": stored(change.details),
        }
        await connection.execute(_OFFER_JOB if change.status == "available" else _END_JOB, row, prepare=True)


async def _incidents(connection: Connection, batch: Batch, changes: Sequence[IncidentChange]) -> int:
    """Open and close incidents; returns by how many more are open."""
    more = 0
    for change in changes:
        row = {
            "id": derived_identifier("incident", batch.instance_id, change.n),
            "tenant_id": batch.tenant_id,
            "instance_id": batch.instance_id,
            **change.model_dump(exclude={"n"}),
        }
        cursor = await connection.execute(_OPEN_INCIDENT if change.open else _CLOSE_INCIDENT, row)
        more += cursor.rowcount if change.open else -cursor.rowcount
    return more


async def _events(connection: Connection, batch: Batch, recorded: int) -> list[Delivery]:
    """Open and close subscriptions and send messages, in the order in which they happened."""
    deliveries: list[Delivery] = []
    changes = sorted((*batch.subscriptions, *batch.thrown, *batch.receipts), key=lambda change: change.n)
    for change in changes:
        if change.n <= recorded:
            continue
        if isinstance(change, SubscriptionChange):
            deliveries += await _subscription(connection, batch, change)
        elif isinstance(change, MessageReceipt) and change.kind == "delivered":
            await mark_delivered(connection, [change.message])
        elif isinstance(change, MessageReceipt):
            found = await take_back(connection, change.message, batch.instance_id)
            deliveries += [found] if found else []
        elif change.kind == "signal":
            deliveries += await broadcast_signal(
                connection,
                tenant_id=batch.tenant_id,
                message_id=f"{batch.instance_id}:{change.n}",
                name=change.name,
                variables=change.variables,
                source=batch.instance_id,
            )
        else:
            found = await route_message(
                connection,
                tenant_id=batch.tenant_id,
                message_id=f"{batch.instance_id}:{change.n}",
                name=change.name,
                correlation=change.correlation,
                variables=change.variables,
                source=batch.instance_id,
            )
            deliveries += [found.delivery] if found.delivery else []
    return deliveries


async def _subscription(connection: Connection, batch: Batch, change: SubscriptionChange) -> list[Delivery]:
    if not change.open:
        await connection.execute(
            "DELETE FROM process_subscriptions WHERE instance_id = %s AND subscription_key = %s",
            [batch.instance_id, change.key],
        )
        return []
    row = {
        "instance_id": batch.instance_id,
        "tenant_id": batch.tenant_id,
        **change.model_dump(exclude={"n", "open"}),
    }
    await connection.execute(_SUBSCRIBE, row)
    if change.kind != "message":
        return []
    found = await offer_buffered(
        connection, batch.tenant_id, batch.instance_id, change.key, change.name, change.correlation
    )
    return [found] if found else []


async def _each(connection: Connection, statement: LiteralString, rows: Sequence[dict[str, Any]]) -> None:
    if len(rows) == 1:
        await connection.execute(statement, rows[0], prepare=True)
    else:
        async with connection.cursor() as cursor:
            await cursor.executemany(statement, rows)


async def _sweep(connection: Connection, batch: Batch, status: InstanceStatus) -> None:
    for statement in _SWEEP:
        await connection.execute(statement, [batch.instance_id])
    await connection.execute(
        "UPDATE process_instances SET open_incidents = 0, current_tasks = '[]' WHERE id = %s",
        [batch.instance_id],
    )
