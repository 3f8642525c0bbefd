"""The ledger as its owners read it: accounts, balances, postings, earnings."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from activities.records.earnings import EarningsSummary, earnings_of
from activities.records.ledger import find_account, list_accounts, list_postings, trial_balance
from activities.records.statements import (
    AccountStatement,
    PlatformBalance,
    platform_balances,
    statements_of,
)
from api.authentication import requires
from api.envelope import Success, errors, success
from api.pagination import InvalidCursorError, Page, PageDep
from api.scope import WHOLE_TENANT, may_see, owner_filter
from api.state import ServicesDep
from models.identifiers import Identifier
from models.identity import Permission, Principal
from models.ledger import (
    PLATFORM_TENANT,
    AccountKind,
    AccountNotFoundError,
    LedgerAccount,
    LedgerPosting,
    NotPlatformFinanceError,
    PostingPurpose,
    StatementPeriodError,
    TransactionKind,
    TrialBalance,
)
from models.money import exponent_of

router = APIRouter(tags=["ledger"])

Reader = Annotated[Principal, Depends(requires(Permission.LEDGER_READ))]


class Account(BaseModel):
    """An account with its balance in minor units."""

    account_id: str
    kind: AccountKind
    owner_id: str
    currency: str
    exponent: int
    balance: int
    postings: int
    created_at: datetime


class Posting(BaseModel):
    """One line on an account. Amounts in minor units; positive raises the balance."""

    transaction_id: str
    seq: int
    kind: TransactionKind
    purpose: PostingPurpose
    amount: int
    currency: str
    balance_after: int
    execution_id: str | None
    agent_id: str | None
    created_at: datetime


def _account(row: LedgerAccount) -> Account:
    return Account(
        account_id=row.id,
        kind=row.kind,
        owner_id=row.owner_id,
        currency=row.currency,
        exponent=exponent_of(row.currency),
        balance=row.balance,
        postings=row.last_seq,
        created_at=row.created_at,
    )


def _posting(row: LedgerPosting) -> Posting:
    return Posting(
        transaction_id=row.transaction_id,
        seq=row.account_seq,
        kind=row.transaction_kind,
        purpose=row.purpose,
        amount=row.amount,
        currency=row.currency,
        balance_after=row.balance_after,
        execution_id=row.execution_id,
        agent_id=row.agent_id,
        created_at=row.created_at,
    )


@router.get("/ledger/accounts", responses=errors(InvalidCursorError))
async def accounts(caller: Reader, services: ServicesDep, page: PageDep) -> Success[Page[Account]]:
    """List your accounts with their balances; finance and administrators see the whole tenant's."""
    async with services.database.tenant(caller.tenant_id) as connection:
        rows = await list_accounts(
            connection, owner_id=owner_filter(caller), before=page.before, limit=page.fetch
        )
    return success(page.page(rows, _account))


@router.get("/ledger/accounts/{account_id}", responses=errors(AccountNotFoundError))
async def account(account_id: Identifier, caller: Reader, services: ServicesDep) -> Success[Account]:
    """Read one account."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_account(connection, account_id)
    if not may_see(caller, row.owner_id):
        raise AccountNotFoundError(account_id)
    return success(_account(row))


@router.get("/ledger/accounts/{account_id}/postings", responses=errors(AccountNotFoundError))
async def postings(
    account_id: Identifier,
    caller: Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100, description="Entries per page.")] = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,16}$", description="`next_cursor` of the page before.")
    ] = None,
) -> Success[Page[Posting]]:
    """List an account's postings, newest first; each says the balance after it."""
    async with services.database.tenant(caller.tenant_id) as connection:
        row = await find_account(connection, account_id)
        if not may_see(caller, row.owner_id):
            raise AccountNotFoundError(account_id)
        rows = await list_postings(
            connection, account_id, before_seq=None if cursor is None else int(cursor), limit=limit + 1
        )
    shown = [_posting(each) for each in rows[:limit]]
    return success(Page[Posting](items=shown, next_cursor=str(shown[-1].seq) if len(rows) > limit else None))


@router.get("/earnings")
async def earnings(caller: Reader, services: ServicesDep) -> Success[EarningsSummary]:
    """Read what your agents have earned, per currency and agent."""
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(await earnings_of(connection, caller.user_id))


@router.get("/ledger/trial-balance", responses=errors(NotPlatformFinanceError))
async def read_trial_balance(caller: Reader, services: ServicesDep) -> Success[list[TrialBalance]]:
    """Add up the books of all tenants, for the platform's finance people; both sums are zero."""
    if caller.tenant_id != PLATFORM_TENANT or not caller.roles & WHOLE_TENANT:
        raise NotPlatformFinanceError
    async with services.database.platform() as connection:
        return success(await trial_balance(connection))


@router.get("/ledger/statement", responses=errors(StatementPeriodError))
async def statement(
    caller: Reader,
    services: ServicesDep,
    start: Annotated[date, Query(alias="from", description="First day, UTC.")],
    end: Annotated[date, Query(alias="to", description="First day that does not count any more, UTC.")],
) -> Success[list[AccountStatement]]:
    """Add up your accounts between two days: opening, movements by kind, closing.

    Finance and administrators get the whole tenant's; the platform's own get the platform's.
    """
    if start >= end:
        raise StatementPeriodError
    async with services.database.tenant(caller.tenant_id) as connection:
        return success(
            await statements_of(
                connection, start=_midnight(start), end=_midnight(end), owner_id=owner_filter(caller)
            )
        )


@router.get("/ledger/platform", responses=errors(NotPlatformFinanceError))
async def platform(caller: Reader, services: ServicesDep) -> Success[list[PlatformBalance]]:
    """Read the platform's own accounts, crowded ones added up over their stripes (the platform's finance)."""
    if caller.tenant_id != PLATFORM_TENANT or not caller.roles & WHOLE_TENANT:
        raise NotPlatformFinanceError
    async with services.database.platform() as connection:
        return success(await platform_balances(connection))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
