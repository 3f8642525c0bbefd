"""Giving money back: the split is unwound exactly, and a developer who was paid out goes negative.

From the wallet, at once. Over an outside rail in the settle protocol's three steps: ``refund_payment`` stores
the request with its key and bytes, ``send_refund`` asks the rail, ``record_refund`` writes its answer with
postings and receipt. "Unknown" is left by evidence only, and what was sent once is looked up before it is
sent again.
"""

import hashlib

import structlog
from temporalio import activity

from activities.rails.protocol import OutsideRail
from activities.rails.registry import Rails
from activities.records.database import Connection, Database
from activities.records.ledger import post
from activities.records.payment import database_now, find_intent, find_settlement, lock_settlement
from activities.records.payment_lists import find_payment
from activities.records.receipts import append_receipt
from activities.records.refund import find_refund, insert_refund, lock_refund, refunds_of, update_refund
from activities.records.runs import append_events, create_run, lock_run
from activities.signing import Signer
from models.canonical import canonical_json
from models.event import EventType, NewEvent
from models.ledger import (
    AccountKey,
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    platform_account,
)
from models.payment import Payment, PurchaseIntent
from models.payout import payable_account
from models.rail import (
    Declined,
    RailAnswer,
    RailName,
    RailRequest,
    RefundInstruction,
    Settled,
    Unknown,
)
from models.receipt import ReceiptBody, ReceiptOutcome, ReceiptShare
from models.refund import (
    ENDED_REFUNDS,
    Refund,
    RefundRailError,
    RefundRequest,
    RefundStart,
    RefundState,
    RefundStatus,
    RefundTooLargeError,
    RefundView,
    unwind,
)
from models.run import Run, RunKind, RunStatus
from models.wallet import wallet_account

logger = structlog.get_logger(__name__)

REFUNDABLE = frozenset({RailName.WALLET, RailName.STRIPE, RailName.CASHFREE})
"""Rails over which money goes back; over x402 only the payee's own transfer could."""


async def refund_payment(
    connection: Connection,
    signer: Signer,
    *,
    refund_id: str,
    payment_id: str,
    request: RefundRequest,
    created_by: str,
) -> RefundView:
    """Give back what a payment collected, in the caller's platform transaction; once per ``refund_id``.

    From the wallet, postings, refund and receipt are one transaction; over an outside rail the request is
    stored, and ``send_refund`` is due. Refunds of one payment follow one another under the lock of its
    settlement, so their sum, those under way included, never exceeds what was collected. Nobody's share falls
    below zero, but a developer's account may: what was paid out is netted against later earnings.

    Raises:
        PaymentRecordNotFoundError: There is no such payment.
        RefundTooLargeError: More would go back than is left of it.
        RefundRailError: Its rail gives nothing back.
    """
    payment = await find_payment(connection, payment_id)
    await lock_settlement(connection, payment.settlement_id)
    earlier = await refunds_of(connection, payment_id)
    for each in earlier:
        if each.refund_id == refund_id:
            return each
    rail = RailName(payment.provider)
    if rail not in REFUNDABLE:
        raise RefundRailError(payment_id, payment.provider)
    left = payment.amount - sum(each.amount for each in earlier if each.status is not RefundStatus.DECLINED)
    amount = left if request.amount is None else request.amount
    if not 0 < amount <= left:
        raise RefundTooLargeError(payment_id, left)
    refund = Refund(
        id=refund_id,
        tenant_id=payment.tenant_id,
        user_id=payment.user_id,
        payment_id=payment_id,
        kind=request.kind,
        amount=amount,
        currency=payment.currency,
        reason=request.reason,
        rail=rail,
        created_by=created_by,
    )
    if rail is RailName.WALLET:
        await insert_refund(connection, refund)
        await _book(connection, signer, payment, refund, f"wallet:{refund_id}")
    else:
        settlement = await find_settlement(connection, payment.settlement_id)
        instruction = RefundInstruction(
            reference=refund_id,
            capture_reference=RailRequest.model_validate_json(settlement.request_body).reference,
            amount=amount,
            currency=payment.currency,
        )
        refund.status = RefundStatus.REQUESTED
        refund.idempotency_key = hashlib.sha256(b"refund\x00" + refund_id.encode()).hexdigest()
        refund.request_body = canonical_json(instruction.model_dump(mode="json"))
        await insert_refund(connection, refund)
    # Not simply the last: they are in the order in which their transactions began.
    return next(each for each in await refunds_of(connection, payment_id) if each.refund_id == refund_id)


async def send_refund(database: Database, rails: Rails, refund_id: str) -> RailAnswer | None:
    """Ask the rail to give back, with the stored key and bytes; None where the answer is known already.

    Before the first call the refund is marked as sent, so that a crash cannot hide one. A repeated call asks
    first what became of the earlier one, and sends again only while the rail still knows the key.

    Raises:
        RefundNotFoundError: There is no such refund.
    """
    async with database.platform() as connection:
        refund = await lock_refund(connection, refund_id)
        if refund.status in ENDED_REFUNDS:
            return None
        sent_before = refund.first_sent_at
        age = None if sent_before is None else await database_now(connection) - sent_before
        refund.attempts += 1
        if refund.status is RefundStatus.REQUESTED:
            refund.status = RefundStatus.SENT
        await update_refund(connection, refund)
    assert refund.idempotency_key is not None, "an outside refund was stored with its request"
    assert refund.request_body is not None, "an outside refund was stored with its request"
    try:
        rail = rails.outside(RailName(refund.rail))
        if age is not None:
            found = await _look_up(rail, refund.request_body)
            if not isinstance(found, Unknown) or age >= rail.key_lifetime:
                return found
        return await rail.refund(key=refund.idempotency_key, body=refund.request_body)
    except Exception as error:
        # Whatever went wrong, the rail may have given it back: only evidence leaves "unknown".
        logger.warning("refund_call_failed", run_id=refund_id, error=type(error).__name__)
        return Unknown(reason=f"the call failed ({type(error).__name__})")


async def _look_up(rail: OutsideRail, body: bytes) -> RailAnswer:
    sent = RefundInstruction.model_validate_json(body)
    return await rail.look_up_refund(capture_reference=sent.capture_reference, reference=sent.reference)


async def record_refund(
    connection: Connection, signer: Signer, refund_id: str, answer: RailAnswer | None
) -> RefundState:
    """Write the rail's answer and what follows from it, in the caller's platform transaction.

    Safe to repeat; a refund that has ended keeps its outcome, whatever a late answer or webhook says.

    Raises:
        RefundNotFoundError: There is no such refund.
    """
    known = await find_refund(connection, refund_id)
    await lock_run(connection, refund_id)
    payment = await find_payment(connection, known.payment_id)
    await lock_settlement(connection, payment.settlement_id)
    refund = await lock_refund(connection, refund_id)
    if refund.status in ENDED_REFUNDS or answer is None:
        return _state(refund)
    if isinstance(answer, Settled) and answer.amount != refund.amount:
        answer = Unknown(reason=f"the rail gave back {answer.amount}, not {refund.amount}")
    facts = {"payment_id": refund.payment_id, "amount": refund.amount, "currency": refund.currency}
    if isinstance(answer, Settled):
        refund.status, refund.provider_ref = RefundStatus.SETTLED, answer.provider_ref
        refund.unknown_reason = None
        await update_refund(connection, refund)
        await _book(connection, signer, payment, refund, answer.provider_ref)
        event, status = NewEvent(type=EventType.PAYMENT_REFUNDED, key="refunded", data=facts), _SUCCEEDED
    elif isinstance(answer, Declined):
        refund.status, refund.unknown_reason = RefundStatus.DECLINED, None
        refund.decline_code, refund.decline_message = answer.code, answer.message
        await update_refund(connection, refund)
        data = facts | {"code": answer.code, "message": answer.message}
        event, status = NewEvent(type=EventType.PAYMENT_REFUND_DECLINED, key="declined", data=data), _FAILED
    else:
        refund.status, refund.unknown_reason = RefundStatus.UNKNOWN, answer.reason
        await update_refund(connection, refund)
        data = facts | {"reason": answer.reason}
        event, status = NewEvent(type=EventType.PAYMENT_REFUND_UNKNOWN, key="unknown", data=data), None
    await append_events(connection, refund_id, [event], status=status)
    return _state(refund)


_SUCCEEDED, _FAILED = RunStatus.SUCCEEDED, RunStatus.FAILED


class RefundActivities:
    """Records and sends refunds over outside rails."""

    def __init__(self, database: Database, signer: Signer, rails: Rails) -> None:
        """Keep records in ``database``, sign with ``signer``, give back over ``rails``."""
        self._database = database
        self._signer = signer
        self._rails = rails

    @activity.defn(name="request_refund")
    async def request_refund(self, start: RefundStart) -> RefundState:
        """Record the refund and its run; safe to repeat.

        Raises:
            RefundTooLargeError, RefundRailError, PaymentRecordNotFoundError: Nothing was recorded.
        """
        async with self._database.platform() as connection:
            run = Run(
                id=start.refund_id,
                tenant_id=start.tenant_id,
                kind=RunKind.REFUND,
                subject=start.payment_id,
                correlation_id=start.correlation_id,
                workflow_id=f"refund/{start.refund_id}",
            )
            await create_run(connection, run)
            await lock_run(connection, start.refund_id)
            await refund_payment(
                connection,
                self._signer,
                refund_id=start.refund_id,
                payment_id=start.payment_id,
                request=start.request,
                created_by=start.created_by,
            )
            refund = await find_refund(connection, start.refund_id)
            requested = NewEvent(
                type=EventType.PAYMENT_REFUND_REQUESTED,
                key="requested",
                data={
                    "payment_id": refund.payment_id,
                    "amount": refund.amount,
                    "currency": refund.currency,
                    "rail": refund.rail,
                },
            )
            opened = await append_events(connection, refund.id, [requested])
            if opened.status is RunStatus.PENDING:
                for status in (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING):
                    await append_events(connection, refund.id, [], status=status)
        return _state(refund)

    @activity.defn(name="send_refund")
    async def send_refund(self, start: RefundStart) -> RefundState:
        """Send the refund, or look it up where it was sent, and record the answer; safe to repeat."""
        answer = await send_refund(self._database, self._rails, start.refund_id)
        async with self._database.platform() as connection:
            return await record_refund(connection, self._signer, start.refund_id, answer)


def _state(refund: Refund) -> RefundState:
    return RefundState(
        refund_id=refund.id, status=refund.status, amount=refund.amount, currency=refund.currency
    )


async def _book(
    connection: Connection, signer: Signer, payment: Payment, refund: Refund, provider_ref: str
) -> None:
    """Post what every party gives back, and attest it; shares follow from what was given back before."""
    settled = sum(
        each.amount
        for each in await refunds_of(connection, payment.id)
        if each.status is RefundStatus.SETTLED and each.refund_id != refund.id
    )
    intent = await find_intent(connection, payment.intent_id)
    shares, postings = _unwound(intent, payment, settled, refund.amount)
    transaction = NewTransaction(
        kind=TransactionKind.REFUND,
        reference=f"refund:{refund.id}",
        tenant_id=payment.tenant_id,
        execution_id=payment.execution_id,
        agent_id=payment.agent_id,
        description=refund.reason,
        postings=postings,
    )
    await post(connection, transaction)
    await _issue(connection, signer, payment, refund, shares, provider_ref)


def _unwound(
    intent: PurchaseIntent, payment: Payment, refunded: int, amount: int
) -> tuple[list[ReceiptShare], list[NewPosting]]:
    currency = payment.currency
    revenue = platform_account(AccountKind.PLATFORM_REVENUE, currency)
    orchestrator = revenue
    if intent.orchestrator_id is not None and intent.orchestrator_tenant_id is not None:
        orchestrator = AccountKey(
            tenant_id=intent.orchestrator_tenant_id,
            kind=AccountKind.ORCHESTRATOR_PAYABLE,
            owner_id=intent.orchestrator_id,
            currency=currency,
        )
    developer = payable_account(intent.developer_tenant_id, intent.developer_id, currency)
    given = unwind(payment.amount, refunded, amount)
    accounts = (developer, revenue, orchestrator)
    shares = [
        ReceiptShare(party=party, recipient=account.owner_id, amount=share)
        for party, account, share in zip(
            ("developer", "platform", "orchestrator"), accounts, given, strict=True
        )
    ]
    postings = [
        NewPosting(account=account, amount=-share, purpose=PostingPurpose.REFUND)
        for account, share in zip(accounts, given, strict=True)
        if share
    ]
    # Into the wallet it came from, or out of what the outside rail has of ours.
    back = (
        wallet_account(payment.tenant_id, payment.user_id, currency)
        if payment.provider is RailName.WALLET
        else platform_account(AccountKind.RAIL_CLEARING, currency, payment.provider)
    )
    return shares, [*postings, NewPosting(account=back, amount=amount, purpose=PostingPurpose.REFUND)]


async def _issue(
    connection: Connection,
    signer: Signer,
    payment: Payment,
    refund: Refund,
    shares: list[ReceiptShare],
    provider_ref: str,
) -> None:
    """Attest the refund under the payment's own mandate: the receipt repeats what was bought."""
    cursor = await connection.execute(
        "SELECT body FROM receipts WHERE settlement_id = %s", [payment.settlement_id]
    )
    row = await cursor.fetchone()
    assert row is not None, "a payment exists with its receipt"
    draft = ReceiptBody.model_validate_json(bytes(row["body"])).model_copy(
        update={
            "outcome": ReceiptOutcome.REFUNDED,
            "amount": refund.amount,
            "provider_ref": provider_ref,
            "split": shares,
        }
    )
    await append_receipt(connection, signer, draft, refund_id=refund.id)
