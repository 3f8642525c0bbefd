"""Payers' registered payment methods: the only writer of ``payment_methods``."""

from datetime import datetime

from activities.records.database import Connection
from models.payment_method import (
    PaymentMethod,
    PaymentMethodNotFoundError,
    PaymentMethodStatus,
    PaymentMethodTakenError,
)
from models.rail import RailName

_INSERT = """
INSERT INTO payment_methods (id, tenant_id, user_id, rail, customer, method, phone, label, status,
        verified_at)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(rail)s, %(customer)s, %(method)s, %(phone)s, %(label)s,
        %(status)s, clock_timestamp())
ON CONFLICT DO NOTHING
RETURNING *
"""

_ACTIVE = """
SELECT * FROM payment_methods
WHERE tenant_id = %s AND user_id = %s AND status = 'active'
ORDER BY created_at DESC, id DESC
"""

_LIST = """
SELECT * FROM payment_methods
WHERE (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
  AND (%(created_at)s::timestamptz IS NULL OR (created_at, id) < (%(created_at)s, %(id)s))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""


async def insert_payment_method(connection: Connection, method: PaymentMethod) -> PaymentMethod:
    """Register a method that the rail confirmed; its owner registering it again gets the one there is.

    Raises:
        PaymentMethodTakenError: Somebody else registered it.
    """
    row = await (await connection.execute(_INSERT, method.model_dump())).fetchone()
    if row is None:
        cursor = await connection.execute(
            "SELECT * FROM payment_methods WHERE rail = %s AND customer = %s AND method = %s "
            "AND status = 'active'",
            [method.rail, method.customer, method.method],
        )
        row = await cursor.fetchone()
        if row is None or (row["tenant_id"], row["user_id"]) != (method.tenant_id, method.user_id):
            raise PaymentMethodTakenError
    return PaymentMethod.model_validate(row)


async def active_methods(
    connection: Connection, tenant_id: str, user_id: str
) -> dict[RailName, PaymentMethod]:
    """Read the newest active method of a payer at each rail."""
    cursor = await connection.execute(_ACTIVE, [tenant_id, user_id])
    found: dict[RailName, PaymentMethod] = {}
    for row in await cursor.fetchall():
        method = PaymentMethod.model_validate(row)
        found.setdefault(RailName(method.rail), method)
    return found


async def list_payment_methods(
    connection: Connection, *, user_id: str | None, before: tuple[datetime, str] | None, limit: int
) -> list[PaymentMethod]:
    """Read methods, newest first, removed ones included; ``user_id`` limits them to one user's."""
    created_at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        _LIST, {"user_id": user_id, "created_at": created_at, "id": identifier, "limit": limit}
    )
    return [PaymentMethod.model_validate(row) for row in await cursor.fetchall()]


async def remove_payment_method(connection: Connection, method_id: str, user_id: str) -> PaymentMethod:
    """Remove one of the user's methods: no purchase takes it from now on. Safe to repeat.

    Raises:
        PaymentMethodNotFoundError: It is not the user's.
    """
    cursor = await connection.execute(
        "UPDATE payment_methods SET status = %s, removed_at = coalesce(removed_at, now()) "
        "WHERE id = %s AND user_id = %s RETURNING *",
        [PaymentMethodStatus.REMOVED, method_id, user_id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise PaymentMethodNotFoundError(method_id)
    return PaymentMethod.model_validate(row)
