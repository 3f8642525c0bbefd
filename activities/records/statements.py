"""Statements: an account's movements between two moments, which re-add to the ledger to the minor unit."""

from datetime import datetime
from itertools import groupby

from pydantic import BaseModel

from activities.records.database import Connection
from models.ledger import PLATFORM_TENANT, AccountKind, TransactionKind


class StatementLine(BaseModel):
    """All movements of one kind."""

    kind: TransactionKind
    count: int
    amount: int
    """Minor units; positive raised the balance."""


class AccountStatement(BaseModel):
    """One kind of account in one currency: opening + the lines = closing, in minor units."""

    account: AccountKind
    rail: str
    """Which rail's, where accounts are kept per rail; empty otherwise."""
    currency: str
    opening: int
    lines: list[StatementLine]
    closing: int


class PlatformBalance(BaseModel):
    """One of the platform's own accounts, its stripes added up."""

    account: AccountKind
    rail: str
    currency: str
    balance: int
    postings: int


# The moment of a posting is the start of its transaction; what is before `from` is the opening, so the three
# figures re-add whatever committed in between.
_MOVED = """
SELECT a.kind AS account, split_part(a.qualifier, '#', 1) AS rail, a.currency,
       CASE WHEN p.created_at >= %(start)s THEN p.transaction_kind END AS moved,
       count(*) AS count, sum(p.amount)::bigint AS amount
FROM ledger_accounts a JOIN ledger_postings p ON p.account_id = a.id
WHERE p.created_at < %(end)s AND (%(owner)s::text IS NULL OR a.owner_id = %(owner)s)
  AND (%(tenant)s::text IS NULL OR a.tenant_id = %(tenant)s)
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4 NULLS FIRST
"""


async def statements_of(
    connection: Connection,
    *,
    start: datetime,
    end: datetime,
    owner_id: str | None = None,
    tenant_id: str | None = None,
) -> list[AccountStatement]:
    """Add up what moved from ``start`` to before ``end``.

    Args:
        connection: A tenant's transaction, or the platform's with ``tenant_id``.
        start: First moment that counts as movement; all before it is the opening balance.
        end: First moment that does not count any more.
        owner_id: Only this owner's accounts; None: all that the transaction sees.
        tenant_id: Only this tenant's.
    """
    cursor = await connection.execute(
        _MOVED, {"start": start, "end": end, "owner": owner_id, "tenant": tenant_id}
    )
    rows = await cursor.fetchall()
    found: list[AccountStatement] = []
    for (account, rail, currency), group in groupby(
        rows, key=lambda row: (row["account"], row["rail"], row["currency"])
    ):
        listed = list(group)
        opening = sum(row["amount"] for row in listed if row["moved"] is None)
        lines = [
            StatementLine(kind=row["moved"], count=row["count"], amount=row["amount"])
            for row in listed
            if row["moved"] is not None
        ]
        found.append(
            AccountStatement(
                account=account,
                rail=rail,
                currency=currency,
                opening=opening,
                lines=lines,
                closing=opening + sum(line.amount for line in lines),
            )
        )
    return found


async def platform_balances(connection: Connection) -> list[PlatformBalance]:
    """Read the platform's own accounts, stripes added up, in a platform transaction."""
    cursor = await connection.execute(
        "SELECT kind AS account, split_part(qualifier, '#', 1) AS rail, currency, "
        "sum(balance)::bigint AS balance, sum(last_seq)::bigint AS postings "
        "FROM ledger_accounts WHERE tenant_id = %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        [PLATFORM_TENANT],
    )
    return [PlatformBalance.model_validate(row) for row in await cursor.fetchall()]
