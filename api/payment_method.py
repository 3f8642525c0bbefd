"""Payers' payment methods: register by the rail's reference, list, remove. Never card data."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from activities.rails.registry import outside_rails
from activities.records.payment_methods import (
    insert_payment_method,
    list_payment_methods,
    remove_payment_method,
)
from api.authentication import requires
from api.envelope import Success, errors, success
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.pagination import InvalidCursorError, Page, PageDep
from api.scope import owner_filter
from api.state import Services, ServicesDep
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.payment_method import (
    CardDataRefusedError,
    PaymentMethod,
    PaymentMethodNotFoundError,
    PaymentMethodRefusedError,
    PaymentMethodTakenError,
    PaymentMethodView,
    RailUnavailableError,
    RegisterPaymentMethod,
)
from models.rail import Declined, RailName, RailNotConfiguredError, Settled

router = APIRouter(prefix="/payment-methods", tags=["payments"])

Payer = Annotated[Principal, Depends(requires(Permission.PAYMENTS_WRITE))]
Reader = Annotated[Principal, Depends(requires(Permission.RECEIPTS_READ))]


def _view(row: PaymentMethod) -> PaymentMethodView:
    return PaymentMethodView(
        payment_method_id=row.id,
        rail=row.rail,
        customer=row.customer,
        method=row.method,
        label=row.label,
        status=row.status,
        verified_at=row.verified_at,
        created_at=row.created_at,
        removed_at=row.removed_at,
    )


@router.post(
    "",
    status_code=201,
    response_model=Success[PaymentMethodView],
    responses=errors(
        CardDataRefusedError,
        PaymentMethodRefusedError,
        PaymentMethodTakenError,
        RailNotConfiguredError,
        RailUnavailableError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def register(
    body: RegisterPaymentMethod, caller: Payer, services: ServicesDep, once: OnceDep
) -> Response:
    """Register one of your methods by the rail's reference, once the rail confirms that it is yours."""
    body.refuse_card_data()

    async def work(method_id: str) -> Success[PaymentMethodView]:
        rail = RailName(body.rail)
        customer = body.customer if rail is RailName.STRIPE and body.customer else caller.user_id
        await _require_confirmation(services, rail, customer, body.method, caller.user_id)
        method = PaymentMethod(
            id=method_id,
            tenant_id=caller.tenant_id,
            user_id=caller.user_id,
            rail=rail,
            customer=customer,
            method=body.method,
            phone=body.phone,
            label=body.label,
        )
        async with services.database.platform() as connection:
            return success(_view(await insert_payment_method(connection, method)))

    return await once.answer("payment_method", work)


async def _require_confirmation(
    services: Services, name: RailName, customer: str, method: str, user_id: str
) -> None:
    async with outside_rails(services.settings) as rails:
        rail = rails.get(name.value)
        if rail is None:
            raise RailNotConfiguredError(name)
        answer = await rail.look_up_method(customer=customer, method=method, user_id=user_id)
    if isinstance(answer, Declined):
        raise PaymentMethodRefusedError(name, answer.message or answer.code)
    if not isinstance(answer, Settled):
        raise RailUnavailableError(name, answer.reason)


@router.get("", responses=errors(InvalidCursorError))
async def list_all(caller: Reader, services: ServicesDep, page: PageDep) -> Success[Page[PaymentMethodView]]:
    """List your payment methods, newest first, removed ones included; finance sees the whole tenant's."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_payment_methods(
            connection, user_id=owner_filter(caller), before=page.before, limit=page.fetch
        )
    return success(page.page(rows, _view))


@router.delete("/{payment_method_id}", responses=errors(PaymentMethodNotFoundError))
async def remove(
    payment_method_id: Identifier, caller: Payer, services: ServicesDep
) -> Success[PaymentMethodView]:
    """Remove one of your payment methods; what it holds already is still collected or given back."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(_view(await remove_payment_method(connection, payment_method_id, caller.user_id)))
