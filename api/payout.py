"""Payouts: what a developer was sent, where it goes, and finance's side of it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.payout import claim_again, plan_run, reverse_payout
from activities.records.payees import (
    flag_payee,
    list_beneficiaries,
    register_beneficiary,
    verify_beneficiary,
)
from activities.records.payout import find_payout, list_payouts, statement_of
from api.authentication import requires
from api.envelope import Success, errors, success
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.pagination import InvalidCursorError, Page, PageDep
from api.scope import WHOLE_TENANT, may_see, owner_filter
from api.state import ServicesDep
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.ledger import PLATFORM_TENANT
from models.payout import (
    BeneficiaryNotFoundError,
    BeneficiaryView,
    PayeeFlags,
    PayeeView,
    PayoutNotFoundError,
    PayoutNotRetryableError,
    PayoutNotReversibleError,
    PayoutRow,
    PayoutRunBody,
    PayoutRunRequest,
    PayoutRunStarted,
    PayoutStart,
    PayoutState,
    PayoutStatus,
    PayoutView,
    Period,
    PlannedPayout,
    PlatformFinanceError,
    RegisterBeneficiary,
    ReversePayout,
    Statement,
    UnknownPeriodError,
    cut_off,
    period_of,
)
from models.run import RunKind, RunStatus
from models.search_attributes import run_attributes
from models.table import utc_now
from models.task_queues import TaskQueue
from workflows.payout import Payout, PayoutRun

router = APIRouter(tags=["payouts"])

Reader = Annotated[Principal, Depends(requires(Permission.LEDGER_READ))]
Writer = Annotated[Principal, Depends(requires(Permission.PAYOUTS_WRITE))]


PathName = Annotated[str, Path(min_length=1, max_length=200)]


def _finance(caller: Writer) -> Principal:
    if caller.tenant_id != PLATFORM_TENANT or not caller.roles & WHOLE_TENANT:
        raise PlatformFinanceError
    return caller


Finance = Annotated[Principal, Depends(_finance)]
"""The platform's own finance people: they pay the developers of all tenants."""


def _is_platform(caller: Principal) -> bool:
    return caller.tenant_id == PLATFORM_TENANT and bool(caller.roles & WHOLE_TENANT)


def _view(row: PayoutRow, statement: Statement | None = None) -> PayoutView:
    return PayoutView(
        payout_id=row.id,
        developer_id=row.developer_id,
        earned_as=row.earned_as,
        period=row.period,
        number=row.number,
        reference=row.reference,
        amount=row.amount,
        currency=row.currency,
        status=row.status,
        rail=row.rail,
        provider_ref=row.provider_ref,
        failure_code=row.failure_code,
        created_at=row.created_at,
        paid_at=row.paid_at,
        statement=statement,
    )


@router.get("/payouts", responses=errors(InvalidCursorError))
async def payouts(
    caller: Reader,
    services: ServicesDep,
    page: PageDep,
    period: Annotated[Period | None, Query(description="Only this ISO week's.")] = None,
    status: Annotated[PayoutStatus | None, Query(description="Only those that stand so.")] = None,
) -> Success[Page[PayoutView]]:
    """List your payouts, newest first; the platform's finance people see everybody's."""
    everybody = _is_platform(caller)
    opened = services.database.platform() if everybody else services.database.tenant(caller.tenant_id)
    async with opened as connection:
        rows = await list_payouts(
            connection,
            developer_id=owner_filter(caller),
            before=page.before,
            limit=page.fetch,
            period=period,
            status=status,
        )
    return success(page.page(rows, _view))


@router.get("/payouts/{payout_id}", responses=errors(PayoutNotFoundError))
async def payout(payout_id: Identifier, caller: Reader, services: ServicesDep) -> Success[PayoutView]:
    """Read one payout with the statement of the account since the payout before it."""
    everybody = _is_platform(caller)
    opened = services.database.platform() if everybody else services.database.tenant(caller.tenant_id)
    async with opened as connection:
        row = await find_payout(connection, payout_id)
        if not everybody and not may_see(caller, row.developer_id):
            raise PayoutNotFoundError(payout_id)
        return success(_view(row, await statement_of(connection, row)))


@router.post(
    "/payouts/{payout_id}/retry",
    status_code=202,
    response_model=Success[PayoutView],
    responses=errors(
        PayoutNotFoundError,
        PayoutNotRetryableError,
        PlatformFinanceError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def retry(payout_id: Identifier, _: Finance, services: ServicesDep, once: OnceDep) -> Response:
    """Pay what a failed or reversed payout gave back, as the next attempt of its period (finance)."""

    async def work(_: str) -> Success[PayoutView]:
        async with services.database.platform() as connection:
            row = await claim_again(connection, payout_id, services.settings.payout_maturity_days)
        # A crash here is made up for by the period's next run, which starts what was claimed and not sent.
        await _start(services.temporal, row)
        return success(_view(row))

    return await once.answer("payout", work)


@router.post(
    "/payouts/{payout_id}/reverse",
    response_model=Success[PayoutState],
    responses=errors(
        PayoutNotFoundError,
        PayoutNotReversibleError,
        PlatformFinanceError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def reverse(
    payout_id: Identifier, body: ReversePayout, _: Finance, services: ServicesDep, once: OnceDep
) -> Response:
    """Record that the bank sent a paid payout back; its amount is payable again (finance)."""

    async def work(_: str) -> Success[PayoutState]:
        async with services.database.platform() as connection:
            return success(await reverse_payout(connection, payout_id, body.reason))

    return await once.answer("payout", work)


@router.post(
    "/payout-runs",
    status_code=202,
    response_model=Success[PayoutRunStarted],
    responses=errors(
        PlatformFinanceError, UnknownPeriodError, IdempotencyKeyReusedError, IdempotencyInProgressError
    ),
)
async def run(body: PayoutRunBody, _: Finance, services: ServicesDep, once: OnceDep) -> Response:
    """Start a payout run now (finance); of one period, any number of runs make one payout each."""

    async def work(_: str) -> Success[PayoutRunStarted]:
        period = _past(body.period)
        handle = await services.temporal.start_workflow(
            PayoutRun.run,
            PayoutRunRequest(period=period),
            id=f"payout-run/{period}",
            task_queue=TaskQueue.CORE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=f"payouts of {period}",
            search_attributes=run_attributes(
                tenant_id=PLATFORM_TENANT,
                kind=RunKind.PAYOUT,
                status=RunStatus.PENDING,
                subject=period,
                correlation_id=f"payouts-{period}",
            ),
        )
        return success(PayoutRunStarted(period=period, workflow_id=handle.id))

    return await once.answer("payout", work)


@router.get("/payout-runs/plan", responses=errors(PlatformFinanceError, UnknownPeriodError))
async def plan(
    _: Finance,
    services: ServicesDep,
    period: Annotated[Period | None, Query(description="The present ISO week where it is left out.")] = None,
) -> Success[list[PlannedPayout]]:
    """Tell what a run of the period would do with every balance, and change nothing (finance)."""
    return success(await plan_run(services.database, _past(period), services.settings.payout_maturity_days))


@router.get("/beneficiaries")
async def beneficiaries(caller: Reader, services: ServicesDep) -> Success[list[BeneficiaryView]]:
    """List where your money goes; the platform's finance people see everybody's."""
    everybody = _is_platform(caller)
    opened = services.database.platform() if everybody else services.database.tenant(caller.tenant_id)
    async with opened as connection:
        return success(await list_beneficiaries(connection, owner_filter(caller)))


@router.post(
    "/beneficiaries",
    status_code=201,
    response_model=Success[BeneficiaryView],
    responses=errors(IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def register(
    body: RegisterBeneficiary, caller: Writer, services: ServicesDep, once: OnceDep
) -> Response:
    """Register where your money in a currency goes; it is paid there once finance has verified it."""

    async def work(_: str) -> Success[BeneficiaryView]:
        async with services.database.tenant(caller.tenant_id) as connection:
            return success(await register_beneficiary(connection, caller.tenant_id, caller.user_id, body))

    return await once.answer("beneficiary", work)


@router.post(
    "/beneficiaries/{beneficiary_id}/verify",
    response_model=Success[BeneficiaryView],
    responses=errors(
        BeneficiaryNotFoundError,
        PlatformFinanceError,
        IdempotencyKeyReusedError,
        IdempotencyInProgressError,
    ),
)
async def verify(
    beneficiary_id: Identifier, caller: Finance, services: ServicesDep, once: OnceDep
) -> Response:
    """Allow payouts to a beneficiary (finance)."""

    async def work(_: str) -> Success[BeneficiaryView]:
        async with services.database.platform() as connection:
            return success(await verify_beneficiary(connection, beneficiary_id, caller.user_id))

    return await once.answer("beneficiary", work)


@router.put("/payees/{tenant_id}/{user_id}", responses=errors(PlatformFinanceError))
async def flag(
    tenant_id: PathName,
    user_id: PathName,
    body: PayeeFlags,
    caller: Finance,
    services: ServicesDep,
) -> Success[PayeeView]:
    """Say whether a developer is known (KYC) and whether their money is held back (finance)."""
    async with services.database.platform() as connection:
        return success(await flag_payee(connection, tenant_id, user_id, body, caller.user_id))


def _past(period: str | None) -> str:
    chosen = period or period_of(utc_now())
    if cut_off(chosen) > utc_now():
        raise UnknownPeriodError(chosen)
    return chosen


async def _start(temporal: Client, row: PayoutRow) -> None:
    try:
        await temporal.start_workflow(
            Payout.run,
            PayoutStart(payout_id=row.id, tenant_id=row.tenant_id, period=row.period),
            id=f"payout/{row.id}",
            task_queue=TaskQueue.CORE,
            static_summary=f"payout {row.period}",
            search_attributes=run_attributes(
                tenant_id=row.tenant_id,
                kind=RunKind.PAYOUT,
                status=RunStatus.PENDING,
                subject=row.period,
                correlation_id=f"payouts-{row.period}",
            ),
        )
    except WorkflowAlreadyStartedError:
        return
