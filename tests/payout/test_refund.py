"""Refunds unwind the split exactly: research 2.5, invariant 10."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.rails.registry import open_rails
from activities.receipts import verify_export
from activities.records.database import Database
from activities.records.receipts import read_entries, signed_head
from activities.refund import refund_payment
from activities.signing import Signer, generate_key
from models.identifiers import new_identifier
from models.ledger import AccountKind
from models.money import split
from models.payment import SPLIT_BASIS_POINTS
from models.refund import RefundKind, RefundRequest, RefundTooLargeError, RefundView, unwind
from tests.payment.shop import Shop, ledger_faults
from tests.payout.office import Developer


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory: Path = tmp_path_factory.mktemp("refund-keys")
    generate_key(directory, "key-1")
    return Signer.from_directory(directory)


@pytest.fixture
def shop(store: Database, signer: Signer) -> Shop:
    return Shop(store, signer, open_rails(store))


async def _paid(shop: Shop, amount: int) -> str:
    await shop.fund(amount)
    outcome = await shop.settle(await shop.executed(amount))
    assert outcome.payment_id is not None
    return outcome.payment_id


async def _refund(
    shop: Shop, payment_id: str, amount: int | None = None, *, refund_id: str | None = None
) -> RefundView:
    async with shop.store.platform() as connection:
        return await refund_payment(
            connection,
            shop.signer,
            refund_id=refund_id or new_identifier("refund"),
            payment_id=payment_id,
            request=RefundRequest(amount=amount, reason="did not help", kind=RefundKind.REFUND),
            created_by="finance",
        )


@given(st.integers(1, 2**53 - 1), st.lists(st.floats(0.01, 1), max_size=6))
def test_partial_refunds_add_up_to_the_split(total: int, parts: list[float]) -> None:
    refunded, given_back = 0, [0, 0, 0]
    for part in [*parts, 1.0]:
        amount = (
            min(total - refunded, max(1, int((total - refunded) * part))) if part < 1 else total - refunded
        )
        if not amount:
            break
        shares = unwind(total, refunded, amount)
        assert sum(shares) == amount
        assert min(shares) >= 0
        given_back = [old + new for old, new in zip(given_back, shares, strict=True)]
        refunded += amount
    assert tuple(given_back) == split(total, SPLIT_BASIS_POINTS)


async def test_a_full_refund_leaves_everybody_where_they_were(shop: Shop) -> None:
    payment_id = await _paid(shop, 99)
    assert (await shop.wallet(), await shop.earned()) == (0, 69)
    refunded = await _refund(shop, payment_id)
    assert (refunded.amount, await shop.wallet(), await shop.earned()) == (99, 99, 0)
    assert await ledger_faults(shop.store) == []


async def test_more_than_was_collected_never_goes_back(shop: Shop) -> None:
    payment_id = await _paid(shop, 100)
    answers = await asyncio.gather(*(_refund(shop, payment_id, 40) for _ in range(4)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in answers) == [
        "RefundTooLargeError",
        "RefundTooLargeError",
        "RefundView",
        "RefundView",
    ]
    with pytest.raises(RefundTooLargeError) as refusal:
        await _refund(shop, payment_id, 21)
    assert refusal.value.details["refundable"] == 20
    await _refund(shop, payment_id)
    with pytest.raises(RefundTooLargeError):
        await _refund(shop, payment_id)


async def test_a_repeated_refund_moves_money_once(shop: Shop) -> None:
    payment_id = await _paid(shop, 100)
    refund_id = new_identifier("refund")
    first = await _refund(shop, payment_id, 30, refund_id=refund_id)
    assert await _refund(shop, payment_id, 30, refund_id=refund_id) == first
    assert await shop.wallet() == 30


async def test_a_developer_who_was_paid_out_goes_negative_and_is_netted(shop: Shop) -> None:
    await shop.rules()
    payment_id = await _paid(shop, 100_000)
    developer = Developer(shop.store, shop.developer.tenant_id, shop.developer.user_id)
    await developer.flag(kyc_status="verified")
    await developer.register()
    row, _ = await developer.claim("2061-W01")
    assert row is not None
    await _refund(shop, payment_id)
    assert await developer.payable() == -70_000
    await developer.earn(130_000)
    later, _ = await developer.claim("2061-W02")
    assert later is not None
    assert later.amount == 60_000


async def test_a_refund_has_a_receipt_in_the_chain(shop: Shop) -> None:
    payment_id = await _paid(shop, 50)
    refunded = await _refund(shop, payment_id, 20)
    assert refunded.receipt_id is not None
    async with shop.store.tenant(shop.tenant_id) as connection:
        header = await signed_head(connection, shop.signer, shop.tenant_id)
        entries = await read_entries(connection, from_index=1, to_index=2, readable_by=None)
    result = verify_export([header.line(), *(entry.line() for entry in entries)], shop.signer)
    assert (result.settled, result.refunded, result.charged) == (1, 1, {"INR": 30})
    body = entries[1].body
    assert body is not None
    assert [share.amount for share in body.split] == [14, 4, 2]
    assert (await shop.balance(AccountKind.USER_WALLET)) == 20
