"""Rules that random schedules seldom bring to a point: each arranged, and each must hold."""

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from activities.mandate import sign_mandate
from activities.rails.registry import Rails
from activities.records.ledger import post
from activities.records.payment import database_now, find_live_intent, insert_mandate
from activities.records.policies import replace_policy
from activities.settlement import record_outcome, record_settlement, send_settlement
from activities.signing import Signer, generate_key
from models.errors import PlatformError
from models.identifiers import new_identifier
from models.ledger import (
    AccountKey,
    AccountKind,
    NewPosting,
    NewTransaction,
    PostingPurpose,
    TransactionKind,
    TransactionMismatchError,
)
from models.money import split
from models.payment import SPLIT_BASIS_POINTS, MintRequest, SettleRequest
from models.policy import PolicyRules
from models.rail import Declined, Settled, Unknown
from models.receipt import entry_hash
from models.refund import unwind
from models.wallet import wallet_account
from tests.payment.shop import CODE_HASH, INPUTS_HASH
from tests.rails.lines import RailLine, WalletLine
from tests.rails.mortal import MortalDatabase
from tests.rails.schedule import open_world
from tests.rails.truth import finally_
from tests.rails.world import Purchase, World

Rule = Callable[[MortalDatabase, Signer, dict[str, RailLine]], Awaitable[None]]


async def _bought(world: World, amount: int = 5_000) -> Purchase:
    [purchase] = await world.buy_all([("wallet", amount, False, False, True)])
    return purchase


async def _sound(world: World) -> None:
    await world.quiesce()
    faults = await finally_(world)
    assert not faults, faults


async def _refuses(work: Awaitable[object]) -> None:
    try:
        await work
    except PlatformError:
        return
    raise AssertionError("it was not refused")


async def forged_mandate(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """A mandate that another key signed under our key's name, and one of another purchase, pay nothing."""
    world = await open_world(store, signer, lines)
    with tempfile.TemporaryDirectory() as directory:
        generate_key(Path(directory), signer.key_id)
        forger = Signer.from_directory(Path(directory))
    mint = MintRequest(
        execution_id="", code_hash=CODE_HASH, code_version="1.0.0", inputs_hash=INPUTS_HASH, timeout_ms=1_000
    )
    other = await world.buy("wallet", 9_000, orchestrated=False)
    assert other is not None
    for signing, foreign in ((forger, False), (signer, True)):
        purchase = await world.buy("wallet", 50, orchestrated=False)
        assert purchase is not None
        await world.finish(purchase, executed=True)
        async with store.platform() as connection:
            intent = await find_live_intent(connection, purchase.execution_id)
            assert intent is not None
            now = await database_now(connection)
            request = mint.model_copy(update={"execution_id": purchase.execution_id})
            mandate = sign_mandate(signing, intent, request, now)
            if foreign:
                theirs = await find_live_intent(connection, other.execution_id)
                assert theirs is not None
                request = mint.model_copy(update={"execution_id": other.execution_id})
                mandate = sign_mandate(signing, theirs, request, now)
                mandate.intent_id, mandate.execution_id = intent.id, purchase.execution_id
            await insert_mandate(connection, mandate)
        await _refuses(world.shop.settle(purchase.execution_id))


async def other_code(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """A mandate pays for the code and inputs it names, and not more than it says."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world)
    settle = world.shop.settle
    await _refuses(settle(purchase.execution_id, code_hash="0" * 64))
    await _refuses(settle(purchase.execution_id, inputs_hash="0" * 64))
    await _refuses(settle(purchase.execution_id, amount=5_001))
    await _sound(world)


async def old_key(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """After the key's lifetime a lost request is looked up and never sent again."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world)
    line = WalletLine(store)
    world.lines["wallet"] = line
    await world.settle(purchase, faults=["lose request"])
    line.key_lifetime = timedelta(0)
    await world.settle(purchase)
    assert await line.captured([purchase.hold_id]) == {purchase.hold_id: []}, "it was sent again"
    line.key_lifetime = timedelta(hours=23)
    await world.settle(purchase)
    assert await line.captured([purchase.hold_id]) == {purchase.hold_id: [5_000]}
    world.lines["wallet"] = lines["wallet"]


async def looks_first(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """A request that may have arrived is looked up before it is sent again."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world)
    await world.settle(purchase, faults=["lose answer"])
    line = world.lines["wallet"]
    line.sent.clear()
    await world.settle(purchase)
    assert not line.sent, "it was sent again although the rail had it"


async def late_not_found(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """A rail that collected, whose answer was lost and that says "not found" a while, is asked again."""
    world = await open_world(store, signer, lines)
    found = await world.buy_all([(name, 5_000, False, False, True) for name in ("stripe", "cashfree")])
    for purchase in found:
        await world.settle(purchase, faults=["late"])
        line = world.lines[purchase.line]
        for _ in range(6):
            world.shop.rails = Rails([line])
            with contextlib.suppress(PlatformError):
                await world.shop.settle(purchase.execution_id)
    await _sound(world)


async def another_amount(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """A rail that says it collected something else leaves the settlement unknown, and an answer that comes
    after the end changes nothing."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world)
    async with store.platform() as connection:
        row = await record_settlement(connection, signer, SettleRequest(execution_id=purchase.execution_id))
    async with store.platform() as connection:
        said = await record_outcome(
            connection, signer, row.id, Settled(provider_ref="elsewhere", amount=4_999)
        )
    assert said.status == "unknown", said
    await world.settle(purchase)
    for late in (Declined(code="late"), Unknown(reason="late"), Settled(provider_ref="x", amount=5_000)):
        async with store.platform() as connection:
            said = await record_outcome(connection, signer, row.id, late)
        assert said.status == "settled", said
    await _sound(world)


async def stored_bytes(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """What is sent is what was stored, whatever became of the purchase's description since."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world)
    async with store.platform() as connection:
        row = await record_settlement(connection, signer, SettleRequest(execution_id=purchase.execution_id))
    world.shop.rails = Rails([world.lines["wallet"]])
    await send_settlement(store, world.shop.rails, row.id)
    assert world.lines["wallet"].sent == {row.idempotency_key: {row.request_body}}


async def same_key(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """The wallet refuses a key that comes with another body."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world)
    await world.settle(purchase)
    async with store.platform() as connection:
        cursor = await connection.execute(
            "SELECT idempotency_key, request_body FROM settlements WHERE execution_id = %s",
            [purchase.execution_id],
        )
        row = await cursor.fetchone()
    assert row is not None
    body = bytes(row["request_body"]).replace(b'"description":""', b'"description":"x"')
    answer = await world.lines["wallet"].capture(key=row["idempotency_key"], body=body)
    world.lines["wallet"].forget()
    assert isinstance(answer, Declined), answer


async def edited_policy(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """A policy that was edited between the purchase and the settlement has the last word."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world)
    async with store.tenant(world.shop.tenant_id) as connection:
        rules = PolicyRules(vendors=["somebody-else"], limits={})
        await replace_policy(connection, world.shop.tenant_id, rules, changed_by="finance")
    await _refuses(world.shop.settle(purchase.execution_id))
    assert (await world.lines["wallet"].captured([purchase.hold_id]))[purchase.hold_id] == []


async def crowded_chain(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """Receipts of one tenant that are issued at once stand one behind the other."""
    world = await open_world(store, signer, lines)
    found = await world.buy_all([("wallet", 10, False, False, True)] * 8)
    world.shop.rails = Rails([world.lines["wallet"]])
    await asyncio.gather(*(world.shop.settle(each.execution_id) for each in found))
    await _sound(world)


async def crowded_refunds(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """Refunds at once never give back more than was paid."""
    world = await open_world(store, signer, lines)
    purchase = await _bought(world, 101)
    await world.settle(purchase)
    given = await asyncio.gather(*(world.refund(purchase, 60) for _ in range(4)))
    assert sum(given) == 1, given
    assert await world.refund(purchase, None)
    assert not await world.refund(purchase, 1)
    await _sound(world)


async def opposite_posts(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """Transactions over the same accounts, written in opposite orders, wait for one another: no deadlock."""
    tenant = new_identifier("tenant")
    keys = [wallet_account(tenant, f"usr_{number}", "INR") for number in range(12)]

    async def one(order: list[AccountKey]) -> None:
        source, *targets = order
        postings = [
            NewPosting(
                account=AccountKey(
                    tenant_id=tenant, kind=AccountKind.SUSPENSE, owner_id=each.owner_id, currency="INR"
                ),
                amount=1 if each is not source else -len(targets),
                purpose=PostingPurpose.FUNDING,
            )
            for each in order
        ]
        transaction = NewTransaction(
            kind=TransactionKind.TOP_UP,
            reference=new_identifier("top_up"),
            tenant_id=tenant,
            postings=postings,
        )
        async with store.platform() as connection:
            await post(connection, transaction)

    await one(keys)
    orders = [keys, keys[::-1]]
    await asyncio.gather(*(one(orders[number % 2]) for number in range(40)))


async def posted_again(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """The same reference moves money once, and never other money."""
    world = await open_world(store, signer, lines)
    user = world.buyers["wallet"]
    wallet = wallet_account(world.shop.tenant_id, user, "INR")
    bank = AccountKey(
        tenant_id=world.shop.tenant_id, kind=AccountKind.SUSPENSE, owner_id=user, currency="INR"
    )
    reference = new_identifier("top_up")

    async def one(amount: int) -> None:
        transaction = NewTransaction(
            kind=TransactionKind.TOP_UP,
            reference=reference,
            tenant_id=world.shop.tenant_id,
            postings=[
                NewPosting(account=bank, amount=-amount, purpose=PostingPurpose.FUNDING),
                NewPosting(account=wallet, amount=amount, purpose=PostingPurpose.FUNDING),
            ],
        )
        async with store.platform() as connection:
            await post(connection, transaction)

    await one(7)
    await one(7)
    try:
        await one(8)
    except TransactionMismatchError:
        return
    raise AssertionError("another amount was taken for the same movement")


async def matured_only(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """Earnings of this week are not paid with the last one's, and those on hold not at all."""
    world = await open_world(store, signer, lines)
    await world.earn(60_000)
    made, why = await world.developer.claim("2020-W01")
    assert made is None, "what was earned after the cut-off was paid"
    assert why == "below_minimum", why
    period = world.next_period()
    await world.developer.flag(held=True)
    made, why = await world.developer.claim(period)
    assert (made, why) == (None, "on_hold")
    await world.developer.flag(held=False, kyc_status="unverified")
    made, why = await world.developer.claim(period)
    assert (made, why) == (None, "kyc_not_verified")


async def linked_hashes(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """A receipt's hash covers its contents, its place and the receipt before it."""
    first = entry_hash(bytes(32), 1, bytes(32))
    others = (
        entry_hash(bytes(31) + b"1", 1, bytes(32)),
        entry_hash(bytes(32), 2, bytes(32)),
        entry_hash(bytes(32), 1, bytes(31) + b"1"),
    )
    assert first not in others


async def rounded_shares(store: MortalDatabase, signer: Signer, lines: dict[str, RailLine]) -> None:
    """Refunds in any parts end where one of their sum would, and nobody gives more than they got."""
    for total in range(1, 60):
        parts = [unwind(total, refunded, 1) for refunded in range(total)]
        got = split(total, SPLIT_BASIS_POINTS)
        assert tuple(sum(each[place] for each in parts) for place in range(3)) == got
        assert all(share >= 0 for each in parts for share in each)


RULES: dict[str, Rule] = {
    "a hash covers its link": linked_hashes,
    "shares of partial refunds": rounded_shares,
    "a forged or foreign mandate": forged_mandate,
    "a mandate for other code": other_code,
    "the key's lifetime": old_key,
    "look before sending again": looks_first,
    "not found, for a while": late_not_found,
    "another amount, a late answer": another_amount,
    "the stored bytes": stored_bytes,
    "one key, two bodies": same_key,
    "an edited policy": edited_policy,
    "a crowded chain": crowded_chain,
    "crowded refunds": crowded_refunds,
    "opposite posts": opposite_posts,
    "posted again": posted_again,
    "matured and eligible": matured_only,
}
