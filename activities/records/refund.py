"""The only writer of refunds."""

from typing import LiteralString

from activities.records.database import Connection
from models.refund import Refund, RefundNotFoundError, RefundView

_INSERT = """
INSERT INTO refunds (id, tenant_id, user_id, payment_id, kind, amount, currency, reason, rail, created_by,
        status, idempotency_key, request_body, completed_at)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(payment_id)s, %(kind)s, %(amount)s, %(currency)s, %(reason)s,
        %(rail)s, %(created_by)s, %(status)s, %(idempotency_key)s, %(request_body)s,
        CASE WHEN %(status)s = 'settled' THEN now() END)
"""

_UPDATE = """
UPDATE refunds
SET status = %(status)s, attempts = %(attempts)s, provider_ref = %(provider_ref)s,
    decline_code = %(decline_code)s, decline_message = %(decline_message)s,
    unknown_reason = %(unknown_reason)s,
    first_sent_at = coalesce(first_sent_at, CASE WHEN %(status)s = 'sent' THEN clock_timestamp() END),
    completed_at = CASE WHEN %(status)s IN ('settled', 'declined') THEN now() END
WHERE id = %(id)s
"""

_VIEWS = """
SELECT f.id AS refund_id, f.payment_id, f.kind, f.amount, f.currency, f.reason, f.rail, f.status,
       f.decline_code, f.created_at, f.completed_at, r.id AS receipt_id
FROM refunds f LEFT JOIN receipts r ON r.refund_id = f.id
WHERE f.payment_id = %s ORDER BY f.created_at, f.id
"""


async def insert_refund(connection: Connection, refund: Refund) -> None:
    """Insert a refund; identifiers are unique."""
    await connection.execute(_INSERT, refund.model_dump())


async def find_refund(connection: Connection, refund_id: str) -> Refund:
    """Read one refund without locking it.

    Raises:
        RefundNotFoundError: It does not exist where the transaction looks.
    """
    return await _one(connection, "SELECT * FROM refunds WHERE id = %s", refund_id)


async def lock_refund(connection: Connection, refund_id: str) -> Refund:
    """Read one refund and lock its row.

    Raises:
        RefundNotFoundError: It does not exist.
    """
    return await _one(connection, "SELECT * FROM refunds WHERE id = %s FOR UPDATE", refund_id)


async def _one(connection: Connection, query: LiteralString, refund_id: str) -> Refund:
    row = await (await connection.execute(query, [refund_id])).fetchone()
    if row is None:
        raise RefundNotFoundError(refund_id)
    return Refund.model_validate(row)


async def update_refund(connection: Connection, refund: Refund) -> None:
    """Write a refund's new state; the database refuses to leave a terminal one."""
    await connection.execute(_UPDATE, refund.model_dump())


async def refunds_of(connection: Connection, payment_id: str) -> list[RefundView]:
    """Read a payment's refunds, oldest first."""
    cursor = await connection.execute(_VIEWS, [payment_id])
    return [RefundView.model_validate(row) for row in await cursor.fetchall()]
