"""Outside rails on loopback, and a payment core whose processes may die."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.signing import Signer, generate_key
from models.settings import Settings
from tests.rails.line import Line, open_line
from tests.rails.mortal import MortalDatabase


@pytest.fixture(params=["stripe", "cashfree"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    async with open_line(request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory: Path = tmp_path_factory.mktemp("rail-keys")
    generate_key(directory, "key-1")
    return Signer.from_directory(directory)


@pytest.fixture
async def store(database: Settings) -> AsyncIterator[MortalDatabase]:
    async with MortalDatabase(
        database.database_url.get_secret_value(), database.database_platform_url.get_secret_value()
    ) as opened:
        yield opened
