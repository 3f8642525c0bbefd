"""Receipts for refusals: what a user was refused, by which rule, signed like every other outcome.

Two kinds of refusal exist. A purchase may be denied before anything is held: its intent says so, and a
sweep attests it. A settlement may be refused when it is to be recorded (the mandate expired, the policy was
edited): that is attested at once, in a transaction of its own, because the refused one was rolled back.
"""

from activities.records.database import Connection, Database
from activities.records.payment import find_intent, find_live_intent
from activities.records.receipts import append_receipt
from activities.records.refusals import has_refusal, latest_mandate, lock_intent, unattested_denials
from activities.records.runs import append_events, lock_run
from activities.signing import Signer
from models.errors import PlatformError
from models.event import EventType, NewEvent
from models.mandate import MandateExpiredError, MandateInvalidError, MandateMissingError
from models.money import exponent_of
from models.payment import PurchaseIntent
from models.policy import PurchaseRefusedError
from models.receipt import Receipt, ReceiptBody, ReceiptOutcome

REFUSALS = (PurchaseRefusedError, MandateExpiredError, MandateInvalidError, MandateMissingError)
"""Why a settlement is refused by a rule of ours; anything else is no decision about the purchase."""

ATTESTED_AT_ONCE = 200
"""Denials that one sweep attests at most; the rest waits for the next one."""


async def attest_refused_settlement(
    connection: Connection, signer: Signer, execution_id: str, error: PlatformError
) -> Receipt | None:
    """Issue the receipt of a settlement that was refused before it was recorded; once per purchase.

    Args:
        connection: A platform transaction; the refused one is over.
        signer: Signs the receipt.
        execution_id: The run that was to be paid.
        error: Why not.

    Returns:
        The receipt; None where nothing was reserved, or the refusal is attested already.
    """
    await lock_run(connection, execution_id)
    intent = await find_live_intent(connection, execution_id)
    if intent is None or await has_refusal(connection, intent.id):
        return None
    receipt = await _issue(connection, signer, intent, error.code)
    event = NewEvent(
        type=EventType.PAYMENT_RECEIPT_ISSUED,
        key="payment.refusal_receipt_issued",
        data={
            "receipt_id": receipt.id,
            "chain_index": receipt.chain_index,
            "hash": receipt.hash.hex(),
            "outcome": receipt.outcome,
        },
    )
    await append_events(connection, execution_id, [event])
    return receipt


async def attest_denials(database: Database, signer: Signer) -> int:
    """Issue the receipts of denied purchases that have none; returns how many. Safe to repeat, to overlap."""
    async with database.platform() as connection:
        waiting = await unattested_denials(connection, ATTESTED_AT_ONCE)
    attested = 0
    for intent_id in waiting:
        async with database.platform() as connection:
            await lock_intent(connection, intent_id)
            intent = await find_intent(connection, intent_id)
            if await has_refusal(connection, intent_id):
                continue
            await _issue(connection, signer, intent, intent.denial_code or "DENIED")
            attested += 1
    return attested


async def _issue(connection: Connection, signer: Signer, intent: PurchaseIntent, code: str) -> Receipt:
    mandate = await latest_mandate(connection, intent.id)
    draft = ReceiptBody(
        receipt_id="",
        tenant_id=intent.tenant_id,
        user_id=intent.user_id,
        outcome=ReceiptOutcome.REFUSED,
        intent_id=intent.id,
        mandate_id=None if mandate is None else mandate[0],
        mandate_hash=None if mandate is None else mandate[1].hex(),
        settlement_id=None,
        payment_id=None,
        execution_id=intent.execution_id,
        agent_id=intent.agent_id,
        vendor=intent.vendor,
        payee=intent.developer_id,
        amount=0,
        currency=intent.currency,
        exponent=exponent_of(intent.currency),
        rail=intent.rail,
        provider_ref=None,
        decline_code=code,
        split=[],
        issued_at=0,
    )
    return await append_receipt(connection, signer, draft)
