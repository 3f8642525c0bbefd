"""Payments enclosed with requests: the only writer of ``x402_payments``, all on platform transactions."""

from activities.records.database import Connection
from models.x402 import X402Payment, X402Status

_KEEP = """
INSERT INTO x402_payments (reference, tenant_id, user_id, digest, body, amount, currency, status, attempts)
VALUES (%(reference)s, %(tenant_id)s, %(user_id)s, %(digest)s, %(body)s, %(amount)s, %(currency)s, %(status)s,
        0)
ON CONFLICT DO NOTHING
"""

_BEGIN = """
UPDATE x402_payments SET status = 'settling', attempts = attempts + 1
WHERE reference = %s AND amount = %s AND currency = %s AND status IN ('verified', 'settling')
RETURNING *
"""


async def keep_payment(connection: Connection, payment: X402Payment) -> X402Payment | None:
    """Keep a payment under its reference, or return the one there is; None where it pays for another one."""
    await connection.execute(_KEEP, payment.model_dump())
    found = await find_payment(connection, payment.reference)
    return found if found is not None and found.digest == payment.digest else None


async def find_payment(connection: Connection, reference: str) -> X402Payment | None:
    """Read a payment by our reference."""
    cursor = await connection.execute("SELECT * FROM x402_payments WHERE reference = %s", [reference])
    row = await cursor.fetchone()
    return None if row is None else X402Payment.model_validate(row)


async def begin_settling(
    connection: Connection, reference: str, amount: int, currency: str
) -> X402Payment | None:
    """Note, before the facilitator is asked, that it is; return the payment as it stands then.

    Returns:
        None where no verified payment of this amount is there.
    """
    row = await (await connection.execute(_BEGIN, [reference, amount, currency])).fetchone()
    if row is not None:
        return X402Payment.model_validate(row)
    found = await find_payment(connection, reference)
    if found is None or (found.amount, found.currency) != (amount, currency):
        return None
    return None if found.status is X402Status.RECEIVED else found


async def move_payment(
    connection: Connection, reference: str, status: X402Status, wanted: X402Status
) -> None:
    """Change a payment's status from ``status``; one that stands elsewhere is left there."""
    await connection.execute(
        "UPDATE x402_payments SET status = %s WHERE reference = %s AND status = %s",
        [wanted, reference, status],
    )


async def note_transaction(
    connection: Connection, reference: str, transaction: str, *, settled: bool
) -> None:
    """Keep the transaction that carries a payment: confirmed (then it is settled), or broadcast so far."""
    await connection.execute(
        "UPDATE x402_payments SET transaction = %s, "
        "status = CASE WHEN %s THEN 'settled' ELSE status END, "
        "settled_at = CASE WHEN %s THEN now() END WHERE reference = %s AND status = 'settling'",
        [transaction, settled, settled, reference],
    )
