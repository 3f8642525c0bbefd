"""What refusals have a receipt, and which mandate they refer to."""

from activities.records.database import Connection
from models.payment import IntentStatus


async def has_refusal(connection: Connection, intent_id: str) -> bool:
    """Tell whether the refusal of this purchase is attested."""
    cursor = await connection.execute("SELECT FROM receipts WHERE refused_intent_id = %s", [intent_id])
    return await cursor.fetchone() is not None


async def lock_intent(connection: Connection, intent_id: str) -> None:
    """Hold the row lock of a purchase, so that its refusal is attested by one process at a time."""
    await connection.execute("SELECT FROM purchase_intents WHERE id = %s FOR UPDATE", [intent_id])


async def latest_mandate(connection: Connection, intent_id: str) -> tuple[str, bytes] | None:
    """Return identifier and hash of the purchase's last mandate, if one was minted."""
    cursor = await connection.execute(
        "SELECT id, hash FROM mandates WHERE intent_id = %s ORDER BY id DESC LIMIT 1", [intent_id]
    )
    row = await cursor.fetchone()
    return None if row is None else (str(row["id"]), bytes(row["hash"]))


async def unattested_denials(connection: Connection, limit: int) -> list[str]:
    """Return denied purchases without a receipt, oldest first."""
    cursor = await connection.execute(
        "SELECT i.id FROM purchase_intents i LEFT JOIN receipts r ON r.refused_intent_id = i.id "
        "WHERE i.status = %s AND r.id IS NULL ORDER BY i.created_at, i.id LIMIT %s",
        [IntentStatus.DENIED, limit],
    )
    return [row["id"] for row in await cursor.fetchall()]
