"""Every guard of the schema refuses, and its absence would be noticed: the short form of the mutation run."""

from collections.abc import AsyncIterator

import pytest

from activities.signing import Signer
from models.settings import Settings
from tests.rails.guards import probe, survivors
from tests.rails.mortal import MortalDatabase
from tests.rails.schedule import open_lines, open_world
from tests.rails.world import World


@pytest.fixture
async def world(store: MortalDatabase, signer: Signer) -> AsyncIterator[World]:
    """One row of every kind: settled and refunded, released, still open; paid, failed."""
    async with open_lines(store) as lines:
        world = await open_world(store, signer, lines)
        settled, failed, _ = await world.buy_all(
            [
                ("wallet", 100_000, True, False, True),
                ("wallet", 50, False, False, False),
                ("wallet", 50, False, False, False),
            ]
        )
        await world.settle(settled)
        assert await world.refund(settled, 10)
        await world.release(failed)
        await world.earn(200_000)
        for refused in (True, False):
            period = world.next_period()
            await world.claim(period)
            await world.send(world.payouts[-1], refused=refused)
        yield world


def test_every_guard_of_the_schema_refuses(world: World, database: Settings) -> None:
    assert probe(database.database_owner_url.get_secret_value()) == []


def test_the_absence_of_any_guard_is_noticed(world: World, database: Settings) -> None:
    assert survivors(database.database_owner_url.get_secret_value()) == []
