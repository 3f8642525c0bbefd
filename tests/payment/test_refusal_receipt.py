"""A refusal has a receipt like every other outcome, and refers to the mandate where one was minted."""

import json

import pytest

from activities.purchase import record_denied_intent
from activities.receipts import VerifiedExport, verify_export
from activities.records.policies import replace_policy
from activities.records.receipts import read_entries, signed_head
from activities.refusal import attest_denials
from activities.signing import Verifier
from models.errors import PlatformError
from models.policy import PolicyRules, PurchaseRefusedError
from models.receipt import ReceiptBody
from tests.payment.shop import Shop


async def bodies(shop: Shop) -> tuple[VerifiedExport, list[ReceiptBody]]:
    async with shop.store.tenant(shop.tenant_id) as connection:
        header = await signed_head(connection, shop.signer, shop.tenant_id)
        entries = await read_entries(connection, from_index=1, to_index=header.head.size, readable_by=None)
    lines = [header.line(), *(entry.line() for entry in entries)]
    verified = verify_export(lines, Verifier.from_jwks(json.dumps(shop.signer.jwks())))
    return verified, [entry.body for entry in entries if entry.body is not None]


async def test_a_denied_purchase_is_attested_once(shop: Shop) -> None:
    await shop.rules(cap_per_transaction=10)
    request = shop.request(50)
    with pytest.raises(PurchaseRefusedError) as refused:
        await shop.reserve(request)
    async with shop.store.platform() as connection:
        await record_denied_intent(connection, request, refused.value)
    assert await attest_denials(shop.store, shop.signer) >= 1
    await attest_denials(shop.store, shop.signer)
    verified, [body] = await bodies(shop)
    assert (verified.refused, verified.settled, verified.charged) == (1, 0, {})
    assert (body.outcome, body.decline_code, body.amount) == ("refused", refused.value.code, 0)
    assert (body.mandate_id, body.mandate_hash, body.settlement_id) == (None, None, None)


async def test_a_settlement_refused_by_an_edited_policy_is_attested_under_its_mandate(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    async with shop.store.tenant(shop.tenant_id) as connection:
        rules = PolicyRules(vendors=["somebody-else"], limits={})
        await replace_policy(connection, shop.tenant_id, rules, changed_by="finance")
    for _ in range(2):
        with pytest.raises(PlatformError):
            await shop.settle(execution_id)
    [mandate] = await shop.rows("mandates")
    verified, [body] = await bodies(shop)
    assert verified.refused == 1
    assert (body.mandate_id, body.mandate_hash) == (mandate["id"], bytes(mandate["hash"]).hex())
    assert body.execution_id == execution_id
    assert "payment.receipt_issued" in await shop.events(execution_id)
