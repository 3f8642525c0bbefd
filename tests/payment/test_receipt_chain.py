"""Receipts: one per settlement, in a chain per tenant, verifiable offline to the last bit."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.receipts import VerifiedExport, verify_export
from activities.records.receipts import read_entries, signed_head
from activities.signing import InvalidKeySetError, Signer, Verifier, generate_key
from models.identifiers import new_identifier
from models.receipt import ReceiptChainBrokenError
from tests.payment.shop import Shop


async def export(shop: Shop, *, readable_by: str | None = None, tenant_id: str | None = None) -> list[bytes]:
    async with shop.store.tenant(tenant_id or shop.tenant_id) as connection:
        header = await signed_head(connection, shop.signer, tenant_id or shop.tenant_id)
        entries = await read_entries(
            connection, from_index=1, to_index=header.head.size, readable_by=readable_by
        )
    return [header.line(), *(entry.line() for entry in entries)]


def public_keys(shop: Shop) -> Verifier:
    """What the customer has: the published key set and nothing else."""
    return Verifier.from_jwks(json.dumps(shop.signer.jwks()))


def verified(shop: Shop, lines: list[bytes]) -> VerifiedExport:
    return verify_export(lines, public_keys(shop))


def broken(shop: Shop, lines: list[bytes]) -> str:
    with pytest.raises(ReceiptChainBrokenError) as error:
        verify_export(lines, public_keys(shop))
    return error.value.message


@pytest.fixture
async def chain(shop: Shop) -> tuple[Shop, list[bytes]]:
    """Three paid runs, a free one, and their export."""
    await shop.fund(500)
    for amount in (50, 7, 0, 100):
        await shop.settle(await shop.executed(amount))
    return shop, await export(shop)


async def test_a_whole_export_verifies_and_says_what_was_charged(chain: tuple[Shop, list[bytes]]) -> None:
    shop, lines = chain
    result = verified(shop, lines)
    assert (result.receipts, result.readable, result.settled, result.declined) == (4, 4, 4, 0)
    assert result.charged == {"INR": 157}
    assert result.tenant_id == shop.tenant_id


async def test_a_receipt_says_who_got_what_under_which_mandate(chain: tuple[Shop, list[bytes]]) -> None:
    shop, lines = chain
    body = json.loads(lines[1])["body"]
    mandates = {row["id"]: row["hash"].hex() for row in await shop.rows("mandates")}
    assert body["mandate_hash"] == mandates[body["mandate_id"]]
    assert [(share["party"], share["amount"]) for share in body["split"]] == [
        ("developer", 35),
        ("platform", 10),
        ("orchestrator", 5),
    ]
    assert (body["amount"], body["currency"], body["exponent"]) == (50, "INR", 2)


async def test_indexes_are_dense_when_settling_at_once(shop: Shop) -> None:
    await shop.fund(1000)
    runs = [await shop.executed(10) for _ in range(12)]
    await asyncio.gather(*(shop.settle(run) for run in runs))
    rows = sorted(await shop.rows("receipts"), key=lambda row: row["chain_index"])
    assert [row["chain_index"] for row in rows] == list(range(1, 13))
    assert verified(shop, await export(shop)).receipts == 12


async def test_free_runs_settled_at_once_queue_for_the_chain_alone(shop: Shop) -> None:
    # No ledger account is locked here, so nothing but the chain's head keeps them in order.
    runs = [await shop.executed(0) for _ in range(12)]
    await asyncio.gather(*(shop.settle(run) for run in runs))
    assert verified(shop, await export(shop)).receipts == 12


async def test_tenants_have_chains_of_their_own(shop: Shop) -> None:
    other = Shop(shop.store, shop.signer, shop.rails)
    for each in (shop, other):
        await each.fund(100)
        await each.settle(await each.executed(10))
    assert verified(shop, await export(shop)).receipts == 1
    assert verified(other, await export(other)).receipts == 1


async def test_an_empty_chain_verifies(shop: Shop) -> None:
    assert verified(shop, await export(shop)).receipts == 0


async def test_other_users_receipts_are_blanked_and_still_verify(chain: tuple[Shop, list[bytes]]) -> None:
    shop, _ = chain
    colleague = Shop(shop.store, shop.signer, shop.rails, tenant_id=shop.tenant_id)
    await colleague.fund(100)
    await colleague.settle(await colleague.executed(30))
    lines = await export(shop, readable_by=colleague.user_id)
    result = verified(shop, lines)
    assert (result.receipts, result.readable, result.charged) == (5, 1, {"INR": 30})
    assert shop.user_id.encode() not in b"".join(lines)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_single_changed_bit_is_found(chain: tuple[Shop, list[bytes]], data: st.DataObject) -> None:
    shop, lines = chain
    number = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) * 8 - 1))
    changed = bytearray(lines[number])
    changed[place // 8] ^= 1 << (place % 8)
    broken(shop, [*lines[:number], bytes(changed), *lines[number + 1 :]])


async def test_every_bit_of_one_receipt_and_of_the_header_matters(chain: tuple[Shop, list[bytes]]) -> None:
    shop, lines = chain
    for number in (0, 1):
        for place in range(len(lines[number]) * 8):
            changed = bytearray(lines[number])
            changed[place // 8] ^= 1 << (place % 8)
            broken(shop, [*lines[:number], bytes(changed), *lines[number + 1 :]])


async def test_swapping_removing_repeating_or_cutting_is_found(chain: tuple[Shop, list[bytes]]) -> None:
    shop, lines = chain
    head, one, two, three, four = lines
    for wrong in (
        [head, two, one, three, four],
        [head, one, three, four],
        [head, two, three, four],
        [head, one, one, two, three, four],
        [head, one, two, three],
        [head],
        [one, two, three, four],
        [head, head, one, two, three, four],
        [*lines, b"\n"],
        [*lines, four],
        [],
    ):
        broken(shop, wrong)


async def test_a_cut_tail_is_told_apart_by_the_stated_head(chain: tuple[Shop, list[bytes]]) -> None:
    shop, lines = chain
    assert "4 receipts, the export holds 3" in broken(shop, lines[:-1])


async def test_another_tenants_export_does_not_pass_for_ones_own(chain: tuple[Shop, list[bytes]]) -> None:
    shop, lines = chain
    other = Shop(shop.store, shop.signer, shop.rails)
    await other.fund(100)
    await other.settle(await other.executed(10))
    foreign = await export(other)
    broken(shop, [lines[0], *foreign[1:]])
    broken(shop, [foreign[0], *lines[1:]])


async def test_a_chain_that_a_stranger_signed_anew_is_refused(
    chain: tuple[Shop, list[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shop, lines = chain
    directory = tmp_path_factory.mktemp("stranger")
    generate_key(directory, shop.signer.key_id)
    stranger = Signer.from_directory(directory)
    with pytest.raises(ReceiptChainBrokenError, match="signature of the head"):
        verify_export(lines, stranger)
    generate_key(directory, "other")
    header = json.loads(lines[0])
    header["kid"] = "other"
    line = json.dumps(header, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    assert "not among the keys given" in broken(shop, [line, *lines[1:]])


async def test_the_same_hash_elsewhere_in_json_is_no_way_around(chain: tuple[Shop, list[bytes]]) -> None:
    shop, lines = chain
    spaced = lines[1].replace(b'":', b'": ', 1)
    upper = lines[1].replace(
        json.loads(lines[1])["hash"].encode(), json.loads(lines[1])["hash"].upper().encode()
    )
    doubled = lines[1].replace(b"{", b'{"chain_index":1,', 1)
    floated = lines[1].replace(b'"chain_index":1', b'"chain_index":1.0')
    for line in (spaced, upper, doubled, floated):
        assert line != lines[1]
        broken(shop, [lines[0], line, *lines[2:]])


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[]", b'{"keys": []}', b'{"keys": [{"kty": "RSA"}]}', b"\xff"]
)
def test_an_unusable_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidKeySetError):
        Verifier.from_jwks(document)


async def test_a_receipt_belongs_to_one_settlement(chain: tuple[Shop, list[bytes]]) -> None:
    shop, _ = chain
    receipts = await shop.rows("receipts")
    settlements = await shop.rows("settlements")
    assert sorted(row["settlement_id"] for row in receipts) == sorted(row["id"] for row in settlements)
    assert new_identifier("receipt") not in {row["id"] for row in receipts}
