"""Consumer groups: the only writer of ``event_groups`` and ``event_dead_letters``."""

from collections.abc import Sequence
from datetime import timedelta

from activities.records.database import Connection
from models.event import RunEvent
from models.identifiers import new_identifier
from models.stream import DeadLetter, DeadLetterNotFoundError, EventGroup, GroupNotFoundError

_ENSURE = """
INSERT INTO event_groups (tenant_id, name, event_types, position, failures)
VALUES (%(tenant_id)s, %(name)s, %(event_types)s, %(position)s, 0)
ON CONFLICT (tenant_id, name) DO UPDATE SET event_types = excluded.event_types, updated_at = now()
"""

_LEASE = """
UPDATE event_groups
SET lease_owner = %(owner)s, lease_until = now() + %(lease)s, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND name = %(name)s
  AND (lease_owner IS NULL OR lease_owner = %(owner)s OR lease_until < now())
  AND (retry_at IS NULL OR retry_at <= now())
RETURNING *
"""

_ADVANCE = """
UPDATE event_groups
SET position = %(position)s, failures = 0, retry_at = NULL, last_error = NULL, updated_at = now(),
    lease_until = now() + %(lease)s
WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND lease_owner = %(owner)s AND position = %(before)s
RETURNING position
"""

_FAILED = """
UPDATE event_groups
SET failures = failures + 1, last_error = %(error)s, retry_at = now() + %(pause)s, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND name = %(name)s AND lease_owner = %(owner)s AND position = %(before)s
RETURNING failures
"""

_BURY = """
INSERT INTO event_dead_letters (id, tenant_id, group_name, position, event_id, event_type, error, failures)
VALUES (%(id)s, %(tenant_id)s, %(name)s, %(position)s, %(event_id)s, %(event_type)s, %(error)s, %(failures)s)
ON CONFLICT (tenant_id, group_name, position) DO UPDATE
SET error = excluded.error, failures = event_dead_letters.failures + excluded.failures,
    redrive_at = NULL, resolved_at = NULL
"""


async def ensure_group(
    connection: Connection, tenant_id: str, name: str, *, event_types: Sequence[str] = (), position: int = 0
) -> None:
    """Create a group that begins after ``position``; one that exists keeps its own position."""
    await connection.execute(
        _ENSURE,
        {"tenant_id": tenant_id, "name": name, "event_types": list(event_types), "position": position},
    )


async def find_group(connection: Connection, tenant_id: str, name: str) -> EventGroup:
    """Read a group.

    Raises:
        GroupNotFoundError: There is none of that name.
    """
    row = await (
        await connection.execute(
            "SELECT * FROM event_groups WHERE tenant_id = %s AND name = %s", [tenant_id, name]
        )
    ).fetchone()
    if row is None:
        raise GroupNotFoundError(name)
    return EventGroup.model_validate(row)


async def list_groups(connection: Connection) -> list[EventGroup]:
    """Read the groups of the transaction's tenant by name."""
    cursor = await connection.execute("SELECT * FROM event_groups ORDER BY name")
    return [EventGroup.model_validate(row) for row in await cursor.fetchall()]


async def delete_group(connection: Connection, tenant_id: str, name: str) -> None:
    """Forget a group with its position and its dead letters.

    Raises:
        GroupNotFoundError: There is none of that name.
    """
    cursor = await connection.execute(
        "DELETE FROM event_groups WHERE tenant_id = %s AND name = %s", [tenant_id, name]
    )
    if cursor.rowcount == 0:
        raise GroupNotFoundError(name)
    await connection.execute(
        "DELETE FROM event_dead_letters WHERE tenant_id = %s AND group_name = %s", [tenant_id, name]
    )


async def count_waiting(connection: Connection, group: EventGroup, *, upto: int) -> int:
    """Count the events that a tenant's group has still to handle, at most ``upto``."""
    cursor = await connection.execute(
        """
        SELECT count(*) AS waiting FROM (
            SELECT FROM run_events
            WHERE tenant_id = %(tenant_id)s AND position > %(after)s
              AND (%(types)s::text[] = '{}' OR type = ANY (%(types)s))
            LIMIT %(upto)s
        ) waiting
        """,
        {"tenant_id": group.tenant_id, "after": group.position, "types": group.event_types, "upto": upto},
    )
    row = await cursor.fetchone()
    assert row is not None, "an aggregate always has a row"
    return int(row["waiting"])


async def lease_group(
    connection: Connection, tenant_id: str, name: str, *, owner: str, lease: timedelta
) -> EventGroup | None:
    """Take or renew the right to work for a group; None while another has it, or it waits after a failure."""
    parameters = {"tenant_id": tenant_id, "name": name, "owner": owner, "lease": lease}
    row = await (await connection.execute(_LEASE, parameters)).fetchone()
    return None if row is None else EventGroup.model_validate(row)


async def advance_group(
    connection: Connection, group: EventGroup, *, owner: str, position: int, lease: timedelta
) -> bool:
    """Record that everything up to ``position`` is done; False where the lease or the place was lost."""
    parameters = {
        "tenant_id": group.tenant_id,
        "name": group.name,
        "owner": owner,
        "before": group.position,
        "position": position,
        "lease": lease,
    }
    return await (await connection.execute(_ADVANCE, parameters)).fetchone() is not None


async def fail_group(
    connection: Connection, group: EventGroup, *, owner: str, error: str, pause: timedelta
) -> int | None:
    """Count a failure of the group's next event and return how many there are; None: the lease was lost."""
    parameters = {
        "tenant_id": group.tenant_id,
        "name": group.name,
        "owner": owner,
        "before": group.position,
        "error": error[:2000],
        "pause": pause,
    }
    row = await (await connection.execute(_FAILED, parameters)).fetchone()
    return None if row is None else int(row["failures"])


async def bury_event(
    connection: Connection, group: EventGroup, event: RunEvent, *, error: str, failures: int
) -> None:
    """Put an event among the group's dead letters."""
    await connection.execute(
        _BURY,
        {
            "id": new_identifier("dead_letter"),
            "tenant_id": group.tenant_id,
            "name": group.name,
            "position": event.position,
            "event_id": event.id,
            "event_type": event.type,
            "error": error[:2000],
            "failures": failures,
        },
    )


async def release_group(connection: Connection, tenant_id: str, name: str, *, owner: str) -> None:
    """Give the right to work for a group back at once."""
    await connection.execute(
        "UPDATE event_groups SET lease_owner = NULL, lease_until = NULL "
        "WHERE tenant_id = %s AND name = %s AND lease_owner = %s",
        [tenant_id, name, owner],
    )


async def replay_group(connection: Connection, tenant_id: str, name: str, *, position: int) -> None:
    """Set a group back (or forward) to after ``position``; who works for it now loses its place.

    Raises:
        GroupNotFoundError: There is none of that name.
    """
    cursor = await connection.execute(
        "UPDATE event_groups SET position = %s, failures = 0, retry_at = NULL, lease_owner = NULL, "
        "updated_at = now() WHERE tenant_id = %s AND name = %s",
        [position, tenant_id, name],
    )
    if cursor.rowcount == 0:
        raise GroupNotFoundError(name)


async def list_dead_letters(
    connection: Connection, tenant_id: str, name: str, *, limit: int = 100
) -> list[DeadLetter]:
    """Read a group's open dead letters, oldest first."""
    cursor = await connection.execute(
        "SELECT * FROM event_dead_letters WHERE tenant_id = %s AND group_name = %s AND resolved_at IS NULL "
        "ORDER BY position LIMIT %s",
        [tenant_id, name, limit],
    )
    return [DeadLetter.model_validate(row) for row in await cursor.fetchall()]


async def ask_redrive(connection: Connection, tenant_id: str, letter_id: str) -> None:
    """Ask that a dead letter is tried again.

    Raises:
        DeadLetterNotFoundError: There is no open one of that id.
    """
    cursor = await connection.execute(
        "UPDATE event_dead_letters SET redrive_at = now() "
        "WHERE tenant_id = %s AND id = %s AND resolved_at IS NULL",
        [tenant_id, letter_id],
    )
    if cursor.rowcount == 0:
        raise DeadLetterNotFoundError(letter_id)


async def find_letter(connection: Connection, tenant_id: str, name: str, letter_id: str) -> DeadLetter:
    """Read an open dead letter of a group.

    Raises:
        DeadLetterNotFoundError: The group has no open one of that id.
    """
    cursor = await connection.execute(
        "SELECT * FROM event_dead_letters "
        "WHERE tenant_id = %s AND group_name = %s AND id = %s AND resolved_at IS NULL",
        [tenant_id, name, letter_id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise DeadLetterNotFoundError(letter_id)
    return DeadLetter.model_validate(row)


async def read_redriven(
    connection: Connection, group: EventGroup, *, limit: int
) -> list[tuple[DeadLetter, RunEvent]]:
    """Read the dead letters that are to be tried again, with their events, oldest first."""
    cursor = await connection.execute(
        "SELECT * FROM event_dead_letters WHERE tenant_id = %s AND group_name = %s "
        "AND redrive_at IS NOT NULL AND resolved_at IS NULL ORDER BY position LIMIT %s",
        [group.tenant_id, group.name, limit],
    )
    letters = [DeadLetter.model_validate(row) for row in await cursor.fetchall()]
    if not letters:
        return []
    cursor = await connection.execute(
        "SELECT * FROM run_events WHERE position = ANY (%s)", [[letter.position for letter in letters]]
    )
    events = {row["position"]: RunEvent.model_validate(row) for row in await cursor.fetchall()}
    return [(letter, events[letter.position]) for letter in letters if letter.position in events]


async def resolve_letter(connection: Connection, letter: DeadLetter, *, error: str | None) -> None:
    """Record how a redriven letter went: done, or dead again with the new error."""
    await connection.execute(
        "UPDATE event_dead_letters SET redrive_at = NULL, "
        "resolved_at = CASE WHEN %(error)s::text IS NULL THEN now() END, "
        "failures = failures + CASE WHEN %(error)s::text IS NULL THEN 0 ELSE 1 END, "
        "error = coalesce(%(error)s, error) WHERE id = %(id)s",
        {"id": letter.id, "error": error and error[:2000]},
    )
