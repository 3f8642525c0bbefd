"""Crowded accounts are spread over stripes, and nobody notices."""

import asyncio

import pytest

from activities.records.ledger import pooled_balance, post
from models.identifiers import new_identifier
from models.ledger import (
    STRIPES,
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    TransactionMismatchError,
    platform_account,
)
from models.wallet import wallet_account
from tests.payment.shop import Shop, ledger_faults

BANK = platform_account(AccountKind.BANK, "XPF")
"""A currency that no other test uses."""


def top_up(shop: Shop, reference: str, amount: int = 5) -> NewTransaction:
    wallet = wallet_account(shop.tenant_id, shop.user_id, "XPF")
    return NewTransaction(
        kind=TransactionKind.TOP_UP,
        reference=reference,
        tenant_id=shop.tenant_id,
        postings=[
            NewPosting(account=BANK, amount=-amount, purpose=PostingPurpose.FUNDING),
            NewPosting(account=wallet, amount=amount, purpose=PostingPurpose.FUNDING),
        ],
    )


async def test_stripes_add_up_to_the_account(shop: Shop) -> None:
    async def one() -> None:
        async with shop.store.platform() as connection:
            await post(connection, top_up(shop, new_identifier("top_up")))

    await asyncio.gather(*(one() for _ in range(40)))
    async with shop.store.platform() as connection:
        assert await pooled_balance(connection, BANK) == -200
        cursor = await connection.execute(
            "SELECT count(*) AS used FROM ledger_accounts WHERE kind = 'bank' AND currency = 'XPF'"
        )
        row = await cursor.fetchone()
    assert row is not None
    assert 4 < row["used"] <= STRIPES
    assert await ledger_faults(shop.store) == []


async def test_a_repeated_reference_finds_its_stripe(shop: Shop) -> None:
    reference = new_identifier("top_up")
    found = set[str]()
    for _ in range(3):
        async with shop.store.platform() as connection:
            found.add(str(await post(connection, top_up(shop, reference))))
    assert len(found) == 1
    with pytest.raises(TransactionMismatchError):
        async with shop.store.platform() as connection:
            await post(connection, top_up(shop, reference, amount=6))


async def test_two_payments_hold_no_lock_in_common(shop: Shop) -> None:
    """While one transaction has posted and not committed, one on another stripe goes through."""
    references = [new_identifier("top_up") for _ in range(64)]
    first = references[0]
    other = next(each for each in references if BANK.stripe(each) != BANK.stripe(first))
    stranger = Shop(shop.store, shop.signer, shop.rails)
    async with shop.store.platform() as connection:
        await post(connection, top_up(shop, first))
        async with asyncio.timeout(5), shop.store.platform() as beside:
            await post(beside, top_up(stranger, other))
