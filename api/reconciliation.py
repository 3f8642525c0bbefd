"""Cases of the reconciliation: finance reads the evidence and resolves them."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from activities.reconciliation import reconcile_books, reconcile_statement
from activities.records.money_health import MoneyHealth, money_health
from activities.records.reconciliation import list_cases, resolve_case
from api.envelope import Success, errors, success
from api.idempotency import IdempotencyInProgressError, IdempotencyKeyReusedError, OnceDep
from api.payout import Finance
from api.state import ServicesDep
from models.identifiers import Identifier
from models.payout import PlatformFinanceError
from models.reconciliation import (
    CaseNotFoundError,
    CaseView,
    RailStatement,
    ReconciliationSummary,
    ResolveCase,
)

router = APIRouter(prefix="/reconciliation", tags=["reconciliation"])


@router.get("/cases", responses=errors(PlatformFinanceError))
async def cases(
    _: Finance,
    services: ServicesDep,
    resolved: Annotated[bool, Query(description="Those that were resolved instead.")] = False,
) -> Success[list[CaseView]]:
    """List what the books disagree on, oldest first (the platform's finance)."""
    async with services.database.platform() as connection:
        return success(await list_cases(connection, resolved=resolved))


@router.post(
    "/cases/{case_id}/resolve",
    response_model=Success[CaseView],
    responses=errors(
        CaseNotFoundError, PlatformFinanceError, IdempotencyKeyReusedError, IdempotencyInProgressError
    ),
)
async def resolve(
    case_id: Identifier, body: ResolveCase, caller: Finance, services: ServicesDep, once: OnceDep
) -> Response:
    """Close a case with what was found; a disagreement that goes on opens another one."""

    async def work(_: str) -> Success[CaseView]:
        async with services.database.platform() as connection:
            return success(await resolve_case(connection, case_id, body.resolution, caller.user_id))

    return await once.answer("reconciliation_case", work)


@router.post(
    "/runs",
    response_model=Success[ReconciliationSummary],
    responses=errors(PlatformFinanceError, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def run(_: Finance, services: ServicesDep, once: OnceDep) -> Response:
    """Compare the books now; what disagrees becomes a case."""

    async def work(_: str) -> Success[ReconciliationSummary]:
        return success(await reconcile_books(services.database))

    return await once.answer("reconciliation_case", work)


@router.post(
    "/statements",
    response_model=Success[ReconciliationSummary],
    responses=errors(PlatformFinanceError, IdempotencyKeyReusedError, IdempotencyInProgressError),
)
async def take_statement(body: RailStatement, _: Finance, services: ServicesDep, once: OnceDep) -> Response:
    """Compare a rail's statement with our records and the ledger; what disagrees becomes a case."""

    async def work(_: str) -> Success[ReconciliationSummary]:
        return success(await reconcile_statement(services.database, body))

    return await once.answer("reconciliation_case", work)


@router.get("/health", responses=errors(PlatformFinanceError))
async def health(_: Finance, services: ServicesDep) -> Success[MoneyHealth]:
    """Read what waits: the age of the oldest open question to a rail, money in suspense and in transit."""
    async with services.database.platform() as connection:
        return success(await money_health(connection))
