"""What workflows really emit is what `models/event_data.py` says."""

from activities.records.database import Database
from models.event import EventType
from models.event_data import described


async def check_event_data(store: Database, *tenants: str) -> set[EventType]:
    """Check the data of all events of some tenants and return which types there were.

    A field that is missing, of another kind, or not described fails.
    """
    async with store.platform() as connection:
        cursor = await connection.execute(
            "SELECT type, data FROM run_events WHERE tenant_id = ANY (%s)", [list(tenants)]
        )
        rows = await cursor.fetchall()
    found: set[EventType] = set()
    unknown: set[tuple[str, str]] = set()
    for row in rows:
        event_type = EventType(row["type"])
        found.add(event_type)
        unknown.update((event_type.value, name) for name in described(event_type, row["data"]))
    assert not unknown, f"not in models/event_data.py: {sorted(unknown)}"
    return found
