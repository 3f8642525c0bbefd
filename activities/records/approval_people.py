"""Groups, absences and calendars: who may be asked, who stands in, when people work."""

from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.approval_records import AbsenceRow, ApprovalGroupRow
from models.calendar import CalendarDefinition, CalendarNotFoundError, CalendarRow
from models.errors import NotFoundError


class ApprovalGroupNotFoundError(NotFoundError):
    """The tenant has no group of this name."""

    code = "APPROVAL_GROUP_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no approval group {name}.", details={"group": name})


class AbsenceNotFoundError(NotFoundError):
    """There is no such absence."""

    code = "ABSENCE_NOT_FOUND"

    def __init__(self, absence_id: str) -> None:
        super().__init__(f"There is no absence {absence_id}.", details={"absence_id": absence_id})


async def put_group(
    connection: Connection, *, tenant_id: str, name: str, members: list[str], by: str
) -> ApprovalGroupRow:
    """Set who belongs to a group."""
    row = await (
        await connection.execute(
            """
            INSERT INTO approval_groups (tenant_id, name, members, turn, updated_by)
            VALUES (%(tenant_id)s, %(name)s, %(members)s, 0, %(by)s)
            ON CONFLICT (tenant_id, name) DO UPDATE
            SET members = excluded.members, updated_by = excluded.updated_by, updated_at = now()
            RETURNING *
            """,
            {"tenant_id": tenant_id, "name": name, "members": members, "by": by},
        )
    ).fetchone()
    return ApprovalGroupRow.model_validate(row)


async def find_group(connection: Connection, name: str) -> ApprovalGroupRow | None:
    """Read a group by its name."""
    cursor = await connection.execute("SELECT * FROM approval_groups WHERE name = %s", [name])
    row = await cursor.fetchone()
    return None if row is None else ApprovalGroupRow.model_validate(row)


async def list_groups(connection: Connection) -> list[ApprovalGroupRow]:
    """Read the tenant's groups by name, at most a thousand."""
    cursor = await connection.execute("SELECT * FROM approval_groups ORDER BY name LIMIT 1000")
    return [ApprovalGroupRow.model_validate(row) for row in await cursor.fetchall()]


async def delete_group(connection: Connection, name: str) -> None:
    """Remove a group; requests that are open keep the people they asked.

    Raises:
        ApprovalGroupNotFoundError: There is none.
    """
    cursor = await connection.execute("DELETE FROM approval_groups WHERE name = %s", [name])
    if not cursor.rowcount:
        raise ApprovalGroupNotFoundError(name)


async def next_turn(connection: Connection, name: str) -> int:
    """Count round robin on and return the former count."""
    cursor = await connection.execute(
        "UPDATE approval_groups SET turn = turn + 1 WHERE name = %s RETURNING turn - 1 AS turn", [name]
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["turn"])


async def open_requests_of(connection: Connection, people: list[str]) -> dict[str, int]:
    """Count the open requests that ask each of ``people``."""
    cursor = await connection.execute(
        """
        SELECT p.name, count(a.id) AS open
        FROM unnest(%s::text[]) AS p (name)
        LEFT JOIN approval_requests a ON a.state = 'open' AND a.assignees @> ARRAY[p.name]
        GROUP BY p.name
        """,
        [people],
    )
    return {row["name"]: int(row["open"]) for row in await cursor.fetchall()}


async def add_absence(connection: Connection, absence: AbsenceRow) -> None:
    """Record that somebody is away; the same identifier again changes nothing."""
    await connection.execute(
        """
        INSERT INTO approval_absences (id, tenant_id, user_id, substitute, starts_at, ends_at, created_by)
        VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(substitute)s, %(starts_at)s, %(ends_at)s,
                %(created_by)s)
        ON CONFLICT (id) DO NOTHING
        """,
        absence.model_dump(exclude={"created_at"}),
    )


async def list_absences(connection: Connection, *, user_id: str | None) -> list[AbsenceRow]:
    """Read absences that are not over, of one person or of everybody."""
    cursor = await connection.execute(
        """
        SELECT * FROM approval_absences
        WHERE ends_at > now()
          AND (%(user)s::text IS NULL OR user_id = %(user)s OR substitute = %(user)s)
        ORDER BY starts_at, id LIMIT 1000
        """,
        {"user": user_id},
    )
    return [AbsenceRow.model_validate(row) for row in await cursor.fetchall()]


async def delete_absence(connection: Connection, absence_id: str, *, user_id: str | None) -> None:
    """Remove an absence, of ``user_id`` or of anybody (None).

    Raises:
        AbsenceNotFoundError: There is none.
    """
    cursor = await connection.execute(
        "DELETE FROM approval_absences WHERE id = %(id)s AND (%(user)s::text IS NULL OR user_id = %(user)s)",
        {"id": absence_id, "user": user_id},
    )
    if not cursor.rowcount:
        raise AbsenceNotFoundError(absence_id)


async def stands_in_for(connection: Connection, user_id: str, now: datetime) -> list[str]:
    """List for whom a person stands in now; a substitute's own substitute does not (no cascade)."""
    cursor = await connection.execute(
        """
        SELECT DISTINCT user_id FROM approval_absences
        WHERE substitute = %s AND starts_at <= %s AND ends_at > %s ORDER BY user_id
        """,
        [user_id, now, now],
    )
    return [str(row["user_id"]) for row in await cursor.fetchall()]


async def substitutes_of(connection: Connection, people: list[str], now: datetime) -> dict[str, list[str]]:
    """Return who stands in now for each of ``people`` who is away."""
    cursor = await connection.execute(
        """
        SELECT user_id, substitute FROM approval_absences
        WHERE user_id = ANY (%s) AND starts_at <= %s AND ends_at > %s ORDER BY user_id, substitute
        """,
        [people, now, now],
    )
    found: dict[str, list[str]] = {}
    for row in await cursor.fetchall():
        found.setdefault(row["user_id"], []).append(row["substitute"])
    return found


async def put_calendar(
    connection: Connection, *, tenant_id: str, name: str, definition: CalendarDefinition, by: str
) -> CalendarRow:
    """Set a calendar."""
    row = await (
        await connection.execute(
            """
            INSERT INTO calendars (tenant_id, name, definition, updated_by)
            VALUES (%(tenant_id)s, %(name)s, %(definition)s, %(by)s)
            ON CONFLICT (tenant_id, name) DO UPDATE
            SET definition = excluded.definition, updated_by = excluded.updated_by, updated_at = now()
            RETURNING *
            """,
            {
                "tenant_id": tenant_id,
                "name": name,
                "definition": Jsonb(definition.model_dump(mode="json", by_alias=True)),
                "by": by,
            },
        )
    ).fetchone()
    return CalendarRow.model_validate(row)


async def find_calendar(connection: Connection, name: str) -> CalendarRow:
    """Read a calendar.

    Raises:
        CalendarNotFoundError: There is none of this name.
    """
    cursor = await connection.execute("SELECT * FROM calendars WHERE name = %s", [name])
    row: Any = await cursor.fetchone()
    if row is None:
        raise CalendarNotFoundError(name)
    return CalendarRow.model_validate(row)


async def list_calendars(connection: Connection) -> list[CalendarRow]:
    """Read the tenant's calendars by name, at most a thousand."""
    cursor = await connection.execute("SELECT * FROM calendars ORDER BY name LIMIT 1000")
    return [CalendarRow.model_validate(row) for row in await cursor.fetchall()]


async def delete_calendar(connection: Connection, name: str) -> None:
    """Remove a calendar; clocks that run by it keep what was pinned.

    Raises:
        CalendarNotFoundError: There is none of this name.
    """
    cursor = await connection.execute("DELETE FROM calendars WHERE name = %s", [name])
    if not cursor.rowcount:
        raise CalendarNotFoundError(name)
