"""The store and a publisher, real ones."""

from collections.abc import AsyncIterator

import pytest

from activities.records.database import Database
from activities.streams.publisher import publishing
from models.settings import Settings
from tests.events.log import store_of


@pytest.fixture(scope="session")
async def store(database: Settings) -> AsyncIterator[Database]:
    async with store_of(database) as opened:
        yield opened


@pytest.fixture
async def publisher(store: Database) -> AsyncIterator[None]:
    async with publishing(store):
        yield
