"""Giving back over Stripe and Cashfree: once, whatever the line does, and the split is unwound exactly."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.rails.registry import open_rails
from activities.records.database import Database
from activities.records.runs import append_events, create_run, find_run
from activities.refund import record_refund, refund_payment, send_refund
from activities.signing import Signer
from models.identifiers import new_identifier
from models.ledger import AccountKind
from models.rail import Declined, Settled, Unknown
from models.refund import (
    ENDED_REFUNDS,
    RefundRequest,
    RefundState,
    RefundStatus,
    RefundTooLargeError,
    RefundView,
)
from models.run import Run, RunKind, RunStatus
from tests.payment.shop import Shop, ledger_faults
from tests.rails.cashfree_books import CashfreeBooks
from tests.rails.hostile import FAULTS, Fault
from tests.rails.line import Line, open_line

PRICE = 999


@dataclass
class Counter:
    """A payment over an outside rail, and ways to give it back."""

    shop: Shop
    line: Line
    payment_id: str

    async def ask(self, amount: int | None = None, refund_id: str | None = None) -> RefundView:
        """Record a refund, with the run that its workflow would make."""
        refund_id = refund_id or new_identifier("refund")
        async with self.shop.store.platform() as connection:
            run = Run(
                id=refund_id,
                tenant_id=self.shop.tenant_id,
                kind=RunKind.REFUND,
                subject=self.payment_id,
                correlation_id="c1",
                workflow_id=f"refund/{refund_id}",
            )
            await create_run(connection, run)
            view = await refund_payment(
                connection,
                self.shop.signer,
                refund_id=refund_id,
                payment_id=self.payment_id,
                request=RefundRequest(amount=amount, reason="did not help"),
                created_by="finance",
            )
            opened = await find_run(connection, refund_id)
            for status in (
                ()
                if opened.status is not RunStatus.PENDING
                else (RunStatus.QUEUED, RunStatus.DISPATCHED, RunStatus.RUNNING)
            ):
                await append_events(connection, refund_id, [], status=status)
        return view

    async def attempt(self, refund_id: str) -> RefundState:
        answer = await send_refund(self.shop.store, self.shop.rails, refund_id)
        async with self.shop.store.platform() as connection:
            return await record_refund(connection, self.shop.signer, refund_id, answer)

    async def insist(self, refund_id: str) -> RefundState:
        for _ in range(20):
            state = await self.attempt(refund_id)
            if state.status in ENDED_REFUNDS:
                return state
        raise AssertionError(await self.shop.rows("refunds"))

    def given_back(self) -> list[int]:
        """What the rail itself gave back, in minor units."""
        books = self.line.books
        if isinstance(books, CashfreeBooks):
            return [int(Decimal(each["refund_amount"]) * 100) for each in books.refunds.values()]
        return [each["amount"] for each in books.moves.values() if "payment_intent" in each]

    async def receipts(self) -> list[dict[str, Any]]:
        return [row for row in await self.shop.rows("receipts") if row["refund_id"] is not None]


@pytest.fixture(params=["stripe", "cashfree"])
async def counter(request: pytest.FixtureRequest, store: Database, signer: Signer) -> AsyncIterator[Counter]:
    async with open_line(request.param) as line:
        shop = Shop(store, signer, open_rails(store, [line.rail]), configured=frozenset({line.name}))
        await shop.pays_with(line.name)
        bought = shop.request(PRICE)
        await shop.reserve(bought)
        await shop.authorise(bought.execution_id)
        await shop.mint(bought.execution_id)
        await shop.execute(bought.execution_id)
        outcome = await shop.settle(bought.execution_id)
        assert outcome.payment_id is not None
        yield Counter(shop, line, outcome.payment_id)


async def test_a_refund_books_nothing_before_the_rail_has_answered(counter: Counter) -> None:
    asked = await counter.ask(100)
    assert (asked.status, asked.receipt_id) == (RefundStatus.REQUESTED, None)
    assert (await counter.shop.earned(), counter.given_back()) == (699, [])
    state = await counter.insist(asked.refund_id)
    assert (state.status, counter.given_back()) == (RefundStatus.SETTLED, [100])
    assert (await counter.shop.earned(), len(await counter.receipts())) == (629, 1)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_while_refunding_gives_back_once(counter: Counter, fault: Fault) -> None:
    asked = await counter.ask(100)
    counter.line.server.faults = [fault]
    assert (await counter.insist(asked.refund_id)).status is RefundStatus.SETTLED
    assert counter.given_back() == [100]
    assert (await counter.insist(asked.refund_id)).status is RefundStatus.SETTLED
    assert (counter.given_back(), len(await counter.receipts())) == ([100], 1)
    assert await ledger_faults(counter.shop.store) == []


async def test_partial_refunds_at_once_never_exceed_the_payment_and_end_where_they_began(
    counter: Counter,
) -> None:
    answers = await asyncio.gather(*(counter.ask(300) for _ in range(5)), return_exceptions=True)
    recorded = [each for each in answers if isinstance(each, RefundView)]
    assert len(recorded) == 3
    assert all(isinstance(each, RefundView | RefundTooLargeError) for each in answers)
    states = await asyncio.gather(*(counter.insist(each.refund_id) for each in recorded))
    states.append(await counter.insist((await counter.ask()).refund_id))
    assert {each.status for each in states} == {RefundStatus.SETTLED}, await counter.shop.rows("refunds")
    assert sorted(counter.given_back()) == [99, 300, 300, 300]
    assert await counter.shop.earned() == 0
    async with counter.shop.store.platform() as connection:
        cursor = await connection.execute(
            "SELECT sum(p.amount) AS total FROM ledger_postings p "
            "JOIN ledger_accounts a ON a.id = p.account_id "
            "JOIN ledger_transactions t ON t.id = p.transaction_id WHERE t.tenant_id = %s AND a.kind = %s",
            [counter.shop.tenant_id, AccountKind.RAIL_CLEARING],
        )
        row = await cursor.fetchone()
    assert row is not None
    assert row["total"] == 0
    with pytest.raises(RefundTooLargeError):
        await counter.ask(1)


async def test_a_declined_refund_can_be_made_again(counter: Counter) -> None:
    asked = await counter.ask()
    async with counter.shop.store.platform() as connection:
        declined = Declined(code="expired", message="too late")
        state = await record_refund(connection, counter.shop.signer, asked.refund_id, declined)
    assert state.status is RefundStatus.DECLINED
    assert (await counter.shop.earned(), await counter.receipts()) == (699, [])
    assert (await counter.insist((await counter.ask()).refund_id)).status is RefundStatus.SETTLED


async def test_an_ended_refund_keeps_its_outcome_whatever_comes_late(counter: Counter) -> None:
    asked = await counter.ask(100)
    await counter.insist(asked.refund_id)
    for late in (Declined(code="late"), Unknown(reason="late"), Settled(provider_ref="other", amount=100)):
        async with counter.shop.store.platform() as connection:
            state = await record_refund(connection, counter.shop.signer, asked.refund_id, late)
        assert state.status is RefundStatus.SETTLED
    assert await send_refund(counter.shop.store, counter.shop.rails, asked.refund_id) is None
    with pytest.raises(Exception, match="cannot leave"):
        async with counter.shop.store.platform() as connection:
            await connection.execute(
                "UPDATE refunds SET status = 'requested' WHERE id = %s", [asked.refund_id]
            )


async def test_another_amount_than_was_asked_for_is_not_believed(counter: Counter) -> None:
    asked = await counter.ask(100)
    async with counter.shop.store.platform() as connection:
        answer = Settled(provider_ref="x", amount=99)
        state = await record_refund(connection, counter.shop.signer, asked.refund_id, answer)
    assert (state.status, await counter.shop.earned()) == (RefundStatus.UNKNOWN, 699)


async def test_after_the_keys_lifetime_a_refund_is_only_looked_up(counter: Counter) -> None:
    asked = await counter.ask(100)
    sent = len(counter.line.server.calls)
    async with counter.shop.store.platform() as connection:
        await connection.execute(
            "UPDATE refunds SET first_sent_at = now() - %s WHERE id = %s",
            [counter.line.rail.key_lifetime + timedelta(minutes=1), asked.refund_id],
        )
    assert (await counter.attempt(asked.refund_id)).status is RefundStatus.UNKNOWN
    assert len(counter.line.server.calls) == sent


async def test_the_same_refund_twice_is_one(counter: Counter) -> None:
    refund_id = new_identifier("refund")
    first = await counter.ask(100, refund_id)
    assert (await counter.ask(100, refund_id)).refund_id == first.refund_id
    await asyncio.gather(*(counter.insist(refund_id) for _ in range(3)))
    assert counter.given_back() == [100]
