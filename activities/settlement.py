"""The settle protocol: record, send, record the outcome (research 2.2).

1. ``record_settlement``: one transaction locks and checks the mandate, consumes it, and stores the request
   with its idempotency key, its exact bytes and the outbox row.
2. ``send_settlement``: the rail is called with the stored key and bytes, never with rebuilt ones.
3. ``record_outcome``: one transaction writes the answer, the postings, the payment and the receipt.

A crash between any two is repaired by doing it all again: each finds what it did. The mandate's expiry
gates the first step only; a request that was sent is reconciled whatever the time.
"""

import hashlib

import structlog

from activities.distribution import distribute
from activities.mandate import require_hold, verify_mandate
from activities.purchase import spending_of, uncount
from activities.rails.protocol import Rail
from activities.rails.registry import Rails
from activities.records.database import Connection, Database
from activities.records.ledger import post
from activities.records.payment import (
    close_intent,
    database_now,
    end_mandate,
    find_intent,
    find_live_intent,
    find_settlement,
    has_executed,
    insert_payment,
    insert_settlement,
    lock_hold,
    lock_mandates,
    lock_settlement,
    move_hold,
    payment_of_settlement,
    settlement_of_intent,
    update_settlement,
)
from activities.records.policies import check_spending, current_policy
from activities.records.receipts import append_receipt
from activities.records.runs import append_events, lock_run
from activities.refusal import REFUSALS, attest_refused_settlement
from activities.signing import Signer, Verifier
from models.canonical import canonical_json
from models.event import EventType, NewEvent
from models.identifiers import new_identifier
from models.ledger import NewTransaction, TransactionKind
from models.mandate import (
    Mandate,
    MandateBody,
    MandateConsumedError,
    MandateInvalidError,
    MandateMissingError,
    MandateStatus,
)
from models.money import exponent_of
from models.payment import (
    TERMINAL_SETTLEMENTS,
    HoldStatus,
    IntentNotFoundError,
    NotExecutedError,
    Payment,
    PaymentHold,
    PurchaseIntent,
    Settlement,
    SettlementOutcome,
    SettlementStatus,
    SettlementUnknownError,
    SettleRequest,
)
from models.policy import PolicyRules
from models.rail import Declined, RailAnswer, RailRequest, Settled, Unknown
from models.receipt import Receipt, ReceiptBody, ReceiptOutcome, ReceiptShare
from models.run import TERMINAL_STATUSES

logger = structlog.get_logger(__name__)


async def settle(
    database: Database, rails: Rails, signer: Signer, request: SettleRequest
) -> SettlementOutcome:
    """Collect for an executed run: record, send, record the outcome. Repeat it until it answers.

    Returns:
        The outcome, settled or declined, the same one however often it is asked for.

    Raises:
        SettlementUnknownError: The rail has not said yet; retryable.
        PlatformError: As ``record_settlement``; nothing was sent and nothing is charged.
    """
    try:
        async with database.platform() as connection:
            settlement = await record_settlement(connection, signer, request)
    except REFUSALS as error:
        async with database.platform() as connection:
            await attest_refused_settlement(connection, signer, request.execution_id, error)
        raise
    answer = await send_settlement(database, rails, settlement.id)
    async with database.platform() as connection:
        outcome = await record_outcome(connection, signer, settlement.id, answer)
    return _require_known(outcome, answer)


async def reconcile_settlement(
    database: Database, rails: Rails, signer: Signer, settlement_id: str
) -> SettlementOutcome:
    """Finish a settlement that was recorded, as ``settle`` would, from its identifier.

    Raises:
        SettlementUnknownError: The rail has not said yet; retryable.
        PaymentRecordNotFoundError: There is no such settlement.
    """
    answer = await send_settlement(database, rails, settlement_id)
    async with database.platform() as connection:
        outcome = await record_outcome(connection, signer, settlement_id, answer)
    return _require_known(outcome, answer)


async def record_settlement(connection: Connection, verifier: Verifier, request: SettleRequest) -> Settlement:
    """Step 1, in the caller's platform transaction: consume the mandate and store the request to collect.

    Safe to repeat: a settlement that was recorded is returned as it is.

    Raises:
        IntentNotFoundError: Nothing was reserved for the execution.
        NotExecutedError: The run's log has no ``run.executed``, or the run has ended.
        MandateMissingError, MandateConsumedError, MandateInvalidError, MandateExpiredError: No mandate
            permits it.
        PurchaseRefusedError: The policy in force now forbids it.
        HoldNotActiveError: The money was released.
    """
    run = await lock_run(connection, request.execution_id)
    intent = await find_live_intent(connection, request.execution_id)
    if intent is None:
        raise IntentNotFoundError(request.execution_id)
    mandates = await lock_mandates(connection, intent.id)
    existing = await settlement_of_intent(connection, intent.id)
    if existing is not None:
        return existing
    executed, now = await has_executed(connection, run.id)
    if run.status in TERMINAL_STATUSES or not executed:
        raise NotExecutedError(request.execution_id)
    mandate = _active(mandates, request.execution_id)
    body = verify_mandate(mandate, intent, verifier, now)
    amount = _agreed_amount(body, request)
    policy = await current_policy(connection, intent.tenant_id)
    if policy.rules_hash != intent.policy_hash:
        # Edited since: what it says now must allow the purchase as well, sums included; its hours do not
        # matter, because the purchase was made inside those of its time.
        limits = PolicyRules.model_validate(policy.rules).check(intent.vendor, amount, intent.currency)
        spending = spending_of(intent, intent.amount)
        if spending is not None and amount:
            await check_spending(connection, spending, limits)
    hold = await require_hold(connection, intent)
    await end_mandate(connection, mandate.id, MandateStatus.CONSUMED)
    settlement = await insert_settlement(connection, _request(intent, mandate, hold, amount))
    event = NewEvent(
        type=EventType.PAYMENT_SETTLE_REQUESTED,
        key="payment.settle_requested",
        data={
            "settlement_id": settlement.id,
            "mandate_id": mandate.id,
            "amount": amount,
            "currency": intent.currency,
            "rail": intent.rail,
        },
    )
    await append_events(connection, request.execution_id, [event])
    return settlement


async def send_settlement(database: Database, rails: Rails, settlement_id: str) -> RailAnswer:
    """Step 2: ask the rail to collect, with the stored key and bytes; never raises for the rail's sake.

    Before the first call the settlement is marked as sent, so that a crash cannot hide one. A repeated
    call asks first what became of the earlier one, and sends again only while the rail still knows the key.
    """
    async with database.platform() as connection:
        settlement = await lock_settlement(connection, settlement_id)
        if settlement.status in TERMINAL_SETTLEMENTS:
            return _stored_answer(settlement)
        sent_before = settlement.first_sent_at
        age = None if sent_before is None else await database_now(connection) - sent_before
        settlement.attempts += 1
        if settlement.status is SettlementStatus.REQUESTED:
            settlement.status = SettlementStatus.SENT
        await update_settlement(connection, settlement)
    rail = rails[settlement.rail]
    try:
        if age is not None:
            found = await rail.look_up(_reference(settlement))
            if not isinstance(found, Unknown) or age >= rail.key_lifetime:
                return found
        return await _capture(rail, settlement)
    except Exception as error:
        # Whatever went wrong, the rail may have collected: only evidence leaves "unknown".
        logger.warning("rail_call_failed", settlement_id=settlement_id, error=type(error).__name__)
        return Unknown(reason=f"the call failed ({type(error).__name__})")


async def record_outcome(
    connection: Connection, signer: Signer, settlement_id: str, answer: RailAnswer
) -> SettlementOutcome:
    """Step 3, in the caller's platform transaction: the answer and everything that follows from it.

    Safe to repeat; a settlement that has ended keeps its outcome, whatever a late answer says.

    Raises:
        PaymentRecordNotFoundError: There is no such settlement.
    """
    found = await find_settlement(connection, settlement_id)
    if found.execution_id is not None:
        await lock_run(connection, found.execution_id)
    settlement = await lock_settlement(connection, settlement_id)
    if settlement.status in TERMINAL_SETTLEMENTS:
        if isinstance(answer, Settled | Declined) and answer.answer != settlement.status:
            logger.error("rail_contradicts_outcome", settlement_id=settlement_id, answer=answer.answer)
        return await _outcome(connection, settlement)
    if isinstance(answer, Settled) and answer.amount != settlement.amount:
        answer = Unknown(reason=f"the rail collected {answer.amount}, not {settlement.amount}")
    if isinstance(answer, Unknown):
        return await _record_unknown(connection, settlement, answer)
    intent = await find_intent(connection, settlement.intent_id)
    if isinstance(answer, Declined):
        return await _record_declined(connection, signer, intent, settlement, answer)
    return await _record_settled(connection, signer, intent, settlement, answer)


async def _record_unknown(
    connection: Connection, settlement: Settlement, answer: Unknown
) -> SettlementOutcome:
    settlement.status = SettlementStatus.UNKNOWN
    settlement.unknown_reason = answer.reason
    await update_settlement(connection, settlement)
    event = NewEvent(
        type=EventType.PAYMENT_UNKNOWN,
        key="payment.unknown",
        data={"settlement_id": settlement.id, "reason": answer.reason},
    )
    await _report(connection, settlement, [event])
    return await _outcome(connection, settlement)


async def _record_declined(
    connection: Connection, signer: Signer, intent: PurchaseIntent, settlement: Settlement, answer: Declined
) -> SettlementOutcome:
    settlement.status = SettlementStatus.DECLINED
    settlement.decline_code, settlement.decline_message = answer.code, answer.message
    await update_settlement(connection, settlement)
    receipt = await _issue(connection, signer, intent, settlement, payment_id=None, shares=[])
    event = NewEvent(
        type=EventType.PAYMENT_DECLINED,
        key="payment.declined",
        data={"settlement_id": settlement.id, "code": answer.code, "message": answer.message},
    )
    await _report(connection, settlement, [event, _receipt_event(receipt)])
    return _described(settlement, None, receipt.id)


async def _record_settled(
    connection: Connection, signer: Signer, intent: PurchaseIntent, settlement: Settlement, answer: Settled
) -> SettlementOutcome:
    hold = await lock_hold(connection, intent.id)
    if hold is not None:
        await move_hold(connection, hold.id, HoldStatus.CAPTURED)
    await uncount(connection, intent, intent.amount - settlement.amount)
    shares, postings = distribute(intent, settlement)
    transaction_id = None
    if postings:
        transaction = NewTransaction(
            kind=TransactionKind.SETTLEMENT,
            reference=f"settlement:{settlement.id}",
            tenant_id=settlement.tenant_id,
            execution_id=settlement.execution_id,
            agent_id=intent.agent_id,
            postings=postings,
        )
        transaction_id = await post(connection, transaction)
    settlement.status = SettlementStatus.SETTLED
    settlement.provider_ref = answer.provider_ref
    await update_settlement(connection, settlement)
    payment = Payment(
        id=new_identifier("payment"),
        tenant_id=settlement.tenant_id,
        user_id=settlement.user_id,
        intent_id=intent.id,
        mandate_id=settlement.mandate_id,
        settlement_id=settlement.id,
        execution_id=settlement.execution_id,
        agent_id=intent.agent_id,
        amount=settlement.amount,
        currency=settlement.currency,
        provider=settlement.rail,
        provider_ref=answer.provider_ref,
        transaction_id=transaction_id,
    )
    await insert_payment(connection, payment)
    await close_intent(connection, intent.id)
    receipt = await _issue(connection, signer, intent, settlement, payment_id=payment.id, shares=shares)
    settled = NewEvent(
        type=EventType.PAYMENT_SETTLED,
        key="payment.settled",
        data={
            "settlement_id": settlement.id,
            "payment_id": payment.id,
            "amount": settlement.amount,
            "currency": settlement.currency,
            "rail": settlement.rail,
            "provider_ref": answer.provider_ref,
        },
    )
    await _report(connection, settlement, [settled, _receipt_event(receipt)])
    return _described(settlement, payment.id, receipt.id)


def _active(mandates: list[Mandate], execution_id: str) -> Mandate:
    for mandate in mandates:
        if mandate.status is MandateStatus.ACTIVE:
            return mandate
        if mandate.status is MandateStatus.CONSUMED:
            raise MandateConsumedError(mandate.id)
    raise MandateMissingError(execution_id)


def _agreed_amount(body: MandateBody, request: SettleRequest) -> int:
    amount = body.amount if request.amount is None else request.amount
    if amount > body.amount:
        raise MandateInvalidError(f"it permits {body.amount}, not {amount}")
    if amount == 0 and body.amount != 0:
        raise MandateInvalidError("nothing is collected by releasing the hold, not by settling zero")
    if request.code_hash not in (None, body.code_hash):
        raise MandateInvalidError("its code_hash is not that of the code that ran")
    if request.inputs_hash not in (None, body.inputs_hash):
        raise MandateInvalidError("its inputs_hash is not that of the inputs that were used")
    return amount


def _request(intent: PurchaseIntent, mandate: Mandate, hold: PaymentHold | None, amount: int) -> Settlement:
    request = RailRequest(
        reference=intent.id if hold is None else hold.id,
        amount=amount,
        currency=intent.currency,
        tenant_id=intent.tenant_id,
        user_id=intent.user_id,
        description=intent.description,
    )
    return Settlement(
        id=new_identifier("settlement"),
        tenant_id=intent.tenant_id,
        user_id=intent.user_id,
        intent_id=intent.id,
        mandate_id=mandate.id,
        execution_id=intent.execution_id,
        rail=intent.rail,
        idempotency_key=hashlib.sha256(b"settle\x00" + mandate.id.encode()).hexdigest(),
        request_body=canonical_json(request.model_dump(mode="json")),
        amount=amount,
        currency=intent.currency,
    )


async def _capture(rail: Rail, settlement: Settlement) -> RailAnswer:
    return await rail.capture(key=settlement.idempotency_key, body=settlement.request_body)


def _reference(settlement: Settlement) -> str:
    return RailRequest.model_validate_json(settlement.request_body).reference


def _stored_answer(settlement: Settlement) -> RailAnswer:
    if settlement.status is SettlementStatus.SETTLED:
        return Settled(provider_ref=settlement.provider_ref or "", amount=settlement.amount)
    return Declined(code=settlement.decline_code or "", message=settlement.decline_message or "")


async def _issue(
    connection: Connection,
    signer: Signer,
    intent: PurchaseIntent,
    settlement: Settlement,
    *,
    payment_id: str | None,
    shares: list[ReceiptShare],
) -> Receipt:
    settled = settlement.status is SettlementStatus.SETTLED
    cursor = await connection.execute("SELECT hash FROM mandates WHERE id = %s", [settlement.mandate_id])
    mandate = await cursor.fetchone()
    assert mandate is not None, "a settlement's mandate is never deleted"
    draft = ReceiptBody(
        receipt_id="",
        tenant_id=settlement.tenant_id,
        user_id=settlement.user_id,
        outcome=ReceiptOutcome.SETTLED if settled else ReceiptOutcome.DECLINED,
        intent_id=intent.id,
        mandate_id=settlement.mandate_id,
        mandate_hash=bytes(mandate["hash"]).hex(),
        settlement_id=settlement.id,
        payment_id=payment_id,
        execution_id=settlement.execution_id,
        agent_id=intent.agent_id,
        vendor=intent.vendor,
        payee=intent.developer_id,
        amount=settlement.amount if settled else 0,
        currency=settlement.currency,
        exponent=exponent_of(settlement.currency),
        rail=settlement.rail,
        provider_ref=settlement.provider_ref,
        decline_code=settlement.decline_code,
        split=shares,
        issued_at=0,
    )
    return await append_receipt(connection, signer, draft)


def _receipt_event(receipt: Receipt) -> NewEvent:
    return NewEvent(
        type=EventType.PAYMENT_RECEIPT_ISSUED,
        key="payment.receipt_issued",
        data={
            "receipt_id": receipt.id,
            "chain_index": receipt.chain_index,
            "hash": receipt.hash.hex(),
            "outcome": receipt.outcome,
        },
    )


async def _report(connection: Connection, settlement: Settlement, events: list[NewEvent]) -> None:
    if settlement.execution_id is not None:
        await append_events(connection, settlement.execution_id, events)


async def _outcome(connection: Connection, settlement: Settlement) -> SettlementOutcome:
    payment_id, receipt_id = await payment_of_settlement(connection, settlement.id)
    return _described(settlement, payment_id, receipt_id)


def _described(settlement: Settlement, payment_id: str | None, receipt_id: str | None) -> SettlementOutcome:
    return SettlementOutcome(
        settlement_id=settlement.id,
        status=settlement.status,
        amount=settlement.amount if settlement.status is SettlementStatus.SETTLED else 0,
        currency=settlement.currency,
        payment_id=payment_id,
        receipt_id=receipt_id,
        decline_code=settlement.decline_code,
    )


def _require_known(outcome: SettlementOutcome, answer: RailAnswer) -> SettlementOutcome:
    if outcome.status not in TERMINAL_SETTLEMENTS:
        reason = answer.reason if isinstance(answer, Unknown) else "no outcome"
        raise SettlementUnknownError(outcome.settlement_id, reason)
    return outcome
