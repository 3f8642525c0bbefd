"""Paying: intents, mandates, payments, the tenant's policy; with wallets, ledger and receipts one router."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

import api.checkpoint
import api.commerce
import api.ledger
import api.payment_method
import api.payout
import api.receipts
import api.reconciliation
import api.refund
import api.routing
import api.wallet
from activities.mandate import describe_mandate
from activities.records.payment import find_intent
from activities.records.payment_lists import (
    find_mandate,
    find_payment,
    list_intents,
    list_payments,
    receipts_of_payments,
)
from activities.records.policies import PolicyRevisionError, current_policy, replace_policy
from api.authentication import requires
from api.envelope import Success, errors, success
from api.pagination import InvalidCursorError, Page, PageDep
from api.payment_views import intent_view, payment_view
from api.scope import may_see, owner_filter
from api.state import ServicesDep
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.mandate import MandateInfo, read_mandate
from models.payment import PaymentRecordNotFoundError, PaymentView, PurchaseIntentView
from models.policy import PaymentPolicy, PolicyRules

router = APIRouter()
router.include_router(api.wallet.router)
router.include_router(api.ledger.router)
# Before `/receipts/{id}`, which would take its fixed paths for identifiers.
router.include_router(api.checkpoint.router)
router.include_router(api.receipts.router)
router.include_router(api.payout.router)
router.include_router(api.refund.router)
router.include_router(api.reconciliation.router)
router.include_router(api.payment_method.router)
router.include_router(api.commerce.router)
router.include_router(api.routing.router)

_payments = APIRouter(tags=["payments"])

Reader = Annotated[Principal, Depends(requires(Permission.RECEIPTS_READ))]
PolicyWriter = Annotated[Principal, Depends(requires(Permission.POLICIES_WRITE))]


class PolicyView(BaseModel):
    """The policy in force. Amounts in minor units."""

    policy_id: str
    revision: int
    rules: PolicyRules
    rules_hash: str


def _policy(row: PaymentPolicy) -> PolicyView:
    return PolicyView(
        policy_id=row.id,
        revision=row.revision,
        rules=PolicyRules.model_validate(row.rules),
        rules_hash=row.rules_hash.hex(),
    )


@_payments.get("/payments", responses=errors(InvalidCursorError))
async def payments(caller: Reader, services: ServicesDep, page: PageDep) -> Success[Page[PaymentView]]:
    """List your payments, newest first; finance and administrators see the whole tenant's."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_payments(
            connection, user_id=owner_filter(caller), before=page.before, limit=page.fetch
        )
        receipts = await receipts_of_payments(connection, [row.id for row in rows])
    return success(page.page(rows, lambda row: payment_view(row, receipts.get(row.id))))


@_payments.get("/payments/{payment_id}", responses=errors(PaymentRecordNotFoundError))
async def payment(payment_id: Identifier, caller: Reader, services: ServicesDep) -> Success[PaymentView]:
    """Read one payment."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_payment(connection, payment_id)
        receipts = await receipts_of_payments(connection, [row.id])
    if not may_see(caller, row.user_id):
        raise PaymentRecordNotFoundError(f"payment {payment_id}")
    return success(payment_view(row, receipts.get(row.id)))


@_payments.get("/purchase-intents", responses=errors(InvalidCursorError))
async def purchase_intents(
    caller: Reader, services: ServicesDep, page: PageDep
) -> Success[Page[PurchaseIntentView]]:
    """List your purchase intents, the denied ones included, newest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_intents(
            connection, user_id=owner_filter(caller), before=page.before, limit=page.fetch
        )
    return success(page.page(rows, intent_view))


@_payments.get("/purchase-intents/{intent_id}", responses=errors(PaymentRecordNotFoundError))
async def purchase_intent(
    intent_id: Identifier, caller: Reader, services: ServicesDep
) -> Success[PurchaseIntentView]:
    """Read one purchase intent."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_intent(connection, intent_id)
    if not may_see(caller, row.user_id):
        raise PaymentRecordNotFoundError(f"purchase intent {intent_id}")
    return success(intent_view(row))


@_payments.get("/mandates/{mandate_id}", responses=errors(PaymentRecordNotFoundError))
async def mandate(mandate_id: Identifier, caller: Reader, services: ServicesDep) -> Success[MandateInfo]:
    """Read one mandate: what was signed, by which key, and whether it was used."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_mandate(connection, mandate_id)
    if not may_see(caller, read_mandate(row.body).user_id):
        raise PaymentRecordNotFoundError(f"mandate {mandate_id}")
    return success(describe_mandate(row))


@_payments.get("/payment-policy")
async def policy(caller: Reader, services: ServicesDep) -> Success[PolicyView]:
    """Read the policy that the tenant's purchases must obey."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(_policy(await current_policy(connection, caller.tenant_id)))


@_payments.put("/payment-policy", responses=errors(PolicyRevisionError))
async def change_policy(
    body: PolicyRules, caller: PolicyWriter, services: ServicesDep
) -> Success[PolicyView]:
    """Put new rules in force, from the next purchase on."""
    async with services.database.tenant(caller.tenant_id) as connection:
        changed = await replace_policy(connection, caller.tenant_id, body, changed_by=caller.user_id)
    return success(_policy(changed))


router.include_router(_payments)
