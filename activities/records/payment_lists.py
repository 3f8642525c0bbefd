"""Payments, intents and mandates as their owners read them."""

from datetime import datetime

from activities.records.database import Connection
from models.mandate import Mandate
from models.payment import Payment, PaymentRecordNotFoundError, PurchaseIntent

_PAGE = (
    "WHERE (%(user)s::text IS NULL OR user_id = %(user)s) "
    "AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(before)s)) "
    "ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
)


def _parameters(user_id: str | None, before: tuple[datetime, str] | None, limit: int) -> dict[str, object]:
    created_at, identifier = before if before is not None else (None, None)
    return {"user": user_id, "at": created_at, "before": identifier, "limit": limit}


async def list_payments(
    connection: Connection, *, user_id: str | None, before: tuple[datetime, str] | None, limit: int
) -> list[Payment]:
    """Read payments, newest first; ``user_id`` limits them to one payer's."""
    cursor = await connection.execute("SELECT * FROM payments " + _PAGE, _parameters(user_id, before, limit))
    return [Payment.model_validate(row) for row in await cursor.fetchall()]


async def find_payment(connection: Connection, payment_id: str) -> Payment:
    """Read one payment.

    Raises:
        PaymentRecordNotFoundError: It does not exist where the transaction looks.
    """
    cursor = await connection.execute("SELECT * FROM payments WHERE id = %s", [payment_id])
    row = await cursor.fetchone()
    if row is None:
        raise PaymentRecordNotFoundError(f"payment {payment_id}")
    return Payment.model_validate(row)


async def receipts_of_payments(connection: Connection, payment_ids: list[str]) -> dict[str, str]:
    """Return payment → receipt identifiers."""
    cursor = await connection.execute(
        "SELECT payment_id, id FROM receipts WHERE payment_id = ANY (%s)", [payment_ids]
    )
    return {row["payment_id"]: row["id"] for row in await cursor.fetchall()}


async def list_intents(
    connection: Connection, *, user_id: str | None, before: tuple[datetime, str] | None, limit: int
) -> list[PurchaseIntent]:
    """Read purchase intents, denied ones included, newest first."""
    cursor = await connection.execute(
        "SELECT * FROM purchase_intents " + _PAGE, _parameters(user_id, before, limit)
    )
    return [PurchaseIntent.model_validate(row) for row in await cursor.fetchall()]


async def find_mandate(connection: Connection, mandate_id: str) -> Mandate:
    """Read one mandate.

    Raises:
        PaymentRecordNotFoundError: It does not exist where the transaction looks.
    """
    cursor = await connection.execute("SELECT * FROM mandates WHERE id = %s", [mandate_id])
    row = await cursor.fetchone()
    if row is None:
        raise PaymentRecordNotFoundError(f"mandate {mandate_id}")
    return Mandate.model_validate(row)
