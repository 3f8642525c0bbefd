import pytest

from tests.histories.definitions import load_definitions


@pytest.fixture(scope="session", autouse=True)
def _definitions() -> None:
    load_definitions()
