"""The only writer of the ledger. Balances and floors are kept by the database (migration 0003).

Lock order: accounts by identifier. A database transaction posts once; two posts in one could take
accounts out of that order and meet another transaction head-on.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from activities.records.database import Connection
from models.identifiers import new_identifier
from models.ledger import (
    FLOORS,
    AccountFloorError,
    AccountKey,
    AccountLimitError,
    AccountNotFoundError,
    LedgerAccount,
    LedgerPosting,
    NewTransaction,
    TransactionMismatchError,
    TrialBalance,
    UnbalancedTransactionError,
)
from models.money import MAX_AMOUNT

_OPEN = """
INSERT INTO ledger_accounts (id, tenant_id, kind, owner_id, currency, qualifier, floor)
SELECT * FROM unnest(%(ids)s::text[], %(tenants)s::text[], %(kinds)s::text[], %(owners)s::text[],
                     %(currencies)s::text[], %(qualifiers)s::text[], %(floors)s::bigint[]) AS a (id)
ORDER BY id
ON CONFLICT DO NOTHING
"""

_TRANSACTION = """
INSERT INTO ledger_transactions (id, tenant_id, kind, reference, execution_id, agent_id, description, meta,
                                 created_at)
VALUES (%(id)s, %(tenant_id)s, %(kind)s, %(reference)s, %(execution_id)s, %(agent_id)s, %(description)s,
        %(meta)s, now())
ON CONFLICT (reference) DO NOTHING
RETURNING id
"""

# In the order of account ids: the posting trigger locks each account as its line comes.
_POSTINGS = """
INSERT INTO ledger_postings (transaction_id, position, account_id, amount, currency, purpose,
                             transaction_kind, execution_id, agent_id, agent_version)
SELECT %(id)s, p.position, p.account_id, p.amount, p.currency, p.purpose, %(kind)s, %(execution_id)s::text,
       %(agent_id)s, (SELECT convert_from(m.body, 'UTF8')::jsonb ->> 'code_version'
                      FROM settlements s JOIN mandates m ON m.id = s.mandate_id
                      WHERE s.execution_id = %(execution_id)s::text)
FROM unnest(%(account_ids)s::text[], %(amounts)s::bigint[], %(currencies)s::text[], %(purposes)s::text[])
     WITH ORDINALITY AS p (account_id, amount, currency, purpose, position)
ORDER BY p.account_id, p.position
"""

_POSTED = """
SELECT t.id, t.kind,
       array_agg(p.account_id || ' ' || p.amount || ' ' || p.purpose ORDER BY p.position) AS lines
FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id
WHERE t.reference = %s
GROUP BY t.id
"""


async def open_accounts(connection: Connection, keys: Sequence[AccountKey]) -> None:
    """Create the accounts that do not exist yet, with a balance of zero."""
    distinct = list({key.id: key for key in keys}.values())
    await connection.execute(
        _OPEN,
        {
            "ids": [key.id for key in distinct],
            "tenants": [key.tenant_id for key in distinct],
            "kinds": [key.kind for key in distinct],
            "owners": [key.owner_id for key in distinct],
            "currencies": [key.currency for key in distinct],
            "qualifiers": [key.qualifier for key in distinct],
            "floors": [FLOORS[key.kind] for key in distinct],
        },
    )


async def post(connection: Connection, transaction: NewTransaction) -> str:
    """Post a transaction in the caller's platform transaction; the same reference moves money once.

    Its accounts are created where they do not exist and locked, in the order of their identifiers, until
    the caller's transaction ends; of crowded accounts it takes one stripe (`models.ledger.STRIPED`), which
    `pooled_balance` adds up. After an error the caller's transaction cannot go on.

    Returns:
        Identifier of the transaction, the first one's where the reference was posted before.

    Raises:
        UnbalancedTransactionError: Fewer than two postings, a zero, or a sum other than zero.
        TransactionMismatchError: The reference was posted before with other lines.
        AccountFloorError: An account would fall below its floor.
        AccountLimitError: A balance would leave ±(2⁵³-1).
    """
    _check_balanced(transaction)
    keys = [posting.account.stripe(transaction.reference) for posting in transaction.postings]
    parameters: dict[str, Any] = {
        "id": new_identifier("ledger_transaction"),
        "tenant_id": transaction.tenant_id,
        "kind": transaction.kind,
        "reference": transaction.reference,
        "execution_id": transaction.execution_id,
        "agent_id": transaction.agent_id,
        "description": transaction.description,
        "meta": Jsonb(transaction.metadata),
        "account_ids": [key.id for key in keys],
        "amounts": [posting.amount for posting in transaction.postings],
        "currencies": [key.currency for key in keys],
        "purposes": [posting.purpose for posting in transaction.postings],
    }
    written = await (await connection.execute(_TRANSACTION, parameters)).fetchone()
    if written is None:
        return await _posted_before(connection, transaction)
    await open_accounts(connection, keys)
    try:
        await connection.execute(_POSTINGS, parameters)
    except psycopg.errors.CheckViolation as error:
        if error.diag.constraint_name == "ck_ledger_accounts_floor":
            lowest = min(transaction.postings, key=lambda posting: posting.amount)
            raise AccountFloorError(lowest.account.currency, -lowest.amount) from None
        raise AccountLimitError from None
    return str(written["id"])


def _check_balanced(transaction: NewTransaction) -> None:
    sums: defaultdict[str, int] = defaultdict(int)
    for posting in transaction.postings:
        if posting.amount == 0 or abs(posting.amount) > MAX_AMOUNT:
            raise UnbalancedTransactionError(transaction.reference)
        sums[posting.account.currency] += posting.amount
    if len(transaction.postings) < 2 or any(sums.values()):
        raise UnbalancedTransactionError(transaction.reference)


async def _posted_before(connection: Connection, transaction: NewTransaction) -> str:
    row = await (await connection.execute(_POSTED, [transaction.reference])).fetchone()
    striped, whole = (
        [
            f"{key.id} {line.amount} {line.purpose}"
            for key, line in zip(keys, transaction.postings, strict=True)
        ]
        for keys in (
            [line.account.stripe(transaction.reference) for line in transaction.postings],
            # As transactions were posted before accounts had stripes.
            [line.account for line in transaction.postings],
        )
    )
    if row is None or row["kind"] != transaction.kind or row["lines"] not in (striped, whole):
        raise TransactionMismatchError(transaction.reference)
    return str(row["id"])


async def pooled_balance(connection: Connection, key: AccountKey) -> int:
    """Add up an account with its stripes, in a platform transaction; zero where nothing was ever posted."""
    cursor = await connection.execute(
        "SELECT coalesce(sum(balance), 0)::bigint AS balance FROM ledger_accounts WHERE id = ANY(%s)",
        [[part.id for part in key.parts()]],
    )
    row = await cursor.fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row["balance"])


async def find_account(connection: Connection, account_id: str) -> LedgerAccount:
    """Read one account that the transaction may see.

    Raises:
        AccountNotFoundError: It does not exist there.
    """
    cursor = await connection.execute("SELECT * FROM ledger_accounts WHERE id = %s", [account_id])
    row = await cursor.fetchone()
    if row is None:
        raise AccountNotFoundError(account_id)
    return LedgerAccount.model_validate(row)


async def list_accounts(
    connection: Connection, *, owner_id: str | None, before: tuple[datetime, str] | None, limit: int
) -> list[LedgerAccount]:
    """Read accounts, newest first; ``owner_id`` limits them to one owner's."""
    created_at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        "SELECT * FROM ledger_accounts WHERE (%(owner)s::text IS NULL OR owner_id = %(owner)s) "
        "AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(before)s)) "
        "ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        {"owner": owner_id, "at": created_at, "before": identifier, "limit": limit},
    )
    return [LedgerAccount.model_validate(row) for row in await cursor.fetchall()]


async def list_postings(
    connection: Connection, account_id: str, *, before_seq: int | None = None, limit: int = 50
) -> list[LedgerPosting]:
    """Read an account's postings, newest first, from before the number ``before_seq``."""
    cursor = await connection.execute(
        "SELECT * FROM ledger_postings WHERE account_id = %s AND (%s::bigint IS NULL OR account_seq < %s) "
        "ORDER BY account_seq DESC LIMIT %s",
        [account_id, before_seq, before_seq, limit],
    )
    return [LedgerPosting.model_validate(row) for row in await cursor.fetchall()]


async def sums_by_currency(connection: Connection) -> dict[str, int]:
    """Return the sum of every posting per currency, all of them zero in a sound ledger (platform only)."""
    cursor = await connection.execute(
        "SELECT currency, sum(amount)::bigint AS total FROM ledger_postings GROUP BY currency"
    )
    return {row["currency"]: row["total"] for row in await cursor.fetchall()}


async def unsound_accounts(connection: Connection) -> list[str]:
    """Return the accounts whose balance or sequence is not that of their postings; none in a sound ledger."""
    cursor = await connection.execute(
        "SELECT a.id FROM ledger_accounts a LEFT JOIN ledger_postings p ON p.account_id = a.id GROUP BY a.id "
        "HAVING a.balance <> coalesce(sum(p.amount), 0) OR a.last_seq <> count(p.amount) "
        "OR a.last_seq <> coalesce(max(p.account_seq), 0)"
    )
    return [row["id"] for row in await cursor.fetchall()]


async def trial_balance(connection: Connection) -> list[TrialBalance]:
    """Add up every account and every posting, per currency, in a platform transaction.

    In balanced books the sum is zero twice: over the postings, and over the balances kept on the accounts.
    """
    cursor = await connection.execute(
        """
        SELECT a.currency, sum(a.balance) AS balances, count(*) AS accounts,
               coalesce(p.total, 0) AS postings_sum, coalesce(p.count, 0) AS postings
        FROM ledger_accounts a
        LEFT JOIN (
            SELECT currency, sum(amount) AS total, count(*) AS count FROM ledger_postings GROUP BY currency
        ) p ON p.currency = a.currency
        GROUP BY a.currency, p.total, p.count
        ORDER BY a.currency
        """
    )
    return [TrialBalance.model_validate(row) for row in await cursor.fetchall()]


_TRANSACTIONS = """
INSERT INTO ledger_transactions (id, tenant_id, kind, reference, description, meta, created_at)
SELECT t.id, t.tenant_id, t.kind, t.reference, '', '{}', now()
FROM unnest(%(ids)s::text[], %(tenants)s::text[], %(kinds)s::text[], %(references)s::text[])
     AS t (id, tenant_id, kind, reference)
"""

_ALL_POSTINGS = """
INSERT INTO ledger_postings (transaction_id, position, account_id, amount, currency, purpose,
                             transaction_kind)
SELECT p.* FROM unnest(%(transactions)s::text[], %(positions)s::int[], %(accounts)s::text[],
                       %(amounts)s::bigint[], %(currencies)s::text[], %(purposes)s::text[],
                       %(posting_kinds)s::text[])
     AS p (transaction_id, position, account_id, amount, currency, purpose, kind)
ORDER BY p.account_id, p.transaction_id, p.position
"""


async def post_all(connection: Connection, transactions: Sequence[NewTransaction]) -> None:
    """Post many new movements between accounts that exist, in two statements.

    The references must be new; for what may be repeated there is ``post``. Accounts are locked in the order
    of their identifiers, as everywhere.

    Raises:
        UnbalancedTransactionError: As ``post``.
        psycopg.errors.UniqueViolation: A reference was posted before; nothing was posted.
    """
    for transaction in transactions:
        _check_balanced(transaction)
    ids = [new_identifier("ledger_transaction") for _ in transactions]
    await connection.execute(
        _TRANSACTIONS,
        {
            "ids": ids,
            "tenants": [each.tenant_id for each in transactions],
            "kinds": [each.kind for each in transactions],
            "references": [each.reference for each in transactions],
        },
    )
    lines = [
        (identifier, position, line, transaction.kind)
        for identifier, transaction in zip(ids, transactions, strict=True)
        for position, line in enumerate(transaction.postings, start=1)
    ]
    await connection.execute(
        _ALL_POSTINGS,
        {
            "transactions": [identifier for identifier, _, _, _ in lines],
            "positions": [position for _, position, _, _ in lines],
            "accounts": [line.account.id for _, _, line, _ in lines],
            "amounts": [line.amount for _, _, line, _ in lines],
            "currencies": [line.account.currency for _, _, line, _ in lines],
            "purposes": [line.purpose for _, _, line, _ in lines],
            "posting_kinds": [kind for _, _, _, kind in lines],
        },
    )
