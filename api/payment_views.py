"""Intents and payments as the API shows them."""

from models.payment import Payment, PaymentView, PurchaseIntent, PurchaseIntentView


def intent_view(row: PurchaseIntent) -> PurchaseIntentView:
    """Present an intent to its owner."""
    return PurchaseIntentView(
        intent_id=row.id,
        user_id=row.user_id,
        execution_id=row.execution_id,
        agent_id=row.agent_id,
        vendor=row.vendor,
        amount=row.amount,
        currency=row.currency,
        cost_cap=row.cost_cap,
        description=row.description,
        metadata=row.meta,
        rail=row.rail,
        status=row.status,
        denial_code=row.denial_code,
        denial_message=row.denial_message,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )


def payment_view(row: Payment, receipt_id: str | None) -> PaymentView:
    """Present a payment, with its receipt, to its owner."""
    return PaymentView(
        payment_id=row.id,
        mandate_id=row.mandate_id,
        intent_id=row.intent_id,
        execution_id=row.execution_id,
        agent_id=row.agent_id,
        user_id=row.user_id,
        amount=row.amount,
        currency=row.currency,
        status=row.status,
        provider=row.provider,
        provider_ref=row.provider_ref,
        receipt_id=receipt_id,
        created_at=row.created_at,
    )
