"""The settle protocol over real PostgreSQL and a hostile outside rail: whatever happens, charged once or not.

The rails' books are the truth. A schedule is random and has a seed: faults on the line, several workers at
once, deaths between the rail's answer and its recording, runs that fail instead. When the faults have
stopped, our records must equal the rail's (research 2.6: invariants 1, 2, 4, 5, 6, 8, 9 and 12).
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from activities.rails.registry import Rails
from activities.records.database import Database
from activities.settlement import send_settlement
from activities.signing import Signer, generate_key
from models.money import split
from models.payment import (
    SPLIT_BASIS_POINTS,
    ReleaseUnknownError,
    SettlementStatus,
    SettlementUnknownError,
)
from models.rail import RailAnswer, RailName, Settled
from models.settings import Settings
from tests.payment.shop import Shop, ledger_faults
from tests.rails.hostile import FAULTS, HostileServer
from tests.rails.line import Line, open_line

SCHEDULES = int(os.environ.get("RAIL_SCHEDULES", "12"))
"""Per rail; a campaign sets ``RAIL_SCHEDULES``."""


class Outside:
    """The outside rail in the wallet's place: reservations hold in the wallet, collecting happens outside."""

    name = RailName.WALLET
    key_lifetime = timedelta(hours=23)

    def __init__(self, line: Line) -> None:
        self._rail = line.rail

    async def capture(self, *, key: str, body: bytes) -> RailAnswer:
        return await self._rail.capture(key=key, body=body)

    async def void(self, *, key: str, reference: str) -> RailAnswer:
        return await self._rail.void(key=key, reference=reference)

    async def look_up(self, reference: str) -> RailAnswer:
        return await self._rail.look_up(reference)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory: Path = tmp_path_factory.mktemp("rail-keys")
    generate_key(directory, "key-1")
    return Signer.from_directory(directory)


@pytest.fixture
async def store(database: Settings) -> AsyncIterator[Database]:
    async with Database(
        database.database_url.get_secret_value(), database.database_platform_url.get_secret_value()
    ) as opened:
        yield opened


async def attempt(shop: Shop, execution_id: str, *, fails: bool) -> None:
    """One try of what the workflow's activity does."""
    try:
        if fails:
            await shop.release(execution_id)
        else:
            await shop.settle(execution_id)
    except (SettlementUnknownError, ReleaseUnknownError):
        return


async def dies_before_recording(shop: Shop) -> None:
    """A worker that got the rail's answer and was gone before it wrote it down."""
    for row in await shop.rows("settlements"):
        await send_settlement(shop.store, shop.rails, row["id"])


async def run_schedule(shop: Shop, line: Line, server: HostileServer, seed: int) -> None:
    """Play one schedule to its quiescence and compare the books."""
    chance = random.Random(seed)
    shop.rails = Rails([Outside(line)])
    amount = chance.choice([1, 3, 99, 5_000, 99_999])
    await shop.fund(amount)
    request = shop.request(amount)
    reservation = await shop.reserve(request)
    assert reservation.hold_id is not None
    line.reference = reservation.hold_id
    assert isinstance(await line.authorise(line.request(amount)), Settled)
    await shop.mint(request.execution_id)
    await shop.execute(request.execution_id)

    fails = chance.random() < 0.25
    server.faults = [chance.choice(FAULTS) for _ in range(chance.randint(0, 4))]
    for _ in range(chance.randint(1, 3)):
        workers = chance.randint(1, 3)
        await asyncio.gather(*(attempt(shop, request.execution_id, fails=fails) for _ in range(workers)))
        if chance.random() < 0.3:
            await dies_before_recording(shop)

    server.faults, line.books.hidden_reads = [], 0
    for _ in range(4):
        await attempt(shop, request.execution_id, fails=fails)
    await compare(shop, line, amount, fails=fails)


async def compare(shop: Shop, line: Line, amount: int, *, fails: bool) -> None:
    """Our books against the rail's."""
    settlements, receipts = await shop.rows("settlements"), await shop.rows("receipts")
    payments = await shop.rows("payments")
    if fails:
        assert (line.captured(), settlements, payments, receipts) == ([], [], [], [])
        [hold] = await shop.rows("payment_holds")
        assert hold["status"] == "released"
    else:
        [settlement] = settlements
        assert settlement["status"] == SettlementStatus.SETTLED
        assert line.captured() == [settlement["amount"]] == [amount]
        [payment], [_] = payments, receipts
        assert payment["amount"] == amount
        assert await shop.earned() == split(amount, SPLIT_BASIS_POINTS)[0]
    assert line.books.holds() == 1
    assert await ledger_faults(shop.store) == []


@pytest.mark.parametrize("rail", ["stripe", "cashfree"])
async def test_no_schedule_of_faults_parts_our_books_from_the_rails(
    store: Database, signer: Signer, rail: str
) -> None:
    for seed in range(SCHEDULES):
        async with open_line(rail) as line:
            try:
                await run_schedule(Shop(store, signer, Rails([])), line, line.server, seed)
            except AssertionError as error:
                raise AssertionError(f"schedule {seed} on {rail}") from error
