"""Intents, mandates, holds, settlements, payments and the outbox: their SQL.

Lock order (DESIGN §6): run, execution, then mandate, settlement, hold, spending counter, wallet hold,
ledger accounts by identifier, receipt chain. Everything here runs in the caller's transaction.
"""

from datetime import datetime

from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.event import EventType
from models.mandate import Mandate, MandateStatus
from models.payment import (
    HoldStatus,
    IntentStatus,
    Payment,
    PaymentHold,
    PaymentRecordNotFoundError,
    PurchaseIntent,
    Settlement,
)

SEND_SETTLEMENT = "settlement.send"
"""Outbox topic: a capture is owed to a rail."""

_INSERT_INTENT = """
INSERT INTO purchase_intents (id, tenant_id, user_id, execution_id, agent_id, developer_id,
    developer_tenant_id, orchestrator_id, orchestrator_tenant_id, vendor, amount, currency, cost_cap,
    description, meta, rail, status, policy_id, policy_hash, spent_on, denial_code, denial_message)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(execution_id)s, %(agent_id)s, %(developer_id)s,
    %(developer_tenant_id)s, %(orchestrator_id)s, %(orchestrator_tenant_id)s, %(vendor)s, %(amount)s,
    %(currency)s, %(cost_cap)s, %(description)s, %(meta)s, %(rail)s, %(status)s, %(policy_id)s,
    %(policy_hash)s, %(spent_on)s, %(denial_code)s, %(denial_message)s)
ON CONFLICT DO NOTHING
"""

_INSERT_HOLD = """
INSERT INTO payment_holds (id, tenant_id, user_id, intent_id, execution_id, rail, amount, currency, status,
    payment_method_id, authorise_key, authorise_body, attempts)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(intent_id)s, %(execution_id)s, %(rail)s, %(amount)s,
    %(currency)s, %(status)s, %(payment_method_id)s, %(authorise_key)s, %(authorise_body)s, 0)
"""

_UPDATE_AUTHORISATION = """
UPDATE payment_holds
SET status = %(status)s, provider_ref = %(provider_ref)s, decline_code = %(decline_code)s,
    decline_message = %(decline_message)s, unknown_reason = %(unknown_reason)s,
    ended_at = CASE WHEN %(status)s = 'declined' THEN now() END
WHERE id = %(id)s
"""

_INSERT_MANDATE = """
INSERT INTO mandates (id, tenant_id, intent_id, execution_id, status, body, hash, signature, kid, nonce,
    issued_at, expires_at, created_at)
VALUES (%(id)s, %(tenant_id)s, %(intent_id)s, %(execution_id)s, %(status)s, %(body)s, %(hash)s,
    %(signature)s, %(kid)s, %(nonce)s, %(issued_at)s, %(expires_at)s, now())
"""

_INSERT_SETTLEMENT = """
WITH owed AS (
    INSERT INTO payment_outbox (topic, subject_id, tenant_id, created_at)
    VALUES (%(topic)s, %(id)s, %(tenant_id)s, now())
)
INSERT INTO settlements (id, tenant_id, user_id, intent_id, mandate_id, execution_id, rail,
    idempotency_key, request_body, amount, currency, status, attempts, requested_at)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(intent_id)s, %(mandate_id)s, %(execution_id)s, %(rail)s,
    %(idempotency_key)s, %(request_body)s, %(amount)s, %(currency)s, %(status)s, 0, now())
RETURNING *
"""

_UPDATE_SETTLEMENT = """
WITH paid_off AS (
    UPDATE payment_outbox SET done_at = now()
    WHERE topic = %(topic)s AND subject_id = %(id)s AND %(status)s IN ('settled', 'declined')
)
UPDATE settlements
SET status = %(status)s, attempts = %(attempts)s, provider_ref = %(provider_ref)s,
    decline_code = %(decline_code)s, decline_message = %(decline_message)s,
    unknown_reason = %(unknown_reason)s,
    first_sent_at = coalesce(first_sent_at, CASE WHEN %(status)s = 'sent' THEN now() END),
    completed_at = CASE WHEN %(status)s IN ('settled', 'declined') THEN now() END
WHERE id = %(id)s
"""

_INSERT_PAYMENT = """
INSERT INTO payments (id, tenant_id, user_id, intent_id, mandate_id, settlement_id, execution_id, agent_id,
    amount, currency, status, provider, provider_ref, transaction_id)
VALUES (%(id)s, %(tenant_id)s, %(user_id)s, %(intent_id)s, %(mandate_id)s, %(settlement_id)s,
    %(execution_id)s, %(agent_id)s, %(amount)s, %(currency)s, %(status)s, %(provider)s, %(provider_ref)s,
    %(transaction_id)s)
"""


async def database_now(connection: Connection) -> datetime:
    """Return the database's clock, the only one that judges mandates."""
    row = await (await connection.execute("SELECT clock_timestamp() AS now")).fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now


async def insert_intent(connection: Connection, intent: PurchaseIntent) -> bool:
    """Insert an intent; false where the execution has one, or this denial was recorded already."""
    values = intent.model_dump() | {"meta": Jsonb(intent.meta)}
    return bool((await connection.execute(_INSERT_INTENT, values)).rowcount)


async def find_live_intent(connection: Connection, execution_id: str) -> PurchaseIntent | None:
    """Read the execution's intent that was not denied."""
    cursor = await connection.execute(
        "SELECT * FROM purchase_intents WHERE execution_id = %s AND status <> %s",
        [execution_id, IntentStatus.DENIED],
    )
    row = await cursor.fetchone()
    return None if row is None else PurchaseIntent.model_validate(row)


async def find_intent(connection: Connection, intent_id: str) -> PurchaseIntent:
    """Read one intent.

    Raises:
        PaymentRecordNotFoundError: It does not exist where the transaction looks.
    """
    cursor = await connection.execute("SELECT * FROM purchase_intents WHERE id = %s", [intent_id])
    row = await cursor.fetchone()
    if row is None:
        raise PaymentRecordNotFoundError(f"purchase intent {intent_id}")
    return PurchaseIntent.model_validate(row)


async def close_intent(connection: Connection, intent_id: str) -> None:
    """Mark an approved intent as paid or released."""
    await connection.execute(
        "UPDATE purchase_intents SET status = %s, closed_at = now() WHERE id = %s AND status = %s",
        [IntentStatus.CLOSED, intent_id, IntentStatus.APPROVED],
    )


async def insert_hold(connection: Connection, hold: PaymentHold) -> None:
    """Insert our record of money held at a rail."""
    await connection.execute(_INSERT_HOLD, hold.model_dump())


async def lock_hold(connection: Connection, intent_id: str) -> PaymentHold | None:
    """Read the intent's hold and lock its row."""
    cursor = await connection.execute(
        "SELECT * FROM payment_holds WHERE intent_id = %s FOR UPDATE", [intent_id]
    )
    row = await cursor.fetchone()
    return None if row is None else PaymentHold.model_validate(row)


async def move_hold(
    connection: Connection, hold_id: str, status: HoldStatus, *, reason: str | None = None
) -> None:
    """Change a hold's status; the database refuses to leave a terminal one."""
    await connection.execute(
        "UPDATE payment_holds SET status = %(status)s, reason = coalesce(%(reason)s, reason), "
        "ended_at = CASE WHEN %(status)s IN ('captured', 'released') THEN now() END WHERE id = %(id)s",
        {"status": status, "reason": reason, "id": hold_id},
    )


async def mark_authorisation_sent(connection: Connection, hold_id: str) -> None:
    """Note, before the rail is called, that it is."""
    await connection.execute(
        "UPDATE payment_holds SET attempts = attempts + 1, "
        "first_sent_at = coalesce(first_sent_at, clock_timestamp()) WHERE id = %s",
        [hold_id],
    )


async def update_authorisation(connection: Connection, hold: PaymentHold) -> None:
    """Write what the rail answered to the request to hold."""
    await connection.execute(_UPDATE_AUTHORISATION, hold.model_dump())


async def deny_intent(connection: Connection, intent_id: str, code: str, message: str) -> None:
    """Mark an approved intent as denied after all: the rail refused to hold its price."""
    await connection.execute(
        "UPDATE purchase_intents SET status = %s, denial_code = %s, denial_message = %s, closed_at = now() "
        "WHERE id = %s AND status = %s",
        [IntentStatus.DENIED, code, message, intent_id, IntentStatus.APPROVED],
    )


async def insert_mandate(connection: Connection, mandate: Mandate) -> None:
    """Insert a minted mandate; the database allows one active and one consumed per intent."""
    await connection.execute(_INSERT_MANDATE, mandate.model_dump())


async def lock_mandates(connection: Connection, intent_id: str) -> list[Mandate]:
    """Read the intent's mandates, oldest first, and lock their rows."""
    cursor = await connection.execute(
        "SELECT * FROM mandates WHERE intent_id = %s ORDER BY id FOR UPDATE", [intent_id]
    )
    return [Mandate.model_validate(row) for row in await cursor.fetchall()]


async def end_mandate(connection: Connection, mandate_id: str, status: MandateStatus) -> None:
    """Consume, revoke or expire an active mandate."""
    await connection.execute(
        "UPDATE mandates SET status = %s, ended_at = now() WHERE id = %s", [status, mandate_id]
    )


async def has_executed(connection: Connection, run_id: str) -> tuple[bool, datetime]:
    """Tell whether the run's log holds the fact that it executed, and what time it is in the database."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM run_events WHERE run_id = %s AND type = %s) AS executed, "
        "clock_timestamp() AS now",
        [run_id, EventType.RUN_EXECUTED],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["executed"], row["now"]


async def insert_settlement(connection: Connection, settlement: Settlement) -> Settlement:
    """Insert a settlement request and, with it, the call that is owed to the rail."""
    values = settlement.model_dump() | {"topic": SEND_SETTLEMENT}
    row = await (await connection.execute(_INSERT_SETTLEMENT, values)).fetchone()
    assert row is not None
    return Settlement.model_validate(row)


async def find_settlement(connection: Connection, settlement_id: str) -> Settlement:
    """Read one settlement without locking it.

    Raises:
        PaymentRecordNotFoundError: It does not exist.
    """
    cursor = await connection.execute("SELECT * FROM settlements WHERE id = %s", [settlement_id])
    row = await cursor.fetchone()
    if row is None:
        raise PaymentRecordNotFoundError(f"settlement {settlement_id}")
    return Settlement.model_validate(row)


async def settlement_of_intent(connection: Connection, intent_id: str) -> Settlement | None:
    """Read the intent's settlement, if one was requested, and lock its row."""
    cursor = await connection.execute(
        "SELECT * FROM settlements WHERE intent_id = %s FOR UPDATE", [intent_id]
    )
    row = await cursor.fetchone()
    return None if row is None else Settlement.model_validate(row)


async def lock_settlement(connection: Connection, settlement_id: str) -> Settlement:
    """Read one settlement and lock its row.

    Raises:
        PaymentRecordNotFoundError: It does not exist.
    """
    cursor = await connection.execute("SELECT * FROM settlements WHERE id = %s FOR UPDATE", [settlement_id])
    row = await cursor.fetchone()
    if row is None:
        raise PaymentRecordNotFoundError(f"settlement {settlement_id}")
    return Settlement.model_validate(row)


async def update_settlement(connection: Connection, settlement: Settlement) -> None:
    """Write a settlement's new state; a terminal one also pays off the outbox."""
    await connection.execute(_UPDATE_SETTLEMENT, settlement.model_dump() | {"topic": SEND_SETTLEMENT})


async def owed_settlements(connection: Connection, *, older_than_seconds: int, limit: int = 100) -> list[str]:
    """Return settlements whose answer is still owed, oldest first: work for a reconciler."""
    cursor = await connection.execute(
        "SELECT subject_id FROM payment_outbox WHERE topic = %s AND done_at IS NULL "
        "AND created_at < now() - make_interval(secs => %s) ORDER BY created_at LIMIT %s",
        [SEND_SETTLEMENT, older_than_seconds, limit],
    )
    return [row["subject_id"] for row in await cursor.fetchall()]


async def insert_payment(connection: Connection, payment: Payment) -> None:
    """Insert a payment; unique per mandate, settlement, execution and rail reference."""
    await connection.execute(_INSERT_PAYMENT, payment.model_dump())


async def payment_of_settlement(connection: Connection, settlement_id: str) -> tuple[str | None, str | None]:
    """Return the identifiers of a settlement's payment and receipt, as far as they exist."""
    cursor = await connection.execute(
        "SELECT (SELECT id FROM payments WHERE settlement_id = %(id)s) AS payment_id, "
        "(SELECT id FROM receipts WHERE settlement_id = %(id)s) AS receipt_id",
        {"id": settlement_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["payment_id"], row["receipt_id"]
