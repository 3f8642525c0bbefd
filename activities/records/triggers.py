"""Triggers in the store: the only writer of ``scheduled_triggers`` and ``trigger_runs``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from activities.records.database import Connection
from activities.records.json_values import stored
from models.event import RunEvent
from models.identifiers import derived_identifier
from models.trigger import (
    TIMED,
    ScheduledTrigger,
    TriggerKind,
    TriggerNotFoundError,
    TriggerRun,
    TriggerRunStatus,
)

_COLUMNS = (
    "id", "tenant_id", "definition_id", "process_key", "pinned", "kind", "origin", "cron_expression",
    "time_zone", "anchor", "overlap_policy", "name", "match", "variables", "start_node", "start_part",
    "enabled", "created_by", "created_at",
)  # fmt: skip

_INSERT = """
INSERT INTO scheduled_triggers (id, tenant_id, definition_id, process_key, pinned, kind, origin,
    cron_expression, time_zone, anchor, overlap_policy, name, match, variables, start_node, start_part,
    enabled, created_by, created_at, updated_at)
VALUES (%(id)s, %(tenant_id)s, %(definition_id)s, %(process_key)s, %(pinned)s, %(kind)s, %(origin)s,
    %(cron_expression)s, %(time_zone)s, %(anchor)s, %(overlap_policy)s, %(name)s, %(match)s, %(variables)s,
    %(start_node)s, %(start_part)s, %(enabled)s, %(created_by)s, %(created_at)s, now())
"""

# A period that was claimed before keeps the instance that it was given.
_CLAIM = """
INSERT INTO trigger_runs (trigger_id, period_key, tenant_id, instance_id, definition_id, variables,
                          business_key, status, created_at)
VALUES (%(trigger_id)s, %(period_key)s, %(tenant_id)s, %(instance_id)s, %(definition_id)s, %(variables)s,
        %(business_key)s, %(status)s, now())
ON CONFLICT (trigger_id, period_key) DO NOTHING
"""

_LATEST = """
SELECT id FROM process_definitions
WHERE process_key = %(process_key)s AND tenant_id = %(tenant_id)s AND status = 'active'
ORDER BY deployed_at DESC, id DESC LIMIT 1
"""

_WAITING = """
SELECT * FROM scheduled_triggers
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s AND name = %(name)s AND enabled AND deleted_at IS NULL
ORDER BY created_at, id
"""


async def insert_trigger(connection: Connection, trigger: ScheduledTrigger) -> None:
    """Store a new trigger; its schedule is still to be made."""
    fields = trigger.model_dump(include=set(_COLUMNS))
    await connection.execute(
        _INSERT, {**fields, "match": stored(trigger.match), "variables": stored(trigger.variables)}
    )


async def find_trigger(connection: Connection, trigger_id: str, *, lock: bool = False) -> ScheduledTrigger:
    """Read a trigger.

    Raises:
        TriggerNotFoundError: The transaction's tenant has none, or it was deleted.
    """
    row = await (
        await connection.execute(
            "SELECT * FROM scheduled_triggers WHERE id = %s AND deleted_at IS NULL"
            + (" FOR UPDATE" if lock else ""),
            [trigger_id],
        )
    ).fetchone()
    if row is None:
        raise TriggerNotFoundError(trigger_id)
    return ScheduledTrigger.model_validate(row)


async def list_triggers(
    connection: Connection,
    *,
    process_key: str | None = None,
    kind: TriggerKind | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[ScheduledTrigger]:
    """Read the tenant's triggers, newest first."""
    cursor = await connection.execute(
        "SELECT * FROM scheduled_triggers WHERE deleted_at IS NULL "
        "AND (%(key)s::text IS NULL OR process_key = %(key)s) "
        "AND (%(kind)s::text IS NULL OR kind = %(kind)s) "
        "ORDER BY created_at DESC, id DESC LIMIT %(limit)s OFFSET %(offset)s",
        {"key": process_key, "kind": kind, "limit": limit, "offset": offset},
    )
    return [ScheduledTrigger.model_validate(row) for row in await cursor.fetchall()]


async def change_trigger(connection: Connection, trigger: ScheduledTrigger) -> None:
    """Write what of a trigger may change; its schedule has to follow."""
    await connection.execute(
        "UPDATE scheduled_triggers SET cron_expression = %(cron_expression)s, time_zone = %(time_zone)s, "
        "overlap_policy = %(overlap_policy)s, match = %(match)s, variables = %(variables)s, "
        "enabled = %(enabled)s, updated_at = now(), synced_at = NULL WHERE id = %(id)s",
        {
            **trigger.model_dump(include={"id", "cron_expression", "time_zone", "overlap_policy", "enabled"}),
            "match": stored(trigger.match),
            "variables": stored(trigger.variables),
        },
    )


async def delete_triggers(connection: Connection, identifiers: Sequence[str]) -> None:
    """Mark triggers as deleted; their schedules have to go."""
    await connection.execute(
        "UPDATE scheduled_triggers SET deleted_at = now(), enabled = false, updated_at = now(), "
        "synced_at = NULL WHERE id = ANY(%s)",
        [list(identifiers)],
    )


async def move_starts(
    connection: Connection,
    tenant_id: str,
    design_id: str,
    definition_id: str,
    starts: Sequence[ScheduledTrigger],
) -> None:
    """Let the start events of a deployed version take the place of those of earlier versions.

    A version that is deployed again, unchanged, keeps its triggers as they are; one that somebody paused
    stays paused for the same start event of the next version.
    """
    cursor = await connection.execute(
        "SELECT t.* FROM scheduled_triggers t JOIN process_definitions d ON d.id = t.definition_id "
        "WHERE t.tenant_id = %s AND d.design_id = %s AND t.origin = 'deployment' AND t.deleted_at IS NULL "
        "FOR UPDATE OF t",
        [tenant_id, design_id],
    )
    present = [ScheduledTrigger.model_validate(row) for row in await cursor.fetchall()]
    if any(trigger.definition_id == definition_id for trigger in present):
        return
    paused = {(t.start_node, t.start_part) for t in present if not t.enabled}
    await delete_triggers(connection, [trigger.id for trigger in present])
    for start in starts:
        start.enabled = (start.start_node, start.start_part) not in paused
        await insert_trigger(connection, start)


# --- starts -----------------------------------------------------------------------------------------------


async def claim_period(
    connection: Connection,
    trigger: ScheduledTrigger,
    period_key: str,
    *,
    variables: dict[str, Any] | None = None,
    business_key: str | None = None,
    status: TriggerRunStatus = TriggerRunStatus.PENDING,
) -> TriggerRun | None:
    """Give a period of a trigger its instance, once; None where no version can be started."""
    definition_id: str | None = trigger.definition_id
    if not trigger.pinned:
        row = await (
            await connection.execute(
                _LATEST, {"process_key": trigger.process_key, "tenant_id": trigger.tenant_id}
            )
        ).fetchone()
        definition_id = row["id"] if row is not None else None
    if definition_id is None:
        return None
    await connection.execute(
        _CLAIM,
        {
            "trigger_id": trigger.id,
            "period_key": period_key,
            "tenant_id": trigger.tenant_id,
            "instance_id": derived_identifier("process_instance", trigger.id, period_key),
            "definition_id": definition_id,
            "variables": stored({**trigger.variables, **(variables or {})}),
            "business_key": business_key,
            "status": status,
        },
    )
    cursor = await connection.execute(
        "SELECT * FROM trigger_runs WHERE trigger_id = %s AND period_key = %s", [trigger.id, period_key]
    )
    found = await cursor.fetchone()
    assert found is not None, "it was inserted, now or before"
    await connection.execute(
        "UPDATE scheduled_triggers SET last_triggered_at = greatest(last_triggered_at, %s) WHERE id = %s",
        [found["created_at"], trigger.id],
    )
    return TriggerRun.model_validate(found)


async def claim_message_start(
    connection: Connection,
    *,
    tenant_id: str,
    message_id: str,
    name: str,
    correlation: str | None,
    variables: dict[str, Any],
) -> TriggerRun | None:
    """Let a message that nobody waits for start a process, if one begins with it; the oldest does."""
    rows = await _waiting(connection, tenant_id, TriggerKind.MESSAGE, name)
    if not rows:
        return None
    return await claim_period(connection, rows[0], message_id, variables=variables, business_key=correlation)


async def claim_signal_starts(
    connection: Connection, *, tenant_id: str, message_id: str, name: str, variables: dict[str, Any]
) -> list[TriggerRun]:
    """Let a signal start every process that begins with it."""
    rows = await _waiting(connection, tenant_id, TriggerKind.SIGNAL, name)
    found = [await claim_period(connection, row, message_id, variables=variables) for row in rows]
    return [run for run in found if run is not None]


async def claim_event_starts(connection: Connection, event: RunEvent) -> int:
    """Let an event start the processes whose triggers it fits; returns how many.

    An event of a run that the same trigger started does not start it again: processes tell of themselves.
    """
    count = 0
    for trigger in await _waiting(connection, event.tenant_id, TriggerKind.EVENT, event.type):
        row = await (
            await connection.execute(
                "SELECT %(data)s::jsonb @> %(match)s::jsonb AS fits, EXISTS (SELECT FROM trigger_runs "
                "WHERE trigger_id = %(id)s AND instance_id = %(run_id)s) AS own",
                {
                    "data": stored(event.data),
                    "match": stored(trigger.match),
                    "id": trigger.id,
                    "run_id": event.run_id,
                },
            )
        ).fetchone()
        assert row is not None, "a select without FROM has a row"
        if event.timestamp < trigger.created_at or not row["fits"] or row["own"]:
            continue
        told = {
            "id": event.id,
            "type": event.type,
            "source": event.source,
            "runId": event.run_id,
            "timestamp": event.timestamp.isoformat(),
            "data": event.data,
        }
        count += await claim_period(connection, trigger, event.id, variables={"event": told}) is not None
    return count


async def _waiting(
    connection: Connection, tenant_id: str, kind: TriggerKind, name: str
) -> list[ScheduledTrigger]:
    cursor = await connection.execute(_WAITING, {"tenant_id": tenant_id, "kind": kind, "name": name})
    return [ScheduledTrigger.model_validate(row) for row in await cursor.fetchall()]


async def event_types_wanted(connection: Connection) -> list[str]:
    """Read the types of events that any tenant's triggers wait for."""
    cursor = await connection.execute(
        "SELECT DISTINCT name FROM scheduled_triggers "
        "WHERE kind = 'event' AND enabled AND deleted_at IS NULL ORDER BY name"
    )
    return [row["name"] for row in await cursor.fetchall()]


async def pending_runs(connection: Connection, limit: int) -> list[tuple[TriggerRun, ScheduledTrigger]]:
    """Read starts that are still to be made, oldest first; others skip them meanwhile."""
    cursor = await connection.execute(
        "SELECT * FROM trigger_runs WHERE status = 'pending' ORDER BY created_at LIMIT %s "
        "FOR UPDATE SKIP LOCKED",
        [limit],
    )
    runs = [TriggerRun.model_validate(row) for row in await cursor.fetchall()]
    cursor = await connection.execute(
        "SELECT * FROM scheduled_triggers WHERE id = ANY(%s)", [[run.trigger_id for run in runs]]
    )
    triggers = {row["id"]: ScheduledTrigger.model_validate(row) for row in await cursor.fetchall()}
    return [(run, triggers[run.trigger_id]) for run in runs]


async def mark_started(connection: Connection, run: TriggerRun) -> None:
    """Remember that a start was made."""
    await connection.execute(
        "UPDATE trigger_runs SET status = 'started' WHERE trigger_id = %s AND period_key = %s",
        [run.trigger_id, run.period_key],
    )


async def list_runs(connection: Connection, trigger_id: str, limit: int, offset: int) -> list[TriggerRun]:
    """Read the starts of a trigger, newest first."""
    cursor = await connection.execute(
        "SELECT * FROM trigger_runs WHERE trigger_id = %s ORDER BY created_at DESC, period_key DESC "
        "LIMIT %s OFFSET %s",
        [trigger_id, limit, offset],
    )
    return [TriggerRun.model_validate(row) for row in await cursor.fetchall()]


# --- schedules --------------------------------------------------------------------------------------------


async def unsynced_triggers(connection: Connection, limit: int) -> list[ScheduledTrigger]:
    """Read time triggers whose schedule is not like them yet; others skip them meanwhile."""
    cursor = await connection.execute(
        "SELECT * FROM scheduled_triggers WHERE synced_at IS NULL AND kind = ANY(%s) "
        "ORDER BY updated_at LIMIT %s FOR UPDATE SKIP LOCKED",
        [sorted(TIMED), limit],
    )
    return [ScheduledTrigger.model_validate(row) for row in await cursor.fetchall()]


async def mark_synced(connection: Connection, trigger: ScheduledTrigger, following: datetime | None) -> None:
    """Remember that the schedule is like the trigger, and when it is due next."""
    await connection.execute(
        "UPDATE scheduled_triggers SET synced_at = now(), next_trigger_at = %s WHERE id = %s",
        [following, trigger.id],
    )


async def note_next(connection: Connection, trigger_id: str, following: datetime | None) -> None:
    """Remember when a trigger is due next."""
    await connection.execute(
        "UPDATE scheduled_triggers SET next_trigger_at = %s WHERE id = %s", [following, trigger_id]
    )
