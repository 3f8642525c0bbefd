"""Refunds: finance gives money back; payers see what came."""

from fastapi import APIRouter
from starlette.responses import Response

from activities.records.payment_lists import find_payment
from activities.records.refund import refunds_of
from activities.refund import refund_payment
from api.correlation import correlation_id
from api.envelope import Success, errors, success
from api.errors import TemporalUnavailableError
from api.first_contact import start_and_ask
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.payout import Finance, Reader
from api.receipts import signer_of
from api.scope import may_see
from api.state import ServicesDep
from models.identifiers import Identifier
from models.payment import PaymentRecordNotFoundError
from models.payout import PlatformFinanceError
from models.rail import RailName
from models.refund import RefundRailError, RefundRequest, RefundStart, RefundTooLargeError, RefundView
from models.run import RunKind
from workflows.refund import RefundPayment

router = APIRouter(tags=["refunds"])


@router.post(
    "/payments/{payment_id}/refunds",
    status_code=201,
    response_model=Success[RefundView],
    responses=errors(
        PaymentRecordNotFoundError,
        RefundTooLargeError,
        RefundRailError,
        PlatformFinanceError,
        TemporalUnavailableError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def refund(
    payment_id: Identifier, body: RefundRequest, caller: Finance, services: ServicesDep, once: OnceDep
) -> Response:
    """Give back a payment or a part of it (the platform's finance); every party gives its share.

    Out of the wallet it is ``settled`` at once. Over an outside rail it is ``requested``, and
    ``GET /payments/{id}/refunds`` tells when the money has moved.
    """

    async def work(refund_id: str) -> Success[RefundView]:
        async with services.database.platform() as connection:
            payment = await find_payment(connection, payment_id)
            if payment.provider is RailName.WALLET:
                return success(
                    await refund_payment(
                        connection,
                        signer_of(services),
                        refund_id=refund_id,
                        payment_id=payment_id,
                        request=body,
                        created_by=caller.user_id,
                    )
                )
        start = RefundStart(
            refund_id=refund_id,
            payment_id=payment_id,
            tenant_id=payment.tenant_id,
            request=body,
            created_by=caller.user_id,
            correlation_id=correlation_id(),
        )
        await start_and_ask(
            services.temporal,
            RefundPayment.run,
            start,
            RefundPayment.requested,
            question_id="requested",
            workflow_id=f"refund/{refund_id}",
            kind=RunKind.REFUND,
            tenant_id=payment.tenant_id,
            subject=payment_id,
            correlation_id=start.correlation_id,
            summary=f"refund of {payment_id}",
        )
        async with services.database.platform() as connection:
            views = await refunds_of(connection, payment_id)
        return success(next(each for each in views if each.refund_id == refund_id))

    return await once.answer("refund", work)


@router.get("/payments/{payment_id}/refunds", responses=errors(PaymentRecordNotFoundError))
async def refunds(payment_id: Identifier, caller: Reader, services: ServicesDep) -> Success[list[RefundView]]:
    """List what came back of a payment, oldest first."""
    async with services.database.tenant(caller.tenant_id) as connection:
        payment = await find_payment(connection, payment_id)
        if not may_see(caller, payment.user_id):
            raise PaymentRecordNotFoundError(f"payment {payment_id}")
        return success(await refunds_of(connection, payment_id))
