"""Every guard of the schema refuses, and its absence would be noticed: the short form of the mutation run."""

import pytest

from activities.signing import Signer
from models.settings import Settings
from tests.rails.guards import probe, survivors
from tests.rails.mortal import MortalDatabase
from tests.rails.rows import one_row_of_each


@pytest.fixture
async def filled(store: MortalDatabase, signer: Signer) -> None:
    await one_row_of_each(store, signer)


def test_every_guard_of_the_schema_refuses(filled: None, database: Settings) -> None:
    assert probe(database.database_owner_url.get_secret_value()) == []


def test_the_absence_of_any_guard_is_noticed(filled: None, database: Settings) -> None:
    assert survivors(database.database_owner_url.get_secret_value()) == []
