"""A payment core on real PostgreSQL, and short ways to arrange purchases in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.rails.registry import open_rails
from activities.records.database import Database
from activities.signing import Signer, generate_key
from models.settings import Settings
from tests.payment.shop import Shop


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory = tmp_path_factory.mktemp("keys")
    generate_key(directory, "key-1")
    return Signer.from_directory(directory)


@pytest.fixture(scope="session")
async def store(database: Settings) -> AsyncIterator[Database]:
    async with Database(
        database.database_url.get_secret_value(), database.database_platform_url.get_secret_value()
    ) as opened:
        yield opened


@pytest.fixture
def shop(store: Database, signer: Signer) -> Shop:
    """A user with a tenant of their own and a developer in another one."""
    return Shop(store, signer, open_rails(store))


@pytest.fixture
def export_path(tmp_path: Path) -> Path:
    return tmp_path / "receipts.jsonl"
