"""Paying for a run: charged once when it executed, not at all otherwise, and the same however often asked."""

import asyncio

import pytest

from activities.records.database import Database
from activities.records.runs import append_events
from models.ledger import AccountKind
from models.payment import (
    HoldNotActiveError,
    IntentNotFoundError,
    NotExecutedError,
    ReleaseRefusedError,
    ReservationMismatchError,
    SettlementStatus,
)
from models.run import RunStatus
from tests.payment.shop import CODE_HASH, Shop, ledger_faults


async def test_a_purchase_holds_the_price_until_the_run_ends(shop: Shop) -> None:
    await shop.fund(200)
    request = shop.request(50)
    reservation = await shop.reserve(request)
    assert reservation.hold_id is not None
    assert (await shop.wallet(), await shop.held(), await shop.spent_today()) == (150, 50, 50)
    assert await shop.events(request.execution_id) == ["payment.intent_approved", "payment.held"]


async def test_an_executed_run_is_charged_and_split_seventy_twenty_ten(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    outcome = await shop.settle(execution_id, code_hash=CODE_HASH)
    assert outcome.status is SettlementStatus.SETTLED
    assert outcome.amount == 50
    assert outcome.payment_id is not None
    assert outcome.receipt_id is not None
    assert (await shop.wallet(), await shop.held(), await shop.earned()) == (150, 0, 35)
    async with shop.store.platform() as connection:
        cursor = await connection.execute(
            "SELECT share, amount FROM platform_revenue WHERE execution_id = %s ORDER BY share",
            [execution_id],
        )
        shares = [(row["share"], row["amount"]) for row in await cursor.fetchall()]
    assert shares == [("platform_share", 10), ("unorchestrated_share", 5)]
    assert await shop.events(execution_id) == [
        "payment.intent_approved",
        "payment.held",
        "payment.mandate_minted",
        "payment.settle_requested",
        "payment.settled",
        "payment.receipt_issued",
    ]
    assert await ledger_faults(shop.store) == []


async def test_an_orchestrator_gets_its_tenth(shop: Shop) -> None:
    await shop.fund(200)
    orchestrator = Shop(shop.store, shop.signer, shop.rails)
    party = {"user_id": orchestrator.user_id, "tenant_id": orchestrator.tenant_id}
    await shop.settle(await shop.executed(50, orchestrator=party))
    assert await orchestrator.balance(AccountKind.ORCHESTRATOR_PAYABLE) == 5


async def test_the_developer_reads_the_revenue_and_the_payer_does_not(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    await shop.settle(execution_id)
    query = "SELECT developer_id, agent_id, execution_id, amount, currency, status FROM developer_revenue"
    async with shop.store.tenant(shop.developer.tenant_id) as connection:
        revenue = await (await connection.execute(query)).fetchall()
    async with shop.store.tenant(shop.tenant_id) as connection:
        others = await (await connection.execute(query)).fetchall()
    assert others == []
    assert [tuple(row.values()) for row in revenue] == [
        (shop.developer.user_id, shop.agent_id, execution_id, 35, "INR", "pending")
    ]


async def test_less_than_was_held_may_be_collected_and_the_rest_returns(shop: Shop) -> None:
    await shop.fund(200)
    outcome = await shop.settle(await shop.executed(50), amount=20)
    assert outcome.amount == 20
    assert (await shop.wallet(), await shop.held(), await shop.earned()) == (180, 0, 14)
    assert await shop.spent_today() == 20


async def test_a_free_run_moves_nothing_and_still_gets_a_receipt(shop: Shop) -> None:
    execution_id = await shop.executed(0)
    outcome = await shop.settle(execution_id)
    assert (outcome.status, outcome.amount) == (SettlementStatus.SETTLED, 0)
    assert outcome.receipt_id is not None
    assert await shop.rows("ledger_transactions") == []


async def test_settling_again_gives_the_same_answer_and_charges_once(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    first = await shop.settle(execution_id)
    assert await shop.settle(execution_id) == first
    together = await asyncio.gather(*(shop.settle(execution_id) for _ in range(4)))
    assert all(outcome == first for outcome in together)
    assert await shop.wallet() == 150


async def test_settling_at_the_same_time_charges_once(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    outcomes = await asyncio.gather(*(shop.settle(execution_id) for _ in range(6)))
    assert len({outcome.payment_id for outcome in outcomes}) == 1
    assert (await shop.wallet(), await shop.earned()) == (150, 35)


async def test_a_failed_run_is_not_charged(shop: Shop) -> None:
    await shop.fund(200)
    request = shop.request(50)
    await shop.reserve(request)
    await shop.mint(request.execution_id)
    released = await shop.release(request.execution_id)
    assert (released.released, released.amount) == (True, 50)
    assert await shop.release(request.execution_id) == released
    assert (await shop.wallet(), await shop.held(), await shop.spent_today()) == (200, 0, 0)
    assert (await shop.events(request.execution_id))[-1] == "payment.released"


async def test_a_released_run_cannot_be_settled(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    await shop.release(execution_id)
    with pytest.raises(Exception, match="no active mandate"):
        await shop.settle(execution_id)
    with pytest.raises(HoldNotActiveError):
        await shop.mint(execution_id)
    assert await shop.wallet() == 200


async def test_a_settled_run_cannot_be_released(shop: Shop) -> None:
    await shop.fund(200)
    execution_id = await shop.executed(50)
    await shop.settle(execution_id)
    with pytest.raises(ReleaseRefusedError):
        await shop.release(execution_id)


async def test_settling_and_cancelling_at_once_does_one_of_the_two(shop: Shop) -> None:
    await shop.fund(1000)
    for _ in range(8):
        execution_id = await shop.executed(50)
        before = await shop.wallet() + 50
        results = await asyncio.gather(
            shop.settle(execution_id), shop.release(execution_id), return_exceptions=True
        )
        charged = before - await shop.wallet()
        failed = [isinstance(result, BaseException) for result in results]
        assert failed.count(True) == 1
        assert charged == (50 if failed == [False, True] else 0)
    assert await shop.held() == 0


async def test_a_run_that_has_not_executed_is_not_charged(shop: Shop) -> None:
    await shop.fund(200)
    request = shop.request(50)
    await shop.reserve(request)
    await shop.mint(request.execution_id)
    with pytest.raises(NotExecutedError):
        await shop.settle(request.execution_id)
    await shop.execute(request.execution_id)
    async with shop.store.platform() as connection:
        await append_events(connection, request.execution_id, [], status=RunStatus.FAILED)
    with pytest.raises(NotExecutedError):
        await shop.settle(request.execution_id)
    assert await shop.held() == 50


async def test_reserving_again_returns_the_same_reservation(shop: Shop) -> None:
    await shop.fund(200)
    request = shop.request(50)
    assert await shop.reserve(request) == await shop.reserve(request)
    assert await shop.held() == 50
    with pytest.raises(ReservationMismatchError):
        await shop.reserve(request.model_copy(update={"amount": 60}))


async def test_nothing_is_settled_that_was_never_reserved(shop: Shop, store: Database) -> None:
    request = shop.request(50)
    async with store.platform() as connection:
        from activities.records.runs import create_run
        from models.run import Run, RunKind

        run = Run(
            id=request.execution_id,
            tenant_id=shop.tenant_id,
            kind=RunKind.AGENT_EXECUTION,
            subject="s",
            correlation_id="c",
            workflow_id="w",
        )
        await create_run(connection, run)
    with pytest.raises(IntentNotFoundError):
        await shop.settle(request.execution_id)
    assert not (await shop.release(request.execution_id)).released
