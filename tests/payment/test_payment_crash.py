"""A crash at any arrow of the protocol, then a retry: charged once, or not at all."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest

from activities.purchase import release
from activities.rails.registry import Rails
from activities.rails.wallet import WalletRail
from activities.records.payment import owed_settlements
from activities.settlement import reconcile_settlement, record_outcome, record_settlement, send_settlement
from models.payment import (
    ReleaseRequest,
    ReleaseUnknownError,
    SettlementStatus,
    SettlementUnknownError,
    SettleRequest,
)
from models.rail import Declined, RailAnswer, RailName, Settled, Unknown
from tests.payment.shop import Shop, ledger_faults


class CrashError(Exception):
    """The process ends here."""


class HostileRail:
    """A real wallet rail behind a line that loses requests and answers on demand."""

    name = RailName.WALLET

    def __init__(self, rail: WalletRail, *, faults: list[str]) -> None:
        """Behave badly as ``faults`` say, one per call, then well."""
        self._rail = rail
        self._faults = faults
        self.key_lifetime = timedelta(hours=23)
        self.sent: list[tuple[str, bytes]] = []

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        self.sent.append((key, body))
        return await self._through(self._rail.capture(key=key, body=body))

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        return await self._through(self._rail.void(key=key, reference=reference))

    async def look_up(self, reference: str) -> RailAnswer:
        return await self._rail.look_up(reference)

    async def _through(self, call: Any) -> RailAnswer:
        fault = self._faults.pop(0) if self._faults else "none"
        if fault == "lose request":
            call.close()
            raise TimeoutError
        answer = await call
        if fault == "lose answer":
            raise TimeoutError
        if fault == "say unknown":
            return Unknown(reason="busy")
        return answer


def hostile(shop: Shop, *faults: str) -> HostileRail:
    rail = HostileRail(WalletRail(shop.store), faults=list(faults))
    shop.rails = Rails([rail])
    return rail


@pytest.mark.parametrize("fault", ["lose request", "lose answer", "say unknown"])
async def test_a_lost_call_is_unknown_and_the_retry_charges_once(shop: Shop, fault: str) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    rail = hostile(shop, fault)
    with pytest.raises(SettlementUnknownError):
        await shop.settle(execution_id)
    [row] = await shop.rows("settlements")
    assert row["status"] == "unknown"
    outcome = await shop.settle(execution_id)
    assert outcome.status is SettlementStatus.SETTLED
    assert (await shop.wallet(), await shop.earned()) == (50, 35)
    assert len(set(rail.sent)) == 1
    assert await ledger_faults(shop.store) == []


@pytest.mark.parametrize("fault", ["lose request", "lose answer", "say unknown"])
async def test_a_lost_void_is_asked_again_and_gives_back_once(shop: Shop, fault: str) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    hostile(shop, fault)
    with pytest.raises(ReleaseUnknownError):
        await shop.release(execution_id)
    assert (await shop.release(execution_id)).amount == 50
    assert (await shop.wallet(), await shop.held(), await shop.spent_today()) == (100, 0, 0)


async def test_after_the_keys_lifetime_the_rail_is_only_asked(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    rail = hostile(shop, "lose request")
    with pytest.raises(SettlementUnknownError):
        await shop.settle(execution_id)
    rail.key_lifetime = timedelta(0)
    with pytest.raises(SettlementUnknownError):
        await shop.settle(execution_id)
    assert len(rail.sent) == 1


async def test_a_declined_settlement_charges_nobody_and_has_a_receipt(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    [hold] = await shop.rows("payment_holds")
    # The rail gave the money back on its own, as rails do when a hold grows old.
    await WalletRail(shop.store).void(key="rail", reference=hold["id"])
    outcome = await shop.settle(execution_id)
    assert (outcome.status, outcome.amount, outcome.decline_code) == (
        SettlementStatus.DECLINED,
        0,
        "hold_voided",
    )
    assert outcome.payment_id is None
    assert outcome.receipt_id is not None
    assert await shop.settle(execution_id) == outcome
    assert (await shop.release(execution_id)).released
    assert (await shop.wallet(), await shop.spent_today()) == (100, 0)


async def test_a_late_answer_does_not_change_a_settlement_that_has_ended(shop: Shop) -> None:
    await shop.fund(100)
    outcome = await shop.settle(await shop.executed(50))
    for late in (Unknown(reason="late"), Declined(code="late"), Settled(provider_ref="x", amount=50)):
        async with shop.store.platform() as connection:
            assert await record_outcome(connection, shop.signer, outcome.settlement_id, late) == outcome
    assert await shop.wallet() == 50


async def test_a_rail_that_collected_another_amount_is_not_believed(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    async with shop.store.platform() as connection:
        settlement = await record_settlement(
            connection, shop.signer, SettleRequest(execution_id=execution_id)
        )
        answer = Settled(provider_ref="x", amount=49)
        outcome = await record_outcome(connection, shop.signer, settlement.id, answer)
    assert outcome.status is SettlementStatus.UNKNOWN


async def test_what_was_recorded_is_owed_until_it_is_answered(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    async with shop.store.platform() as connection:
        settlement = await record_settlement(
            connection, shop.signer, SettleRequest(execution_id=execution_id)
        )
    async with shop.store.platform() as connection:
        assert settlement.id in await owed_settlements(connection, older_than_seconds=0, limit=1000)
    outcome = await reconcile_settlement(shop.store, shop.rails, shop.signer, settlement.id)
    assert outcome.status is SettlementStatus.SETTLED
    async with shop.store.platform() as connection:
        assert settlement.id not in await owed_settlements(connection, older_than_seconds=0, limit=1000)


STEPS = ["record", "record uncommitted", "mark sent", "captured", "outcome uncommitted", "outcome"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_between_any_two_steps_is_repaired_by_the_retry(shop: Shop, step: str) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)
    with pytest.raises(CrashError):
        await settle_until(shop, execution_id, step)
    outcome = await shop.settle(execution_id)
    assert outcome.status is SettlementStatus.SETTLED
    assert (await shop.wallet(), await shop.held(), await shop.earned()) == (50, 0, 35)
    assert len(await shop.rows("receipts")) == len(await shop.rows("payments")) == 1
    events = await shop.events(execution_id)
    assert len(events) == len(set(events)) == 6


async def settle_until(shop: Shop, execution_id: str, step: str) -> None:
    request = SettleRequest(execution_id=execution_id)
    async with shop.store.platform() as connection:
        settlement = await record_settlement(connection, shop.signer, request)
        crash_if(step == "record uncommitted")
    crash_if(step == "record")
    rails = Rails([CrashingRail(shop, step)])
    answer = await send_settlement(shop.store, rails, settlement.id)
    crash_if(step in {"mark sent", "captured"})
    async with shop.store.platform() as connection:
        await record_outcome(connection, shop.signer, settlement.id, answer)
        crash_if(step == "outcome uncommitted")
    crash_if(step == "outcome")


def crash_if(condition: bool) -> None:
    if condition:
        raise CrashError


class CrashingRail(WalletRail):
    """Ends the process before anything is sent."""

    def __init__(self, shop: Shop, step: str) -> None:
        super().__init__(shop.store)
        self._step = step

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        if self._step == "mark sent":
            return Unknown(reason="never sent")
        return await super().capture(key=key, body=body)


async def test_a_crash_while_releasing_is_repaired_by_the_retry(shop: Shop) -> None:
    await shop.fund(100)
    execution_id = await shop.executed(50)

    class Dying(WalletRail):
        async def void(self, *, key: str, reference: str) -> RailAnswer:
            await super().void(key=key, reference=reference)
            raise CrashError

    request = ReleaseRequest(execution_id=execution_id, reason="failed")
    with pytest.raises(ReleaseUnknownError):
        await release(shop.store, Rails([Dying(shop.store)]), request)
    assert (await shop.rows("payment_holds"))[0]["status"] == "releasing"
    await shop.release(execution_id)
    assert (await shop.wallet(), await shop.spent_today()) == (100, 0)


async def test_fifty_runs_over_a_bad_line_are_each_charged_once_or_not_at_all(shop: Shop) -> None:
    chance = random.Random(20261121)
    await shop.fund(100_000)
    rail = hostile(shop, *chance.choices(["none", "lose request", "lose answer", "say unknown"], k=200))
    runs = [await shop.executed(7) for _ in range(50)]

    async def drive(number: int, execution_id: str) -> bool:
        for _ in range(30):
            try:
                if number % 5 == 0:
                    await shop.release(execution_id)
                    return False
                await shop.settle(execution_id)
            except (SettlementUnknownError, ReleaseUnknownError):
                continue
            return True
        raise AssertionError("never ended")

    ended: list[bool] = []
    for start in range(0, 50, 10):
        batch = enumerate(runs[start : start + 10], start)
        ended += await asyncio.gather(*(drive(number, run) for number, run in batch))
    paid = ended.count(True)
    assert paid == 40
    assert (await shop.wallet(), await shop.held()) == (100_000 - 7 * paid, 0)
    captured = [row for row in await shop.rows("wallet_holds") if row["status"] == "captured"]
    assert len(captured) == len(await shop.rows("payments")) == len(await shop.rows("receipts")) == paid
    assert len({key for key, _ in rail.sent}) == paid
    assert await ledger_faults(shop.store) == []
