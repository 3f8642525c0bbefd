"""Payouts in the store: the claim, the only writer of ``payouts``, and what finance reads.

Lock order of a claim: every ledger account it may touch, by identifier, in one statement; then the rows of
its payouts. All that posts takes accounts in that order, so a claim and settlements wait, and never deadlock.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from activities.records.database import Connection
from activities.records.ledger import open_accounts, post_all
from models.canonical import canonical_json
from models.identifiers import new_identifier
from models.ledger import (
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    platform_account,
)
from models.payout import (
    Payable,
    PayoutInstruction,
    PayoutNotFoundError,
    PayoutRow,
    PayoutStatus,
    RollOver,
    Statement,
    in_transit_account,
    judge,
    matured_before,
    payable_account,
    payout_reference,
)

_CANDIDATES = """
SELECT id, tenant_id, owner_id, currency FROM ledger_accounts
WHERE kind IN ('developer_payable', 'orchestrator_payable') AND id > %s AND balance <> 0 ORDER BY id LIMIT %s
"""

_LOCK = "SELECT lock_ledger_accounts(%s)"

# What came after the cut takes from the amount (claims, refunds) and never adds to it, except for payouts
# that came back. `balance_after` is exact for every posting, so nobody has to add revenue up.
_PAYABLES = """
SELECT a.id AS account_id, a.tenant_id, a.owner_id, a.currency,
       CASE a.kind WHEN 'orchestrator_payable' THEN 'orchestrator' ELSE 'developer' END AS earned_as,
       (coalesce(cut.balance_after, 0) + coalesce(later.amount, 0))::bigint AS amount,
       coalesce(cut.account_seq, 0) AS through_seq,
       coalesce(e.kyc_status, 'unverified') AS kyc_status, coalesce(e.held, false) AS held,
       b.id AS beneficiary_id, b.status AS beneficiary_status, b.rail, b.destination,
       coalesce(o.attempts, 0) AS attempts, coalesce(o.live, false) AS live
FROM ledger_accounts a
LEFT JOIN LATERAL (
    SELECT account_seq, balance_after FROM ledger_postings
    WHERE account_id = a.id AND created_at < %(before)s ORDER BY account_seq DESC LIMIT 1
) cut ON true
LEFT JOIN LATERAL (
    SELECT sum(amount) AS amount FROM ledger_postings
    WHERE account_id = a.id AND account_seq > coalesce(cut.account_seq, 0)
      AND (amount < 0 OR transaction_kind = 'payout_return')
) later ON true
LEFT JOIN payees e ON e.tenant_id = a.tenant_id AND e.user_id = a.owner_id
LEFT JOIN beneficiaries b ON b.tenant_id = a.tenant_id AND b.user_id = a.owner_id
    AND b.currency = a.currency AND b.status <> 'retired'
LEFT JOIN LATERAL (
    SELECT max(number) AS attempts, bool_or(status NOT IN ('failed', 'reversed')) AS live FROM payouts
    WHERE account_id = a.id AND period = %(period)s
) o ON true
WHERE a.id = ANY(%(accounts)s)
ORDER BY a.id
"""

_INSERT = """
INSERT INTO payouts (id, tenant_id, developer_id, earned_as, currency, period, number, reference, account_id,
                     amount, through_seq, beneficiary_id, rail, request_body, status)
VALUES (%(id)s, %(tenant_id)s, %(developer_id)s, %(earned_as)s, %(currency)s, %(period)s, %(number)s,
        %(reference)s, %(account_id)s, %(amount)s, %(through_seq)s, %(beneficiary_id)s, %(rail)s,
        %(request_body)s, 'claimed')
"""

_ROLL_OVER = """
INSERT INTO payout_roll_overs (period, account_id, tenant_id, developer_id, currency, amount, reason)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (period, account_id) DO UPDATE
SET amount = excluded.amount, reason = excluded.reason, created_at = now()
"""

_UPDATE = """
UPDATE payouts SET status = %(status)s, attempts = %(attempts)s, provider_ref = %(provider_ref)s,
    failure_code = %(failure_code)s, failure_message = %(failure_message)s,
    unknown_reason = %(unknown_reason)s,
    submitted_at = coalesce(submitted_at, CASE WHEN %(attempts)s > 0 THEN now() END),
    paid_at = coalesce(paid_at, CASE WHEN %(status)s = 'paid' THEN now() END),
    ended_at = CASE WHEN %(status)s IN ('paid', 'failed', 'reversed') THEN now() END
WHERE id = %(id)s
"""


class AccountSlice:
    """Payable accounts in the order of their identifiers."""

    def __init__(self, rows: Sequence[dict[str, Any]], size: int) -> None:
        """Hold ``rows``, of at most ``size``."""
        self.ids = [str(row["id"]) for row in rows]
        self.transit = [
            in_transit_account(row["tenant_id"], row["owner_id"], row["currency"]) for row in rows
        ]
        self.last = self.ids[-1] if len(self.ids) == size else None


async def single_account(connection: Connection, account_id: str) -> AccountSlice:
    """Read one payable account as a slice of its own."""
    cursor = await connection.execute(
        "SELECT id, tenant_id, owner_id, currency FROM ledger_accounts WHERE id = %s", [account_id]
    )
    return AccountSlice(await cursor.fetchall(), 2)


async def slice_of_accounts(connection: Connection, after: str, size: int) -> AccountSlice:
    """Read the next payable accounts that are not at zero, in the order of their identifiers."""
    cursor = await connection.execute(_CANDIDATES, [after, size])
    return AccountSlice(await cursor.fetchall(), size)


async def read_payables(
    connection: Connection, accounts: Sequence[str], period: str, maturity_days: int
) -> list[Payable]:
    """Read what the accounts may pay out in ``period``, without locking them."""
    cursor = await connection.execute(
        _PAYABLES,
        {
            "accounts": list(accounts),
            "period": period,
            "before": matured_before(period, maturity_days),
        },
    )
    return [Payable.model_validate(row) for row in await cursor.fetchall()]


async def claim(
    connection: Connection,
    found: AccountSlice,
    period: str,
    maturity_days: int,
    *,
    retry: bool = False,
) -> tuple[list[PayoutRow], list[tuple[Payable, RollOver]]]:
    """Judge the accounts under their locks and claim what is due, in the caller's platform transaction.

    Safe to repeat and to overlap: a developer with a payout in the period that has not failed is left
    alone.

    Returns:
        The new payouts, and what rolls over with its reason.
    """
    await open_accounts(connection, found.transit)
    await connection.execute(_LOCK, [found.ids + [key.id for key in found.transit]])
    payouts: list[PayoutRow] = []
    rolled: list[tuple[Payable, RollOver]] = []
    for payable in await read_payables(connection, found.ids, period, maturity_days):
        if payable.live:
            continue
        reason = judge(payable, retry=retry)
        if reason is None:
            payouts.append(_payout(payable, period))
        else:
            rolled.append((payable, reason))
    async with connection.cursor() as cursor:
        if payouts:
            await cursor.executemany(_INSERT, [row.model_dump() for row in payouts])
        if rolled:
            await cursor.executemany(
                _ROLL_OVER,
                [
                    (period, each.account_id, each.tenant_id, each.owner_id, each.currency, each.amount, why)
                    for each, why in rolled
                ],
            )
    if payouts:
        await post_all(connection, [_claimed(row) for row in payouts])
    return payouts, rolled


def _payout(payable: Payable, period: str) -> PayoutRow:
    assert payable.beneficiary_id is not None, "judged to have a beneficiary"
    assert payable.rail is not None
    assert payable.destination is not None
    number = payable.attempts + 1
    reference = payout_reference(payable, period, number)
    instruction = PayoutInstruction(
        reference=reference,
        amount=payable.amount,
        currency=payable.currency,
        destination=payable.destination,
        tenant_id=payable.tenant_id,
        user_id=payable.owner_id,
    )
    return PayoutRow(
        id=new_identifier("payout"),
        tenant_id=payable.tenant_id,
        developer_id=payable.owner_id,
        earned_as=payable.earned_as,
        currency=payable.currency,
        period=period,
        number=number,
        reference=reference,
        account_id=payable.account_id,
        amount=payable.amount,
        through_seq=payable.through_seq,
        beneficiary_id=payable.beneficiary_id,
        rail=payable.rail,
        request_body=canonical_json(instruction.model_dump(mode="json")),
    )


def _claimed(row: PayoutRow) -> NewTransaction:
    return _movement(
        row,
        TransactionKind.PAYOUT_CLAIM,
        (AccountKind.DEVELOPER_PAYABLE, -row.amount),
        (AccountKind.PAYOUT_IN_TRANSIT, row.amount),
    )


def _movement(row: PayoutRow, kind: TransactionKind, *lines: tuple[AccountKind, int]) -> NewTransaction:
    keys = {
        AccountKind.DEVELOPER_PAYABLE: payable_account(
            row.tenant_id, row.developer_id, row.currency, row.earned_as
        ),
        AccountKind.PAYOUT_IN_TRANSIT: in_transit_account(row.tenant_id, row.developer_id, row.currency),
        AccountKind.BANK: platform_account(AccountKind.BANK, row.currency),
    }
    return NewTransaction(
        kind=kind,
        reference=f"{kind}:{row.id}",
        tenant_id=row.tenant_id,
        postings=[
            NewPosting(account=keys[account], amount=amount, purpose=PostingPurpose.PAYOUT)
            for account, amount in lines
        ],
    )


def left(row: PayoutRow) -> NewTransaction:
    """Return the movement of a payout that was paid: out of transit, to the bank."""
    return _movement(
        row,
        TransactionKind.PAYOUT,
        (AccountKind.PAYOUT_IN_TRANSIT, -row.amount),
        (AccountKind.BANK, row.amount),
    )


def returned(row: PayoutRow, source: AccountKind) -> NewTransaction:
    """Return the movement that makes a payout's money payable again; its reference posts once.

    Args:
        row: A payout that failed or was reversed.
        source: Where the money is: in transit, or at the bank again.
    """
    return _movement(
        row,
        TransactionKind.PAYOUT_RETURN,
        (source, -row.amount),
        (AccountKind.DEVELOPER_PAYABLE, row.amount),
    )


async def lock_payout(connection: Connection, payout_id: str) -> PayoutRow:
    """Read one payout and hold its row lock.

    Raises:
        PayoutNotFoundError: It does not exist.
    """
    cursor = await connection.execute("SELECT * FROM payouts WHERE id = %s FOR UPDATE", [payout_id])
    row = await cursor.fetchone()
    if row is None:
        raise PayoutNotFoundError(payout_id)
    return PayoutRow.model_validate(row)


async def find_payout(connection: Connection, payout_id: str) -> PayoutRow:
    """Read one payout.

    Raises:
        PayoutNotFoundError: It does not exist where the transaction looks.
    """
    cursor = await connection.execute("SELECT * FROM payouts WHERE id = %s", [payout_id])
    row = await cursor.fetchone()
    if row is None:
        raise PayoutNotFoundError(payout_id)
    return PayoutRow.model_validate(row)


async def update_payout(connection: Connection, row: PayoutRow) -> None:
    """Write the row's status and what the rail said; times are the database's own."""
    await connection.execute(_UPDATE, row.model_dump())


async def claimed_in(connection: Connection, period: str, after: str, last: str | None) -> list[PayoutRow]:
    """Read a period's payouts that were not sent yet, of the accounts behind ``after`` up to ``last``.

    By account and not by balance: a claim that was made before leaves its account at zero.
    """
    cursor = await connection.execute(
        "SELECT * FROM payouts WHERE period = %(period)s AND status = %(status)s "
        "AND account_id > %(after)s AND (%(last)s::text IS NULL OR account_id <= %(last)s) ORDER BY id",
        {"period": period, "status": PayoutStatus.CLAIMED, "after": after, "last": last},
    )
    return [PayoutRow.model_validate(row) for row in await cursor.fetchall()]


async def paid_lately(connection: Connection, *, days: int, limit: int) -> list[PayoutRow]:
    """Read payouts that an outside rail paid within so many days, newest first, in a platform transaction."""
    cursor = await connection.execute(
        "SELECT * FROM payouts WHERE status = %s AND rail <> 'wallet' "
        "AND paid_at > now() - make_interval(days => %s) ORDER BY paid_at DESC LIMIT %s",
        [PayoutStatus.PAID, days, limit],
    )
    return [PayoutRow.model_validate(row) for row in await cursor.fetchall()]


async def list_payouts(
    connection: Connection,
    *,
    developer_id: str | None,
    before: tuple[datetime, str] | None,
    limit: int,
    period: str | None = None,
    status: PayoutStatus | None = None,
) -> list[PayoutRow]:
    """Read payouts, newest first; ``developer_id`` limits them to one developer's."""
    at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        "SELECT * FROM payouts WHERE (%(developer)s::text IS NULL OR developer_id = %(developer)s) "
        "AND (%(period)s::text IS NULL OR period = %(period)s) "
        "AND (%(status)s::text IS NULL OR status = %(status)s) "
        "AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(id)s)) "
        "ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        {
            "developer": developer_id,
            "period": period,
            "status": status,
            "at": at,
            "id": identifier,
            "limit": limit,
        },
    )
    return [PayoutRow.model_validate(row) for row in await cursor.fetchall()]


async def statement_of(connection: Connection, row: PayoutRow) -> Statement:
    """Add the developer's account up from the payout before to this one; it re-adds to the ledger."""
    cursor = await connection.execute(
        """
        WITH claimed AS (
            SELECT p.account_seq AS seq FROM ledger_postings p
            JOIN ledger_transactions t ON t.id = p.transaction_id
            WHERE p.account_id = %(account)s AND t.reference = %(reference)s
        ), start AS (
            SELECT coalesce(max(p.account_seq), 0) AS seq FROM ledger_postings p, claimed
            WHERE p.account_id = %(account)s AND p.transaction_kind = 'payout_claim'
              AND p.account_seq < claimed.seq
        ), moved AS (
            SELECT p.amount, p.transaction_kind AS kind FROM ledger_postings p, start, claimed
            WHERE p.account_id = %(account)s AND p.account_seq > start.seq AND p.account_seq <= claimed.seq
        )
        SELECT coalesce((SELECT balance_after FROM ledger_postings, start
                         WHERE account_id = %(account)s AND account_seq = start.seq), 0) AS opening,
               coalesce(sum(amount) FILTER (WHERE kind = 'settlement'), 0)::bigint AS earned,
               coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0)::bigint AS refunded,
               coalesce(sum(amount) FILTER (WHERE kind = 'payout_claim'), 0)::bigint AS paid_out,
               coalesce(sum(amount) FILTER (WHERE kind = 'payout_return'), 0)::bigint AS returned,
               (SELECT balance_after FROM ledger_postings, claimed
                WHERE account_id = %(account)s AND account_seq = claimed.seq) AS closing
        FROM moved
        """,
        {"account": row.account_id, "reference": f"{TransactionKind.PAYOUT_CLAIM}:{row.id}"},
    )
    found = await cursor.fetchone()
    assert found is not None, "a payout exists with its claim"
    return Statement.model_validate(found)


async def transfer_once(connection: Connection, instruction: PayoutInstruction) -> bool:
    """Record a transfer to an outside account; False where the reference stands for another one."""
    facts = instruction.model_dump()
    await connection.execute(
        "INSERT INTO bank_transfers (reference, tenant_id, amount, currency, destination) "
        "VALUES (%(reference)s, %(tenant_id)s, %(amount)s, %(currency)s, %(destination)s) "
        "ON CONFLICT (reference) DO NOTHING",
        facts,
    )
    cursor = await connection.execute(
        "SELECT FROM bank_transfers WHERE reference = %(reference)s AND amount = %(amount)s "
        "AND currency = %(currency)s AND destination = %(destination)s",
        facts,
    )
    return await cursor.fetchone() is not None


async def transfer_amount(connection: Connection, reference: str) -> int | None:
    """Return the amount of a recorded transfer, None where there is none."""
    cursor = await connection.execute("SELECT amount FROM bank_transfers WHERE reference = %s", [reference])
    row = await cursor.fetchone()
    return None if row is None else int(row["amount"])
