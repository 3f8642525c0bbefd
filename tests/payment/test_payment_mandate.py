"""Mandates: minted at dispatch, signed, used once, in time, for exactly one purchase."""

import re
from datetime import timedelta
from typing import Any

import pytest
from psycopg.errors import UniqueViolation

from activities.mandate import check_mandate, sign_mandate, verify_mandate
from activities.records.payment import database_now, find_live_intent, insert_mandate, lock_mandates
from activities.settlement import record_settlement
from activities.signing import Signer, Verifier, generate_key
from models.errors import PlatformError
from models.mandate import (
    MANDATE_DOMAIN,
    Mandate,
    MandateBody,
    MandateExpiredError,
    MandateInvalidError,
    MandateMissingError,
    MandateTooShortError,
    read_mandate,
)
from models.payment import HoldNotActiveError, MintRequest, PurchaseIntent, SettleRequest
from models.receipt import RECEIPT_DOMAIN
from tests.payment.shop import CODE_HASH, INPUTS_HASH, Shop


async def intent_of(shop: Shop, execution_id: str) -> PurchaseIntent:
    async with shop.store.platform() as connection:
        intent = await find_live_intent(connection, execution_id)
    assert intent is not None
    return intent


async def mandate_of(shop: Shop, execution_id: str) -> Mandate:
    intent = await intent_of(shop, execution_id)
    async with shop.store.platform() as connection:
        return (await lock_mandates(connection, intent.id))[-1]


def minting(execution_id: str, **changes: Any) -> MintRequest:
    facts = {
        "execution_id": execution_id,
        "code_hash": CODE_HASH,
        "code_version": "1.0.0",
        "inputs_hash": INPUTS_HASH,
        "timeout_ms": 300_000,
    }
    return MintRequest.model_validate(facts | changes)


async def test_a_mandate_says_what_was_agreed_and_lives_ten_minutes(shop: Shop) -> None:
    await shop.fund(100)
    request = shop.request(50)
    reservation = await shop.reserve(request)
    minted = await shop.mint(request.execution_id)
    body = minted.body
    assert (body.intent_id, body.amount, body.currency, body.exponent) == (
        reservation.intent_id,
        50,
        "INR",
        2,
    )
    assert (body.payee, body.user_id) == (shop.developer.user_id, shop.user_id)
    assert body.exp - body.iat == 600
    assert re.fullmatch("[0-9a-f]{32}", body.nonce)
    assert shop.signer.verify(MANDATE_DOMAIN, body.canonical(), bytes.fromhex(minted.signature), body.kid)


async def test_minting_again_returns_the_same_mandate(shop: Shop) -> None:
    await shop.fund(100)
    request = shop.request(50)
    await shop.reserve(request)
    first = await shop.mint(request.execution_id)
    assert await shop.mint(request.execution_id) == first
    assert (await shop.events(request.execution_id)).count("payment.mandate_minted") == 1


async def test_other_inputs_get_another_mandate_and_end_the_first(shop: Shop) -> None:
    await shop.fund(100)
    request = shop.request(50)
    await shop.reserve(request)
    first = await shop.mint(request.execution_id)
    second = await shop.mint(request.execution_id, inputs_hash="0" * 64)
    assert second.mandate_id != first.mandate_id
    statuses = {row["id"]: row["status"] for row in await shop.rows("mandates")}
    assert statuses == {first.mandate_id: "revoked", second.mandate_id: "active"}


@pytest.mark.parametrize(("timeout_ms", "fits"), [(540_000, True), (540_001, False), (600_000, False)])
async def test_a_run_longer_than_its_mandate_is_refused(shop: Shop, timeout_ms: int, fits: bool) -> None:
    await shop.fund(100)
    request = shop.request(50)
    await shop.reserve(request)
    if fits:
        await shop.mint(request.execution_id, timeout_ms=timeout_ms)
    else:
        with pytest.raises(MandateTooShortError):
            await shop.mint(request.execution_id, timeout_ms=timeout_ms)


async def test_a_run_that_starts_late_is_told_to_mint_again(shop: Shop) -> None:
    await shop.fund(100)
    request = shop.request(50)
    await shop.reserve(request)
    await backdate(shop, request.execution_id, seconds=400)
    async with shop.store.platform() as connection:
        await check_mandate(connection, request.execution_id, 100_000)
        with pytest.raises(MandateTooShortError):
            await check_mandate(connection, request.execution_id, 300_000)
    fresh = await shop.mint(request.execution_id)
    async with shop.store.platform() as connection:
        await check_mandate(connection, request.execution_id, 300_000)
    assert (await mandate_of(shop, request.execution_id)).id == fresh.mandate_id


async def backdate(shop: Shop, execution_id: str, *, seconds: int) -> None:
    """Mint a mandate whose life began this long ago."""
    intent = await intent_of(shop, execution_id)
    async with shop.store.platform() as connection:
        began = await database_now(connection) - timedelta(seconds=seconds)
        await insert_mandate(connection, sign_mandate(shop.signer, intent, minting(execution_id), began))


async def test_an_expired_mandate_charges_nobody(shop: Shop) -> None:
    await shop.fund(100)
    request = shop.request(50)
    await shop.reserve(request)
    await backdate(shop, request.execution_id, seconds=601)
    await shop.execute(request.execution_id)
    with pytest.raises(MandateExpiredError):
        await shop.settle(request.execution_id)
    await shop.release(request.execution_id)
    assert await shop.wallet() == 100


async def test_a_mandate_of_tomorrow_charges_nobody(shop: Shop) -> None:
    await shop.fund(100)
    request = shop.request(50)
    await shop.reserve(request)
    await backdate(shop, request.execution_id, seconds=-60)
    await shop.execute(request.execution_id)
    with pytest.raises(MandateExpiredError):
        await shop.settle(request.execution_id)


async def test_expiry_after_the_request_was_recorded_does_not_hinder_collecting(shop: Shop) -> None:
    await shop.fund(100)
    request = shop.request(50)
    await shop.reserve(request)
    await backdate(shop, request.execution_id, seconds=598)
    await shop.execute(request.execution_id)
    async with shop.store.platform() as connection:
        await record_settlement(connection, shop.signer, SettleRequest(execution_id=request.execution_id))
        await connection.execute("SELECT pg_sleep(2.2)")
    assert (await shop.settle(request.execution_id)).amount == 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amount": 51}, "permits 50"),
        ({"amount": 0}, "releasing the hold"),
        ({"code_hash": "0" * 64}, "code_hash"),
        ({"inputs_hash": "0" * 64}, "inputs_hash"),
    ],
)
async def test_a_settlement_beyond_the_mandate_is_refused(
    shop: Shop, changes: dict[str, Any], message: str
) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    with pytest.raises(MandateInvalidError, match=message):
        await shop.settle(execution_id, **changes)
    assert (await shop.settle(execution_id)).amount == 50


async def test_a_mandate_of_another_purchase_is_refused(shop: Shop) -> None:
    await shop.fund(200)
    own, other = await shop.executed(50), await shop.executed(50)
    intent, foreign = await intent_of(shop, own), await mandate_of(shop, other)
    async with shop.store.platform() as connection:
        now = await database_now(connection)
    with pytest.raises(MandateInvalidError, match="intent_id"):
        verify_mandate(foreign, intent, shop.signer, now)


async def test_every_field_of_the_purchase_is_compared(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    intent, mandate = await intent_of(shop, execution_id), await mandate_of(shop, execution_id)
    async with shop.store.platform() as connection:
        now = await database_now(connection)
    verify_mandate(mandate, intent, shop.signer, now)
    for name, value in {
        "tenant_id": "other",
        "user_id": "other",
        "developer_id": "other",
        "agent_id": "other",
        "amount": 49,
        "currency": "USD",
        "rail": "free",
        "policy_hash": bytes(32),
        "execution_id": "other",
    }.items():
        with pytest.raises(MandateInvalidError):
            verify_mandate(mandate, intent.model_copy(update={name: value}), shop.signer, now)


async def test_any_changed_bit_of_a_mandate_is_found(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    intent, mandate = await intent_of(shop, execution_id), await mandate_of(shop, execution_id)
    async with shop.store.platform() as connection:
        now = await database_now(connection)
    for place in range(len(mandate.body)):
        changed = bytearray(mandate.body)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(PlatformError):
            verify_mandate(mandate.model_copy(update={"body": bytes(changed)}), intent, shop.signer, now)
    for place in range(64):
        changed = bytearray(mandate.signature)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(MandateInvalidError):
            verify_mandate(mandate.model_copy(update={"signature": bytes(changed)}), intent, shop.signer, now)


async def test_a_mandate_signed_by_a_strangers_key_is_refused(shop: Shop, tmp_path: Any) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    intent = await intent_of(shop, execution_id)
    generate_key(tmp_path, shop.signer.key_id)
    stranger = Signer.from_directory(tmp_path)
    async with shop.store.platform() as connection:
        now = await database_now(connection)
    forged = sign_mandate(stranger, intent, minting(execution_id), now)
    with pytest.raises(MandateInvalidError, match="signature"):
        verify_mandate(forged, intent, shop.signer, now)


async def test_a_receipts_signature_is_no_mandates(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    intent, mandate = await intent_of(shop, execution_id), await mandate_of(shop, execution_id)
    replayed = mandate.model_copy(update={"signature": shop.signer.sign(RECEIPT_DOMAIN, mandate.body)})
    async with shop.store.platform() as connection:
        now = await database_now(connection)
    with pytest.raises(MandateInvalidError):
        verify_mandate(replayed, intent, shop.signer, now)


async def test_a_nonce_is_never_used_twice(shop: Shop) -> None:
    await shop.fund(200)
    first = await mandate_of(shop, await shop.executed(50))
    request = shop.request(50)
    await shop.reserve(request)
    intent = await intent_of(shop, request.execution_id)
    with pytest.raises(UniqueViolation, match="nonce"):
        async with shop.store.platform() as connection:
            now = await database_now(connection)
            minted = sign_mandate(shop.signer, intent, minting(request.execution_id), now)
            minted.nonce = first.nonce
            await insert_mandate(connection, minted)


async def test_an_intent_has_one_active_mandate(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    with pytest.raises(UniqueViolation):
        await backdate(shop, execution_id, seconds=10)


async def test_without_a_mandate_nothing_starts(shop: Shop) -> None:
    await shop.fund(200)
    request = shop.request(50)
    await shop.reserve(request)
    async with shop.store.platform() as connection:
        with pytest.raises(MandateMissingError):
            await check_mandate(connection, request.execution_id, 1000)


async def test_money_that_is_being_given_back_is_not_collected(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    async with shop.store.platform() as connection:
        await connection.execute(
            "UPDATE payment_holds SET status = 'releasing' WHERE tenant_id = %s", [shop.tenant_id]
        )
    with pytest.raises(HoldNotActiveError):
        await shop.settle(execution_id)


def test_keys_rotate_and_old_signatures_still_verify(tmp_path: Any) -> None:
    generate_key(tmp_path, "2026-01")
    old = Signer.from_directory(tmp_path)
    signature = old.sign(MANDATE_DOMAIN, b"message")
    generate_key(tmp_path, "2026-02")
    new = Signer.from_directory(tmp_path)
    assert new.key_id == "2026-02"
    assert new.verify(MANDATE_DOMAIN, b"message", signature, "2026-01")
    import json

    public = Verifier.from_jwks(json.dumps(new.jwks()))
    assert public.verify(MANDATE_DOMAIN, b"message", signature, "2026-01")
    assert not public.verify(MANDATE_DOMAIN, b"message", signature, "2026-02")
    assert not public.verify(RECEIPT_DOMAIN, b"message", signature, "2026-01")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null"])
def test_what_is_no_mandate_is_refused(body: bytes) -> None:
    with pytest.raises(MandateInvalidError):
        read_mandate(body)


def test_a_mandate_refuses_floats() -> None:
    assert MandateBody.model_fields["amount"].metadata
    with pytest.raises(MandateInvalidError):
        read_mandate(b'{"amount":50.0}')
