"""Giving money back: the split is unwound exactly, and a developer who was paid out goes negative."""

from activities.records.database import Connection
from activities.records.ledger import post
from activities.records.payment import find_intent, lock_settlement
from activities.records.payment_lists import find_payment
from activities.records.receipts import append_receipt
from activities.records.refund import insert_refund, refunds_of
from activities.signing import Signer
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
from models.rail import RailName
from models.receipt import ReceiptBody, ReceiptOutcome, ReceiptShare
from models.refund import (
    Refund,
    RefundRailError,
    RefundRequest,
    RefundTooLargeError,
    RefundView,
    unwind,
)
from models.wallet import wallet_account


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

    Postings, refund and receipt are one transaction. Refunds of one payment follow one another under the
    lock of its settlement, so their sum never exceeds what was collected. Nobody's share falls below zero,
    but a developer's account may: what was paid out is netted against later earnings.

    Raises:
        PaymentRecordNotFoundError: There is no such payment.
        RefundTooLargeError: More would go back than is left of it.
        RefundRailError: It was not collected over the wallet.
    """
    payment = await find_payment(connection, payment_id)
    await lock_settlement(connection, payment.settlement_id)
    earlier = await refunds_of(connection, payment_id)
    for each in earlier:
        if each.refund_id == refund_id:
            return each
    if payment.provider is not RailName.WALLET:
        raise RefundRailError(payment_id, payment.provider)
    refunded = sum(each.amount for each in earlier)
    left = payment.amount - refunded
    amount = left if request.amount is None else request.amount
    if not 0 < amount <= left:
        raise RefundTooLargeError(payment_id, left)
    intent = await find_intent(connection, payment.intent_id)
    refund = Refund(
        id=refund_id,
        tenant_id=payment.tenant_id,
        user_id=payment.user_id,
        payment_id=payment_id,
        kind=request.kind,
        amount=amount,
        currency=payment.currency,
        reason=request.reason,
        rail=payment.provider,
        created_by=created_by,
    )
    await insert_refund(connection, refund)
    shares, postings = _unwound(intent, payment, refunded, amount)
    transaction = NewTransaction(
        kind=TransactionKind.REFUND,
        reference=f"refund:{refund_id}",
        tenant_id=payment.tenant_id,
        execution_id=payment.execution_id,
        agent_id=payment.agent_id,
        description=request.reason,
        postings=postings,
    )
    await post(connection, transaction)
    await _issue(connection, signer, payment, refund, shares)
    return (await refunds_of(connection, payment_id))[-1]


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
    wallet = wallet_account(payment.tenant_id, payment.user_id, currency)
    return shares, [*postings, NewPosting(account=wallet, amount=amount, purpose=PostingPurpose.REFUND)]


async def _issue(
    connection: Connection, signer: Signer, payment: Payment, refund: Refund, shares: list[ReceiptShare]
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
            "provider_ref": f"wallet:{refund.id}",
            "split": shares,
        }
    )
    await append_receipt(connection, signer, draft, refund_id=refund.id)
