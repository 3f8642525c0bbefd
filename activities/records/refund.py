"""The only writer of refunds."""

from activities.records.database import Connection
from models.refund import Refund, RefundView

_INSERT = """
INSERT INTO refunds (id, tenant_id, user_id, payment_id, kind, amount, currency, reason, rail, created_by)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(payment_id)s, %(kind)s, %(amount)s, %(currency)s, %(reason)s,
        %(rail)s, %(created_by)s)
"""

_VIEWS = """
SELECT f.id AS refund_id, f.payment_id, f.kind, f.amount, f.currency, f.reason, f.created_at,
       r.id AS receipt_id
FROM refunds f LEFT JOIN receipts r ON r.refund_id = f.id
WHERE f.payment_id = %s ORDER BY f.created_at, f.id
"""


async def insert_refund(connection: Connection, refund: Refund) -> None:
    """Insert a refund; identifiers are unique."""
    await connection.execute(_INSERT, refund.model_dump())


async def refunds_of(connection: Connection, payment_id: str) -> list[RefundView]:
    """Read a payment's refunds, oldest first."""
    cursor = await connection.execute(_VIEWS, [payment_id])
    return [RefundView.model_validate(row) for row in await cursor.fetchall()]
