"""Wallets as their owners see them, and money put into them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from activities.records.database import Connection
from activities.records.ledger import open_accounts, post
from models.ledger import (
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    platform_account,
)
from models.money import exponent_of
from models.wallet import WalletNotFoundError, WalletView, hold_account, wallet_account

_WALLETS = """
SELECT w.id, w.tenant_id, w.owner_id, w.currency, w.balance, w.created_at, coalesce(h.balance, 0) AS held
FROM ledger_accounts w
LEFT JOIN ledger_accounts h ON h.tenant_id = w.tenant_id AND h.owner_id = w.owner_id
    AND h.currency = w.currency AND h.kind = %(hold)s
WHERE w.kind = %(wallet)s
"""

_KINDS = {"wallet": AccountKind.USER_WALLET, "hold": AccountKind.USER_HOLD}


async def open_wallet(connection: Connection, tenant_id: str, user_id: str, currency: str) -> WalletView:
    """Open the user's wallet in a currency, or return the one there is; a platform transaction."""
    wallet = wallet_account(tenant_id, user_id, currency)
    await open_accounts(connection, [wallet, hold_account(tenant_id, user_id, currency)])
    return await find_wallet(connection, wallet.id, owner_id=user_id)


async def available(connection: Connection, tenant_id: str, user_id: str, currency: str) -> int:
    """Read what the user's wallet can spend in a currency, in minor units; zero where there is none."""
    cursor = await connection.execute(
        "SELECT balance FROM ledger_accounts WHERE id = %s",
        [wallet_account(tenant_id, user_id, currency).id],
    )
    row = await cursor.fetchone()
    return 0 if row is None else row["balance"]


async def find_wallet(connection: Connection, wallet_id: str, *, owner_id: str | None) -> WalletView:
    """Read one wallet; ``owner_id`` limits it to one user's.

    Raises:
        WalletNotFoundError: It does not exist where the transaction looks.
    """
    cursor = await connection.execute(
        _WALLETS + " AND w.id = %(id)s AND (%(owner)s::text IS NULL OR w.owner_id = %(owner)s)",
        _KINDS | {"id": wallet_id, "owner": owner_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise WalletNotFoundError(wallet_id)
    return _view(row)


async def list_wallets(
    connection: Connection, *, owner_id: str | None, before: tuple[datetime, str] | None, limit: int
) -> list[WalletView]:
    """Read wallets, newest first; ``owner_id`` limits them to one user's."""
    created_at, identifier = before if before is not None else (None, None)
    cursor = await connection.execute(
        _WALLETS + " AND (%(owner)s::text IS NULL OR w.owner_id = %(owner)s) "
        "AND (%(at)s::timestamptz IS NULL OR (w.created_at, w.id) < (%(at)s, %(before)s)) "
        "ORDER BY w.created_at DESC, w.id DESC LIMIT %(limit)s",
        _KINDS | {"owner": owner_id, "at": created_at, "before": identifier, "limit": limit},
    )
    return [_view(row) for row in await cursor.fetchall()]


async def top_up(
    connection: Connection, top_up_id: str, wallet: WalletView, tenant_id: str, amount: int
) -> None:
    """Put money from outside into a wallet, in a platform transaction; the same identifier counts once.

    Raises:
        AccountLimitError: The balance would become too large.
    """
    inserted = await connection.execute(
        "INSERT INTO wallet_top_ups (id, tenant_id, user_id, wallet_id, amount, currency) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING",
        [top_up_id, tenant_id, wallet.user_id, wallet.wallet_id, amount, wallet.currency],
    )
    if not inserted.rowcount:
        return
    bank = platform_account(AccountKind.BANK, wallet.currency)
    account = wallet_account(tenant_id, wallet.user_id, wallet.currency)
    await post(
        connection,
        NewTransaction(
            kind=TransactionKind.TOP_UP,
            reference=f"top_up:{top_up_id}",
            tenant_id=tenant_id,
            postings=[
                NewPosting(account=bank, amount=-amount, purpose=PostingPurpose.FUNDING),
                NewPosting(account=account, amount=amount, purpose=PostingPurpose.FUNDING),
            ],
        ),
    )


def _view(row: Mapping[str, Any]) -> WalletView:
    return WalletView(
        wallet_id=row["id"],
        user_id=row["owner_id"],
        currency=row["currency"],
        exponent=exponent_of(row["currency"]),
        available=row["balance"],
        held=row["held"],
        created_at=row["created_at"],
    )
