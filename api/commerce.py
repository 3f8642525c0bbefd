"""The commerce API: purchase intents, mandates, execute (frameos-agent-runtime-flows, steps 3 and on)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from activities.commerce import (
    intent_of_execution,
    mint_for_intent,
    purchase_of,
    require_purchase,
    revoke_mandate,
)
from activities.mandate import describe_mandate
from activities.records.payment import find_intent
from activities.records.payment_lists import find_mandate, find_payment, receipts_of_payments
from api.authentication import requires
from api.correlation import correlation_id
from api.envelope import Success, errors, success
from api.errors import TemporalUnavailableError
from api.first_contact import start_and_ask
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.payment_views import intent_view, payment_view
from api.receipts import signer_of
from api.scope import may_see
from api.state import Services, ServicesDep
from models.commerce import (
    CancelPurchase,
    CreateMandate,
    CreatePurchaseIntent,
    ExecuteMandate,
    PurchasedAgentNotFoundError,
    PurchaseEndedError,
    PurchaseOfExecutionError,
    PurchaseStart,
)
from models.errors import InsufficientFundsError, PlatformError
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.mandate import (
    MandateConsumedError,
    MandateExpiredError,
    MandateInfo,
    MandateInvalidError,
    MandateMissingError,
    MandateStatus,
    read_mandate,
)
from models.payment import (
    AuthorisationDeclinedError,
    HoldNotActiveError,
    PaymentRecordNotFoundError,
    PaymentView,
    PurchaseIntent,
    PurchaseIntentView,
    ReservationMismatchError,
    SettlementStatus,
)
from models.policy import PurchaseRefusedError
from models.run import RunKind
from models.timeouts import UPDATE_RPC_TIMEOUT
from workflows.commerce import Purchase

router = APIRouter(tags=["payments"])

Payer = Annotated[Principal, Depends(requires(Permission.PAYMENTS_WRITE))]

_ONCE: tuple[type[PlatformError], ...] = (
    IdempotencyKeyReusedError,
    IdempotencyInProgressError,
    TemporalUnavailableError,
)


class PaymentDeclinedError(PlatformError):
    """The rail refused to collect; there is a receipt of the refusal, and nobody was charged."""

    code = "PAYMENT_DECLINED"
    http_status = 402

    def __init__(self, decline_code: str | None, receipt_id: str | None) -> None:
        super().__init__(
            f"The payment was declined ({decline_code}); nothing was charged. Make a new purchase intent.",
            details={"decline_code": decline_code, "receipt_id": receipt_id},
        )


@router.post(
    "/purchase-intents",
    status_code=201,
    response_model=Success[PurchaseIntentView],
    responses=errors(
        PurchasedAgentNotFoundError,
        PurchaseRefusedError,
        InsufficientFundsError,
        AuthorisationDeclinedError,
        ReservationMismatchError,
        *_ONCE,
    ),
)
async def create_intent(
    body: CreatePurchaseIntent, caller: Payer, services: ServicesDep, once: OnceDep
) -> Response:
    """Judge a purchase by the policy and hold its price; it waits an hour to be executed."""

    async def work(purchase_id: str) -> Success[PurchaseIntentView]:
        execution_id = body.metadata.get("execution_id")
        if isinstance(execution_id, str):
            return success(await _of_execution(services, caller, execution_id, body))
        async with services.database.platform() as connection:
            reserve = await purchase_of(connection, purchase_id, caller.tenant_id, caller.user_id, body)
        start = PurchaseStart(purchase_id=purchase_id, reserve=reserve, correlation_id=correlation_id())
        opened = await start_and_ask(
            services.temporal,
            Purchase.run,
            start,
            Purchase.opened,
            question_id="opened",
            workflow_id=f"purchase/{purchase_id}",
            kind=RunKind.PURCHASE,
            tenant_id=caller.tenant_id,
            subject=body.vendor,
            correlation_id=start.correlation_id,
            summary=f"purchase for {caller.tenant_id}",
        )
        return success(intent_view(await _own_intent(services, caller, opened.intent_id)))

    return await once.answer("purchase", work)


@router.post(
    "/purchase-intents/{intent_id}/cancel",
    response_model=Success[PurchaseIntentView],
    responses=errors(PaymentRecordNotFoundError, PurchaseOfExecutionError, PurchaseEndedError, *_ONCE),
)
async def cancel_intent(
    intent_id: Identifier, caller: Payer, services: ServicesDep, once: OnceDep
) -> Response:
    """Give back what a purchase holds; soon afterwards its intent is ``closed``."""

    async def work(_: str) -> Success[PurchaseIntentView]:
        purchase_id = await _purchase(services, caller, intent_id)
        handle = services.temporal.get_workflow_handle_for(Purchase.run, f"purchase/{purchase_id}")
        await handle.execute_update(
            Purchase.cancel, CancelPurchase(requested_by=caller.user_id), rpc_timeout=UPDATE_RPC_TIMEOUT
        )
        return success(intent_view(await _own_intent(services, caller, intent_id)))

    return await once.answer("purchase", work, status=200)


@router.post(
    "/mandates",
    status_code=201,
    response_model=Success[MandateInfo],
    responses=errors(
        PaymentRecordNotFoundError,
        PurchaseOfExecutionError,
        PurchaseEndedError,
        HoldNotActiveError,
        MandateConsumedError,
        *_ONCE,
    ),
)
async def create_mandate(
    body: CreateMandate, caller: Payer, services: ServicesDep, once: OnceDep
) -> Response:
    """Sign the permission to collect a purchase's price: once, within ten minutes."""

    async def work(_: str) -> Success[MandateInfo]:
        intent = await _own_intent(services, caller, body.intent_id)
        async with services.database.platform() as connection:
            return success(await mint_for_intent(connection, signer_of(services), intent))

    return await once.answer("mandate", work)


@router.post(
    "/mandates/{mandate_id}/revoke",
    response_model=Success[MandateInfo],
    responses=errors(PaymentRecordNotFoundError, MandateConsumedError, *_ONCE),
)
async def revoke(mandate_id: Identifier, caller: Payer, services: ServicesDep, once: OnceDep) -> Response:
    """Take a permission back before it is used; a run that goes on under it is not paid and shows nothing."""

    async def work(_: str) -> Success[MandateInfo]:
        await _own_mandate(services, caller, mandate_id)
        async with services.database.platform() as connection:
            await revoke_mandate(connection, mandate_id)
        return success(await _own_mandate(services, caller, mandate_id))

    return await once.answer("mandate", work, status=200)


@router.post(
    "/execute",
    status_code=201,
    response_model=Success[PaymentView],
    responses=errors(
        PaymentRecordNotFoundError,
        PurchaseOfExecutionError,
        PurchaseEndedError,
        MandateExpiredError,
        MandateMissingError,
        MandateConsumedError,
        MandateInvalidError,
        PurchaseRefusedError,
        PaymentDeclinedError,
        *_ONCE,
    ),
)
async def execute(body: ExecuteMandate, caller: Payer, services: ServicesDep, once: OnceDep) -> Response:
    """Collect under a mandate: signature, time and policy are checked again, and then the rail collects."""

    async def work(_: str) -> Success[PaymentView]:
        mandate = await _own_mandate(services, caller, body.mandate_id)
        paid = await _payment_under(services, caller, body.mandate_id)
        if paid is not None:
            return success(paid)
        if mandate.status is MandateStatus.EXPIRED:
            raise MandateExpiredError(body.mandate_id)
        purchase_id = await _purchase(services, caller, mandate.intent_id)
        if mandate.status is MandateStatus.REVOKED:
            raise MandateMissingError(purchase_id)
        handle: Any = services.temporal.get_workflow_handle_for(Purchase.run, f"purchase/{purchase_id}")
        outcome = await handle.execute_update(Purchase.execute, body, rpc_timeout=UPDATE_RPC_TIMEOUT)
        if outcome.status is SettlementStatus.DECLINED:
            raise PaymentDeclinedError(outcome.decline_code, outcome.receipt_id)
        paid = await _payment_under(services, caller, body.mandate_id)
        if paid is None:
            raise MandateMissingError(purchase_id)
        return success(paid)

    return await once.answer("payment", work)


async def _payment_under(services: Services, caller: Principal, mandate_id: str) -> PaymentView | None:
    """Return what was collected under a mandate; None where nothing was."""
    async with services.database.tenant(caller.tenant_id) as connection:
        cursor = await connection.execute("SELECT id FROM payments WHERE mandate_id = %s", [mandate_id])
        row = await cursor.fetchone()
        if row is None:
            return None
        payment = await find_payment(connection, row["id"])
        receipts = await receipts_of_payments(connection, [payment.id])
    return payment_view(payment, receipts.get(payment.id))


async def _of_execution(
    services: Services, caller: Principal, execution_id: str, body: CreatePurchaseIntent
) -> PurchaseIntentView:
    async with services.database.tenant(caller.tenant_id) as connection:
        intent = await intent_of_execution(connection, execution_id, body)
    if intent is None or not may_see(caller, intent.user_id):
        raise ReservationMismatchError(execution_id)
    return intent_view(intent)


async def _own_intent(services: Services, caller: Principal, intent_id: str) -> PurchaseIntent:
    async with services.database.tenant(caller.tenant_id) as connection:
        intent = await find_intent(connection, intent_id)
    if intent.user_id != caller.user_id:
        raise PaymentRecordNotFoundError(f"purchase intent {intent_id}")
    return intent


async def _own_mandate(services: Services, caller: Principal, mandate_id: str) -> MandateInfo:
    async with services.database.tenant(caller.tenant_id) as connection:
        mandate = await find_mandate(connection, mandate_id)
    if read_mandate(mandate.body).user_id != caller.user_id:
        raise PaymentRecordNotFoundError(f"mandate {mandate_id}")
    return describe_mandate(mandate)


async def _purchase(services: Services, caller: Principal, intent_id: str) -> str:
    intent = await _own_intent(services, caller, intent_id)
    async with services.database.platform() as connection:
        return await require_purchase(connection, intent)
