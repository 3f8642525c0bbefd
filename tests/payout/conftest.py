"""Developers who have earned something, on real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from activities.records.database import Database
from models.settings import Settings
from tests.payout.office import Office


@pytest.fixture(scope="session")
async def store(database: Settings) -> AsyncIterator[Database]:
    async with Database(
        database.database_url.get_secret_value(), database.database_platform_url.get_secret_value()
    ) as opened:
        yield opened


@pytest.fixture
def office(store: Database) -> Office:
    return Office(store)
