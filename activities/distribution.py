"""Who gets what of a payment (frameos-agent-runtime-flows, "Revenue Distribution Flow")."""

from models.ledger import AccountKey, AccountKind, NewPosting, PostingPurpose, platform_account
from models.money import split
from models.payment import SPLIT_BASIS_POINTS, PurchaseIntent, Settlement
from models.receipt import ReceiptShare


def distribute(intent: PurchaseIntent, settlement: Settlement) -> tuple[list[ReceiptShare], list[NewPosting]]:
    """Split the amount 70/20/10 and word it for the receipt and for the ledger; a zero share is no line."""
    currency = settlement.currency
    developer, platform, orchestrator = split(settlement.amount, SPLIT_BASIS_POINTS)
    revenue = platform_account(AccountKind.PLATFORM_REVENUE, currency)
    parties: list[tuple[ReceiptShare, AccountKey, PostingPurpose]] = [
        (
            ReceiptShare(party="developer", recipient=intent.developer_id, amount=developer),
            _payable(
                AccountKind.DEVELOPER_PAYABLE, intent.developer_tenant_id, intent.developer_id, currency
            ),
            PostingPurpose.DEVELOPER_SHARE,
        ),
        (
            ReceiptShare(party="platform", recipient=revenue.owner_id, amount=platform),
            revenue,
            PostingPurpose.PLATFORM_SHARE,
        ),
    ]
    if intent.orchestrator_id is not None and intent.orchestrator_tenant_id is not None:
        payable = _payable(
            AccountKind.ORCHESTRATOR_PAYABLE,
            intent.orchestrator_tenant_id,
            intent.orchestrator_id,
            currency,
        )
        purpose = PostingPurpose.ORCHESTRATOR_SHARE
    else:
        payable, purpose = revenue, PostingPurpose.UNORCHESTRATED_SHARE
    parties.append(
        (
            ReceiptShare(party="orchestrator", recipient=payable.owner_id, amount=orchestrator),
            payable,
            purpose,
        )
    )
    lines = [
        NewPosting(account=account, amount=share.amount, purpose=purpose)
        for share, account, purpose in parties
        if share.amount
    ]
    if lines:
        clearing = platform_account(AccountKind.RAIL_CLEARING, currency, settlement.rail)
        lines.insert(
            0, NewPosting(account=clearing, amount=-settlement.amount, purpose=PostingPurpose.CLEARING)
        )
    return [share for share, _, _ in parties], lines


def _payable(kind: AccountKind, tenant_id: str, user_id: str, currency: str) -> AccountKey:
    return AccountKey(tenant_id=tenant_id, kind=kind, owner_id=user_id, currency=currency)
