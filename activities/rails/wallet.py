"""The wallet rail: prepaid balances and holds in our own ledger.

Its books are ``wallet_holds`` and three accounts: ``user_wallet`` → ``user_hold`` when money is held,
``user_hold`` → ``rail_clearing`` when it is captured (what was held beyond returns to the wallet), back to
``user_wallet`` when it is voided. The platform's books then post ``rail_clearing`` out to the parties with
the payment (`activities/payment.py`), as they do for every rail.

Lock order: the hold's row, then ledger accounts by identifier.
"""

import hashlib
from datetime import timedelta

from activities.records.database import Connection, Database
from activities.records.ledger import post
from models.ledger import (
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    platform_account,
)
from models.rail import Declined, RailAnswer, RailName, RailRequest, Settled, Unknown
from models.wallet import WalletHold, WalletHoldStatus, hold_account, wallet_account


async def hold(connection: Connection, request: RailRequest, *, execution_id: str | None) -> None:
    """Set money aside, in the caller's transaction; the same reference holds once.

    Raises:
        AccountFloorError: The wallet does not cover it.
    """
    inserted = await connection.execute(
        "INSERT INTO wallet_holds (reference, tenant_id, user_id, amount, captured_amount, currency, status, "
        "created_at) VALUES (%s, %s, %s, %s, 0, %s, %s, now()) ON CONFLICT (reference) DO NOTHING",
        [
            request.reference,
            request.tenant_id,
            request.user_id,
            request.amount,
            request.currency,
            WalletHoldStatus.HELD,
        ],
    )
    if not inserted.rowcount:
        return
    wallet = wallet_account(request.tenant_id, request.user_id, request.currency)
    held = hold_account(request.tenant_id, request.user_id, request.currency)
    await post(
        connection,
        NewTransaction(
            kind=TransactionKind.HOLD,
            reference=f"hold:{request.reference}",
            tenant_id=request.tenant_id,
            execution_id=execution_id,
            description=request.description,
            postings=[
                NewPosting(account=wallet, amount=-request.amount, purpose=PostingPurpose.HOLD),
                NewPosting(account=held, amount=request.amount, purpose=PostingPurpose.HOLD),
            ],
        ),
    )


class WalletRail:
    """The rail's answers. Every call is one transaction of its own, and its books are never in doubt."""

    name = RailName.WALLET
    key_lifetime = timedelta.max

    def __init__(self, database: Database) -> None:
        """Keep the books in ``database``."""
        self._database = database

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        """Move what was held to the rail's clearing account, once per hold."""
        request = RailRequest.model_validate_json(body)
        digest = hashlib.sha256(body).digest()
        async with self._database.platform() as connection:
            found = await _lock(connection, request.reference)
            if found is None:
                return Declined(code="hold_not_found", message=f"Nothing is held as {request.reference}.")
            if found.status is WalletHoldStatus.VOIDED:
                return Declined(code="hold_voided", message="The hold was given back.")
            if found.status is WalletHoldStatus.CAPTURED:
                if found.capture_key == key and found.capture_body_hash != digest:
                    return Declined(code="idempotency_mismatch", message="The key came with another body.")
                if found.captured_amount != request.amount:
                    return Declined(code="captured_otherwise", message="Another amount was captured.")
                return _captured(found)
            if request.amount > found.amount or request.currency != found.currency or request.amount == 0:
                return Declined(
                    code="amount_refused", message=f"At most {found.amount} {found.currency} are held."
                )
            await _capture(connection, found, request.amount)
            await connection.execute(
                "UPDATE wallet_holds SET status = %s, captured_amount = %s, capture_key = %s, "
                "capture_body_hash = %s, resolved_at = now() WHERE reference = %s",
                [WalletHoldStatus.CAPTURED, request.amount, key, digest, request.reference],
            )
        return Settled(provider_ref=f"wallet:{request.reference}", amount=request.amount)

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        """Return what was held to the wallet, once per hold."""
        async with self._database.platform() as connection:
            found = await _lock(connection, reference)
            if found is None:
                return Declined(code="hold_not_found", message=f"Nothing is held as {reference}.")
            if found.status is WalletHoldStatus.CAPTURED:
                return Declined(code="hold_captured", message="The hold was captured.")
            if found.status is WalletHoldStatus.HELD:
                await _void(connection, found)
                await connection.execute(
                    "UPDATE wallet_holds SET status = %s, resolved_at = now() WHERE reference = %s",
                    [WalletHoldStatus.VOIDED, reference],
                )
        return Settled(provider_ref=f"wallet:{reference}", amount=0)

    async def look_up(self, reference: str) -> RailAnswer:
        """Read the hold; our own books are evidence at once."""
        async with self._database.platform() as connection:
            found = await _lock(connection, reference)
        if found is None or found.status is WalletHoldStatus.VOIDED:
            return Declined(code="hold_not_active", message=f"Nothing is held as {reference}.")
        if found.status is WalletHoldStatus.CAPTURED:
            return _captured(found)
        return Unknown(reason="held, not captured yet")


def _captured(hold_row: WalletHold) -> Settled:
    return Settled(provider_ref=f"wallet:{hold_row.reference}", amount=hold_row.captured_amount)


async def _lock(connection: Connection, reference: str) -> WalletHold | None:
    cursor = await connection.execute(
        "SELECT * FROM wallet_holds WHERE reference = %s FOR UPDATE", [reference]
    )
    row = await cursor.fetchone()
    return None if row is None else WalletHold.model_validate(row)


async def _capture(connection: Connection, found: WalletHold, amount: int) -> None:
    held = hold_account(found.tenant_id, found.user_id, found.currency)
    clearing = platform_account(AccountKind.RAIL_CLEARING, found.currency, RailName.WALLET)
    postings = [
        NewPosting(account=held, amount=-found.amount, purpose=PostingPurpose.CAPTURE),
        NewPosting(account=clearing, amount=amount, purpose=PostingPurpose.CAPTURE),
    ]
    if amount < found.amount:
        wallet = wallet_account(found.tenant_id, found.user_id, found.currency)
        postings.append(
            NewPosting(account=wallet, amount=found.amount - amount, purpose=PostingPurpose.RETURN)
        )
    await post(
        connection,
        NewTransaction(
            kind=TransactionKind.CAPTURE,
            reference=f"capture:{found.reference}",
            tenant_id=found.tenant_id,
            postings=postings,
        ),
    )


async def _void(connection: Connection, found: WalletHold) -> None:
    held = hold_account(found.tenant_id, found.user_id, found.currency)
    wallet = wallet_account(found.tenant_id, found.user_id, found.currency)
    await post(
        connection,
        NewTransaction(
            kind=TransactionKind.VOID,
            reference=f"void:{found.reference}",
            tenant_id=found.tenant_id,
            postings=[
                NewPosting(account=held, amount=-found.amount, purpose=PostingPurpose.RETURN),
                NewPosting(account=wallet, amount=found.amount, purpose=PostingPurpose.RETURN),
            ],
        ),
    )
